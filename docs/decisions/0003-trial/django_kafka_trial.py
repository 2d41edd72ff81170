"""django-kafka: KAFKA=host:port python django_kafka_trial.py TOPIC GROUP"""

import logging
import sys
import time

import django
from common import CONFIG, MAX_RATE, RetryLater, handle
from django.conf import settings

topic_name, group = sys.argv[1:3]
settings.configure(
    INSTALLED_APPS=["django_kafka"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    USE_TZ=True,
    DJANGO_KAFKA={
        "GLOBAL_CONFIG": {"bootstrap.servers": CONFIG["bootstrap.servers"]},
        "CONSUMER_CONFIG": {**CONFIG, "group.id": group, "enable.auto.offset.store": False},
        "POLLING_FREQUENCY": 0.2,
    },
)
django.setup()

from django_kafka import kafka  # noqa: E402
from django_kafka.consumer import Consumer, Topics  # noqa: E402
from django_kafka.consumer.runner import KafkaConsumeRunner  # noqa: E402
from django_kafka.retry.settings import RetrySettings  # noqa: E402
from django_kafka.topic import TopicConsumer  # noqa: E402


class CouponCreate(TopicConsumer):
    name = topic_name
    retry_settings = RetrySettings(max_retries=-1, delay=1, include=[RetryLater], blocking=True)

    def consume(self, msg):
        handle([(msg.partition(), msg.offset(), msg.value())])  # one message, one transaction
        if MAX_RATE:
            time.sleep(1 / MAX_RATE)


@kafka.consumers()
class CouponConsumer(Consumer):
    topics = Topics(CouponCreate())
    config = {}


if __name__ == "__main__":
    logging.basicConfig(level="INFO", stream=sys.stderr)
    KafkaConsumeRunner(list(kafka.consumers)).start()
