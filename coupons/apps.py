from django.apps import AppConfig


class CouponsConfig(AppConfig):
    name = "coupons"
    verbose_name = "Coupons"

    def ready(self) -> None:
        from coupons import checks  # noqa: F401  registers the system checks
        from coupons.database_wait import limit_waits

        limit_waits()
