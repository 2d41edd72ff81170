from typing import Any

from django.conf import settings

from coupons.errors import OperatorError
from coupons.management.command import CouponCommand
from coupons.messaging import topics


class Command(CouponCommand):
    help = (
        "Create the Kafka topic with the settings that the promise depends on. Changes nothing when the topic exists, "
        "and exits 1 when its settings differ."
    )
    examples = """
  manage.py create_topic
  COUPON_TOPIC_PARTITIONS=24 COUPON_TOPIC_REPLICATION=3 COUPON_TOPIC_MIN_INSYNC_REPLICAS=2 manage.py create_topic
"""

    def run(self, **options: Any) -> None:
        if topics.create_topic():
            self.stdout.write(f"Created topic {settings.TOPIC} with {settings.TOPIC_PARTITIONS} partitions.")
            return
        self.stdout.write(f"Topic {settings.TOPIC} already exists, with {topics.partition_count()} partitions.")
        differing = topics.settings_that_differ()
        if differing:
            texts = [f"{name} is {found}, should be {wanted}" for name, (found, wanted) in differing.items()]
            raise OperatorError(f"Topic {settings.TOPIC}: {'; '.join(texts)}. Change it with Kafka's kafka-configs.")
