from typing import Any

from django.conf import settings

from coupons.errors import OperatorError
from coupons.management.command import CouponCommand
from coupons.messaging import topics


class Command(CouponCommand):
    uses_redis = False
    help = (
        "Create the Kafka topic with the settings that the promise depends on, or give an existing one these settings "
        "and the partitions that it lacks. Takes no partition away, and shortens no retention. Exits 1 when the topic "
        "has too few replicas, which Kafka's kafka-reassign-partitions adds; the command and its file are printed."
    )
    examples = """
  manage.py create_topic
  COUPON_TOPIC_PARTITIONS=24 COUPON_TOPIC_REPLICATION=3 COUPON_TOPIC_MIN_INSYNC_REPLICAS=2 manage.py create_topic
"""

    def run(self, **options: Any) -> None:
        if topics.create_topic():
            self.stdout.write(f"Created topic {settings.TOPIC} with {settings.TOPIC_PARTITIONS} partitions.")
            return
        changes = topics.repair_topic()
        self.stdout.write(f"Topic {settings.TOPIC} already exists, with {topics.partition_count()} partitions.")
        for change in changes:
            self.stdout.write(f"  changed: {change}")
        for name, (found, wanted) in topics.settings_that_differ().items():
            if topics.keeps_more(name, found, wanted):
                self.stdout.write(f"  left: {name} is {found}, more than {wanted}; Kafka's kafka-configs lowers it")
        if (short := topics.what_is_too_small().get("replication factor")) is not None:
            there, least = short
            self.stdout.write(topics.reassignment_plan())
            raise OperatorError(
                f"Topic {settings.TOPIC}: replication factor is {there}, should be {least}. Save the line above as "
                "plan.json, with the numbers of your own brokers, and type "
                f"`kafka-reassign-partitions.sh --bootstrap-server {settings.KAFKA_BOOTSTRAP_SERVERS} "
                "--reassignment-json-file plan.json --execute`. Then repeat this command."
            )
