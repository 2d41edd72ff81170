import gc

from django.apps import AppConfig
from django.conf import settings


class CouponsConfig(AppConfig):
    name = "coupons"
    verbose_name = "Coupons"

    def ready(self) -> None:
        from coupons.checks import configuration, exposure, session, transport  # noqa: F401  registers the system checks
        from coupons.runtime.db_timeouts import limit_waits
        from coupons.runtime.failpoints import reason_against, switch_on

        limit_waits()
        # Refused by check coupons.E006 and by couponsite/wsgi.py; where neither runs it stays off.
        if reason_against(settings.DATABASES["default"]["NAME"]) is None:
            switch_on(settings.FAILPOINTS)
        # Models and settings stay until the process ends. A collection that walks through them finds nothing; those of
        # a start, and the one at the end of a command, would take a quarter of its CPU time.
        gc.freeze()
        gc.enable()  # manage.py and bin/web have switched it off
