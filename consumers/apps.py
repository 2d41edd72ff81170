from django.apps import AppConfig


class ConsumersConfig(AppConfig):
    name = "consumers"
    verbose_name = "Kafka consumers"

    def ready(self) -> None:
        from consumers import coupon_create  # noqa: F401  registers its handler
