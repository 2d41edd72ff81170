"""Administers the topic: creates and repairs it, compares its settings, and reads its offsets and the group's progress.

To ask never makes the topic, also where the broker would (coupons/messaging/kafka.py, `client_config`).
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
    TopicMetadata,
)
from django.conf import settings

from coupons.errors import LogUnavailable
from coupons.messaging import read_offsets
from coupons.messaging.kafka import client_config, describe_error
from coupons.runtime.process_local import ProcessLocal

# A partition has no leader for a moment when another broker takes it over, or when its topic is new.
LEADER_PENDING = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
# The client's cached state of a partition is out of date, as after a broker lost its log.
STALE_METADATA = (KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.FENCED_LEADER_EPOCH)

# Nothing is closed, as other threads may use a client that is dropped: it ends with their last reference.
administrator = ProcessLocal(lambda: AdminClient(client_config()), close=lambda client: None)


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """Where the log of one partition begins and ends, and the offset up to which it was read (None: not yet)."""

    start: int
    end: int
    read: int | None

    @property
    def next_offset(self) -> int:
        """The first message that may not be in PostgreSQL. A log that ends before `read` is another log by now."""
        return self.start if self.read is None or self.read > self.end else max(self.read, self.start)

    @property
    def lag(self) -> int:
        return max(self.end - self.next_offset, 0)


def topic_settings() -> dict[str, str]:
    """Returns the topic's settings that the promise depends on."""
    return {
        # Never compaction: the key is the user, and a user's tickets of two campaigns are two messages.
        "cleanup.policy": "delete",
        "retention.ms": str(settings.TOPIC_RETENTION_MS),
        "min.insync.replicas": str(settings.TOPIC_MIN_INSYNC_REPLICAS),
        # Time-stamps by the broker's clock. By the producer's, Kafka's default, the broker refuses messages of a host
        # whose clock is an hour ahead (INVALID_TIMESTAMP), and soon removes those of one that is a month behind.
        "message.timestamp.type": "LogAppendTime",
    }


def create_topic() -> bool:
    """Creates the topic and waits until the broker knows it. Returns False, and changes nothing, when it exists.

    Raises LogUnavailable.
    """
    topic = NewTopic(
        settings.TOPIC,
        num_partitions=settings.TOPIC_PARTITIONS,
        replication_factor=settings.TOPIC_REPLICATION,
        config=topic_settings(),
    )
    with _asking(f"create topic {settings.TOPIC}") as client:
        made = client.create_topics([topic], operation_timeout=_timeout_sec(), request_timeout=_timeout_sec())
        try:
            made[settings.TOPIC].result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            raise
    _wait_until_known(f"Kafka made topic {settings.TOPIC}")
    return True


def repair_topic() -> list[str]:
    """Gives an existing topic the settings of `topic_settings` and the partitions that it lacks. Returns the changes.

    Leaves what Kafka cannot change at once (`reassignment_plan`), and until then a min.insync.replicas above the number
    of replicas there are, with which no message would be acknowledged. Never makes the topic keep less than it does.
    Raises LogUnavailable.
    """
    changes = []
    differing = {name: values for name, values in settings_that_differ().items() if not keeps_more(name, *values)}
    if _existing_topic_size()["replication factor"] < settings.TOPIC_MIN_INSYNC_REPLICAS:
        differing.pop("min.insync.replicas", None)
    if differing:
        entries = [
            ConfigEntry(name, wanted, incremental_operation=AlterConfigOpType.SET)
            for name, (_, wanted) in differing.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, settings.TOPIC, incremental_configs=entries)
        with _asking(f"change topic {settings.TOPIC}") as client:
            client.incremental_alter_configs([resource], request_timeout=_timeout_sec())[resource].result()
        changes += [f"{name} was {found}, is {wanted}" for name, (found, wanted) in differing.items()]
    if (short := what_is_too_small().get("partitions")) is not None:
        found, wanted = short
        with _asking(f"add partitions to topic {settings.TOPIC}") as client:
            more = NewPartitions(settings.TOPIC, wanted)
            client.create_partitions([more], request_timeout=_timeout_sec())[settings.TOPIC].result()
        _wait_until_known(f"Kafka added partitions to topic {settings.TOPIC}", partitions=wanted)
        changes.append(f"partitions were {found}, are {wanted}")
    return changes


