"""Runs the system checks for web servers; Django runs them for commands alone."""

import logging

from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured

logger = logging.getLogger("coupons.web")


def refuse_bad_settings() -> None:
    """Logs the warnings, and raises ImproperlyConfigured with the first error."""
    for message in run_checks(tags=["coupons"]):
        if message.is_serious():
            raise ImproperlyConfigured(f"{message.id}: {message.msg} {message.hint}")
        logger.warning("web.check id=%s text=%s hint=%s", message.id, message.msg, message.hint)
