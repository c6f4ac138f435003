"""
The services of a Galaxy.
"""

import enum


class Role(str, enum.Enum):
    """What a service does for Galaxy. Services are started in this order, and stopped in the opposite order."""

    HANDLER = "handler"
    CELERY = "celery"
    CELERY_BEAT = "celery-beat"
    TUSD = "tusd"
    GX_IT_PROXY = "gx-it-proxy"
    REPORTS = "reports"
    WEB = "web"
