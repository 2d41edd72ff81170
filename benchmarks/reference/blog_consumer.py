"""The consumer of the well-known design: take a message, save() its row, next; offsets are committed by the clock."""

import os
import signal

import django
from confluent_kafka import Consumer


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.reference.blog_settings"
    django.setup()
    from benchmarks.reference.blog_coupon import BlogCoupon

    group = os.environ["COUPON_CONSUMER_GROUP"]
    servers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group, "auto.offset.reset": "earliest"})
    consumer.subscribe([os.environ["COUPON_TOPIC"]], on_assign=lambda _consumer, _partitions: print("assigned"))
    try:
        while True:
            message = consumer.poll(1.0)
            if message is not None and (user := message.value()) is not None and message.error() is None:
                BlogCoupon(user_id=user.decode()).save()
    except KeyboardInterrupt:
        consumer.close()


if __name__ == "__main__":
    main()
