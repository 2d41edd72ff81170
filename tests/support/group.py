"""What the consumers' group has done, seen from outside."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, TopicPartition
from django.conf import settings

from coupons.messaging.kafka import client_config
from coupons.messaging.topics import partition_count
from faults.crowd import Crowd
from tests.support.process import Process
from tests.support.waiting import hold

# A consumer must come back to Kafka within this, or the group takes its partitions away. Shorter than what tests hold.
MAX_POLL_SEC = 6.0  # longer than a connection and a statement together may take
MAX_POLL_INTERVAL = {"COUPON_KAFKA_CLIENT_CONFIG": f"max.poll.interval.ms={MAX_POLL_SEC * 1000:.0f}"}


def committed() -> dict[int, int]:
    """Partition -> the group's offset in Kafka, 0 where it has none."""
    with _asking_for_offsets() as ask:
        return ask()


@contextmanager
def _asking_for_offsets() -> Iterator[Callable[[], dict[int, int]]]:
    """For whoever asks often: a client of its own for each question costs more than the answer."""
    asking = Consumer(client_config(**{"group.id": settings.CONSUMER_GROUP, "enable.auto.commit": False}))
    partitions = [TopicPartition(settings.TOPIC, number) for number in range(partition_count() or 0)]
    try:
        yield lambda: {each.partition: max(each.offset, 0) for each in asking.committed(partitions, timeout=10)}
    finally:
        asking.close()


def commit(offsets: dict[int, int]) -> None:
    """As anybody can who is in the group, or has Kafka's tools; no member may be active."""
    somebody = Consumer(client_config(**{"group.id": settings.CONSUMER_GROUP, "enable.auto.commit": False}))
    partitions = [TopicPartition(settings.TOPIC, partition, offset) for partition, offset in offsets.items()]
    somebody.commit(offsets=partitions, asynchronous=False)
    somebody.close()


def assert_offsets_stay(crowd: Crowd) -> None:
    """While users are admitted, and for longer than the group waits for a consumer that does not poll."""
    crowd.wait_for_promises("meanwhile", users=30)  # what was committed before is with the broker by then
    with _asking_for_offsets() as ask:
        before = ask()
        hold(MAX_POLL_SEC + 1, lambda: ask() == before, "no offset moves")
        crowd.wait_for_promises("meanwhile", users=30)
        assert ask() == before


def assert_membership_kept(consumer: Process) -> None:
    assert consumer.output.count("consumer.assigned") == 1
    assert "consumer.revoked" not in consumer.output


def assert_admission_went_on(crowd: Crowd) -> None:
    """No answer but promises, and 503 where a busy machine took too long for one."""
    assert set(crowd.answers) <= {(202, ""), (200, ""), (503, "unconfirmed")}, crowd.answers
