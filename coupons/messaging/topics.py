"""The topic as an administrator sees it: made with its settings, looked at, its offsets and what was read."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from django.conf import settings

from coupons.errors import LogUnavailable
from coupons.messaging import read_offsets
from coupons.messaging.kafka import client_config, describe_error
from coupons.runtime.process_local import ProcessLocal

# A partition has no leader for a moment when another broker takes it over, or its topic has just been made (tried:
# three of a hundred new topics on a busy machine, 10 to 30 ms after create_topics() had answered).
LEADER_PENDING = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
# What the client remembers of a partition is not what the broker has, as after a broker lost its log.
STALE_METADATA = (KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.FENCED_LEADER_EPOCH)

Answer = TypeVar("Answer")

administrator = ProcessLocal(lambda: AdminClient(client_config()), close=lambda client: None)


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """Of one partition: where the log begins and ends, and up to where it was read (None: not read yet)."""

    start: int
    end: int
    read: int | None

    @property
    def next_offset(self) -> int:
        """The first message that may not be in PostgreSQL. A log that ends before it is another log by now."""
        return self.start if self.read is None or self.read > self.end else max(self.read, self.start)

    @property
    def lag(self) -> int:
        return max(self.end - self.next_offset, 0)


def topic_settings() -> dict[str, str]:
    """The topic's settings that the promise depends on."""
    return {
        # Never compaction: the key is the user, and a user's tickets of two campaigns are two messages.
        "cleanup.policy": "delete",
        "retention.ms": str(settings.TOPIC_RETENTION_MS),
        "min.insync.replicas": str(settings.TOPIC_MIN_INSYNC_REPLICAS),
        # By the broker's clock. By the producer's, Kafka's default, all messages of a host whose clock is an hour ahead
        # are refused (INVALID_TIMESTAMP), and those of one that is a month behind are soon removed as too old.
        "message.timestamp.type": "LogAppendTime",
    }


def create_topic() -> bool:
    """Make the topic and wait until the broker that is asked knows it; False when it is there already.

    Raises LogUnavailable.
    """
    topic = NewTopic(
        settings.TOPIC,
        num_partitions=settings.TOPIC_PARTITIONS,
        replication_factor=settings.TOPIC_REPLICATION,
        config=topic_settings(),
    )
    client = administrator()  # held until it has answered: another thread may drop it
    try:
        made = client.create_topics([topic], operation_timeout=_timeout_sec(), request_timeout=_timeout_sec())
        made[settings.TOPIC].result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise _unavailable(f"Kafka, create topic {settings.TOPIC}", error.args[0]) from error
    _wait_until_known()
    return True


def _wait_until_known() -> None:
    """The controller answers when the topic is in its log; a broker reads that log a moment later."""
    deadline = time.monotonic() + _timeout_sec()
    while partition_count() is None:
        if time.monotonic() > deadline:
            raise LogUnavailable(
                f"Kafka made topic {settings.TOPIC}, but {settings.KAFKA_BOOTSTRAP_SERVERS} does not know it yet;"
                " `manage.py check --deploy` says when it does."
            )
        time.sleep(0.02)


def partition_count() -> int | None:
    """How many partitions the topic has; None when there is no such topic. Raises LogUnavailable."""
    try:
        topic = administrator().list_topics(settings.TOPIC, timeout=_timeout_sec()).topics[settings.TOPIC]
    except KafkaException as error:
        raise _unavailable(f"Kafka at {settings.KAFKA_BOOTSTRAP_SERVERS}", error.args[0]) from error
    if topic.error is not None:
        if topic.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise _unavailable(f"Kafka, topic {settings.TOPIC}", topic.error)
    return len(topic.partitions)


def topic_id() -> str:
    """Kafka's own id of the topic, which another topic of the same name does not have. Raises LogUnavailable."""
    client = administrator()
    asked = TopicCollection([settings.TOPIC])
    try:
        described = client.describe_topics(asked, request_timeout=_timeout_sec())
        return str(described[settings.TOPIC].result().topic_id)
    except KafkaException as error:
        raise _unavailable(f"Kafka, describe topic {settings.TOPIC}", error.args[0]) from error