def keeps_more(name: str, found: str, wanted: str) -> bool:
    """Returns whether the topic keeps messages for longer than it should, or on more replicas."""
    if name not in ("retention.ms", "min.insync.replicas"):
        return False
    return int(found) > int(wanted) or int(found) == -1  # a retention of -1: for ever


def _wait_until_known(done: str, *, partitions: int = 1) -> None:
    """The controller answers when a change is in its log; a broker reads that log a moment later."""
    deadline = time.monotonic() + _timeout_sec()
    while (partition_count() or 0) < partitions:
        if time.monotonic() > deadline:
            raise LogUnavailable(
                f"{done}, but {settings.KAFKA_BOOTSTRAP_SERVERS} does not know it yet;"
                " `manage.py check --deploy` says when it does."
            )
        time.sleep(0.02)


def partition_count() -> int | None:
    """Returns the number of partitions, or None when there is no such topic. Raises LogUnavailable."""
    topic = _topic()
    return None if topic is None else len(topic.partitions)


def why_it_takes_no_messages() -> str:
    """Returns what the brokers say against the topic, "" if nothing. Raises LogUnavailable."""
    topic = _topic()
    if topic is None:
        return "topic is missing"
    partitions = topic.partitions.values()
    if leaderless := sum(each.leader < 0 for each in partitions):
        return f"{leaderless} of {len(partitions)} partitions have no leader"
    needed = settings.TOPIC_MIN_INSYNC_REPLICAS
    if below := sum(len(each.isrs) < needed for each in partitions):
        return f"{below} of {len(partitions)} partitions have fewer than {needed} replicas in sync"
    return ""


def what_is_too_small() -> dict[str, tuple[int, int]]:
    """Compares an existing topic's size with the settings: what there is too little of -> (actual, expected number)."""
    wanted = {"partitions": settings.TOPIC_PARTITIONS, "replication factor": settings.TOPIC_REPLICATION}
    found = _existing_topic_size()
    return {name: (found[name], least) for name, least in wanted.items() if found[name] < least}


def reassignment_plan() -> str:
    """Returns the file by which kafka-reassign-partitions gives each partition the replicas that it lacks, in turn over
    the brokers. Its present replicas stay, the leader first."""
    topic = _existing_topic()
    with _asking("list the brokers") as client:
        brokers = sorted(client.list_topics(settings.TOPIC, timeout=_timeout_sec()).brokers)
    partitions = []
    for number, partition in sorted(topic.partitions.items()):
        others = [each for each in brokers[number % len(brokers) :] + brokers if each not in partition.replicas]
        replicas = [*partition.replicas, *dict.fromkeys(others)][: settings.TOPIC_REPLICATION]
        partitions.append({"topic": settings.TOPIC, "partition": number, "replicas": replicas})
    return json.dumps({"version": 1, "partitions": partitions})


def _existing_topic() -> TopicMetadata:
    topic = _topic()
    if topic is None:
        raise _missing()
    return topic


def _existing_topic_size() -> dict[str, int]:
    partitions = _existing_topic().partitions.values()
    # The partition with the fewest replicas counts: they may differ.
    return {"partitions": len(partitions), "replication factor": min(len(each.replicas) for each in partitions)}


def topic_id() -> str:
    """Returns Kafka's id of the topic, which a later topic of the same name does not share. Raises LogUnavailable."""
    with _asking(f"describe topic {settings.TOPIC}") as client:
        described = client.describe_topics(TopicCollection([settings.TOPIC]), request_timeout=_timeout_sec())
        return str(described[settings.TOPIC].result().topic_id)


