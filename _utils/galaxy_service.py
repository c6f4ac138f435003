"""
The services of a Galaxy.
"""

import enum


class Role(str, enum.Enum):
    """What a service does for Galaxy."""

    WEB = "web"
    REPORTS = "reports"
    CELERY = "celery"
    CELERY_BEAT = "celery-beat"
    HANDLER = "handler"
    TUSD = "tusd"
    GX_IT_PROXY = "gx-it-proxy"