def settings_that_differ() -> dict[str, tuple[str, str]]:
    """Of an existing topic: setting -> (what it is, what it should be)."""
    resource = ConfigResource(ResourceType.TOPIC, settings.TOPIC)
    client = administrator()
    try:
        found = client.describe_configs([resource], request_timeout=_timeout_sec())[resource].result()
    except KafkaException as error:
        raise _unavailable(f"Kafka, describe topic {settings.TOPIC}", error.args[0]) from error
    wanted = topic_settings()
    return {name: (found[name].value, value) for name, value in wanted.items() if found[name].value != value}


def partition_lags() -> dict[int, PartitionLag]:
    """Start, end and what was read (read_offsets.py) of every partition. What was read is asked first, then the ends.

    Raises LogUnavailable, also for a topic that does not exist, and database errors.
    """
    read = read_offsets.next_offsets()
    count = _existing_partition_count()
    try:
        return _lags(count, read)
    except LogUnavailable:
        # Of a topic that is deleted meanwhile librdkafka says many things, and none of them what to do.
        _existing_partition_count()
        raise


def partition_holders(group: str) -> dict[int, str]:
    """Partition -> id of the group's member that holds it; those that nobody holds are not in it. Raises
    LogUnavailable, also while the group's coordinator comes up."""
    client = administrator()
    try:
        described = client.describe_consumer_groups([group], request_timeout=_timeout_sec())[group].result()
    except KafkaException as error:
        raise _unavailable(f"Kafka, describe group {group}", error.args[0]) from error
    return {
        partition.partition: member.member_id
        for member in described.members
        for partition in member.assignment.topic_partitions
        if partition.topic == settings.TOPIC
    }


def _existing_partition_count() -> int:
    count = partition_count()
    if count is None:
        raise LogUnavailable(f"Kafka has no topic {settings.TOPIC}; `manage.py create_topic` makes it.")
    return count


def _lags(count: int, read: Mapping[int, int]) -> dict[int, PartitionLag]:
    partitions = [TopicPartition(settings.TOPIC, number) for number in range(count)]
    starts = _offsets(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    ends = _offsets(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    return {n: PartitionLag(starts[n], ends[n], read.get(n)) for n in range(count)}


def _offsets(partitions: list[TopicPartition], spec: OffsetSpec) -> dict[int, int]:
    def ask() -> dict[int, int]:
        request = dict.fromkeys(partitions, spec)
        client = administrator()
        futures = client.list_offsets(request, request_timeout=_timeout_sec())
        return {partition.partition: future.result().offset for partition, future in futures.items()}

    return _retry_while_passing(ask, about=f"offsets of topic {settings.TOPIC}", passing=LEADER_PENDING)


def _retry_while_passing(ask: Callable[[], Answer], *, about: str, passing: Collection[int]) -> Answer:
    """Again and again for as long as one request may take, while the broker gives a reason that passes by itself."""
    deadline = time.monotonic() + _timeout_sec()
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in passing or time.monotonic() > deadline:
                raise _unavailable(f"Kafka, {about}", error.args[0]) from error
        time.sleep(0.1)


def _unavailable(what: str, error: KafkaError) -> LogUnavailable:
    """What to raise. The next call asks with new clients if nobody has answered this one."""
    administrator().poll(0)  # it has no thread that does, and why it is not connected is told there
    if error.code() < 0 or error.code() in STALE_METADATA:  # below 0 are librdkafka's own
        # It may have lost its brokers for good (coupons/messaging/kafka.py), and has no statistics that would tell.
        administrator.forget()
    return LogUnavailable(f"{what}: {describe_error(error)}")


def _timeout_sec() -> float:
    return float(settings.KAFKA_REQUEST_TIMEOUT_MS / 1000)