def settings_that_differ() -> dict[str, tuple[str, str]]:
    """Compares an existing topic with `topic_settings`: setting -> (actual value, expected value)."""
    resource = ConfigResource(ResourceType.TOPIC, settings.TOPIC)
    with _asking(f"describe topic {settings.TOPIC}") as client:
        found = client.describe_configs([resource], request_timeout=_timeout_sec())[resource].result()
    wanted = topic_settings()
    return {name: (found[name].value, value) for name, value in wanted.items() if found[name].value != value}


def partition_lags() -> dict[int, PartitionLag]:
    """Returns start, end and read offset (read_offsets.py) of every partition. Asks for what was read before the ends.

    Raises LogUnavailable, also when the topic does not exist, and database errors.
    """
    read = read_offsets.next_offsets()
    partitions = [TopicPartition(settings.TOPIC, number) for number in range(_existing_partition_count())]
    try:
        starts = log_offsets(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        ends = log_offsets(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    except LogUnavailable:
        # For a topic that is deleted meanwhile, librdkafka reports many errors, and none says what to do.
        _existing_partition_count()
        raise
    return {number: PartitionLag(starts[number], end, read.get(number)) for number, end in ends.items()}


def partition_holders(group: str) -> dict[int, str]:
    """Returns partition -> id of the group's member that holds it, without partitions that have no holder. Raises
    LogUnavailable, also while the group's coordinator starts."""
    with _asking(f"describe group {group}") as client:
        described = client.describe_consumer_groups([group], request_timeout=_timeout_sec())[group].result()
    return {
        partition.partition: member.member_id
        for member in described.members
        for partition in member.assignment.topic_partitions
        if partition.topic == settings.TOPIC
    }


def _topic() -> TopicMetadata | None:
    with _asking(f"topic {settings.TOPIC} at {settings.KAFKA_BOOTSTRAP_SERVERS}") as client:
        topic = client.list_topics(settings.TOPIC, timeout=_timeout_sec()).topics[settings.TOPIC]
        if topic.error is None:
            return topic
        if topic.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise KafkaException(topic.error)


def _existing_partition_count() -> int:
    count = partition_count()
    if count is None:
        raise _missing()
    return count


def _missing() -> LogUnavailable:
    return LogUnavailable(f"Kafka has no topic {settings.TOPIC}; `manage.py create_topic` makes it.")


def log_offsets(partitions: list[TopicPartition], spec: OffsetSpec) -> dict[int, int]:
    """Asks again while a partition has no leader, or one that hangs, for the time of one request."""
    deadline = time.monotonic() + _timeout_sec()
    while True:
        with _asking(f"offsets of topic {settings.TOPIC}") as client:
            futures = client.list_offsets(dict.fromkeys(partitions, spec), request_timeout=_timeout_sec())
            try:
                found = {partition.partition: future.result().offset for partition, future in futures.items()}
            except KafkaException as error:
                if error.args[0].code() not in LEADER_PENDING or time.monotonic() > deadline:
                    raise
            else:
                if all(offset >= 0 for offset in found.values()):
                    return found
                # -1001 and no error: the partition's leader has not answered. Taken for an end, the log would be cut.
                if time.monotonic() > deadline:
                    raise LogUnavailable(f"Kafka, offsets of topic {settings.TOPIC}: a leader does not answer.")
        time.sleep(0.1)


@contextmanager
def _asking(about: str) -> Iterator[AdminClient]:
    """Yields the administrator, and keeps it alive, as another thread may drop it. Raises LogUnavailable.

    The next request makes a new client if no broker answered this one.
    """
    client = administrator()
    try:
        yield client
    except KafkaException as raised:
        error: KafkaError = raised.args[0]
        client.poll(0)  # no thread polls it, and poll() logs why a connection failed
        if error.code() < 0 or error.code() in STALE_METADATA:  # codes below 0 are librdkafka's own
            # It may have lost its brokers for good (coupons/messaging/kafka.py), and has no statistics to show it.
            administrator.reset()
        raise LogUnavailable(f"Kafka, {about}: {describe_error(error)}") from raised


def _timeout_sec() -> float:
    return float(settings.KAFKA_REQUEST_TIMEOUT_MS / 1000)
