"""
The services of a Galaxy.
"""

import enum


class Role(str, enum.Enum):
    """What a service does for Galaxy; services are started in this order, and stopped the other way round."""

    HANDLER = "handler"
    CELERY = "celery"
    CELERY_BEAT = "celery-beat"
    TUSD = "tusd"
    GX_IT_PROXY = "gx-it-proxy"
    REPORTS = "reports"
    WEB = "web"
