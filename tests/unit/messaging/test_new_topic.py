"""A topic that has been made is known to the broker that is asked next, or the command says that it is not; so are the
leaders of its partitions."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from django.conf import LazySettings

from coupons.errors import LogUnavailable
from coupons.messaging import topics
from coupons.messaging.topics import PartitionLag
from coupons.runtime.process_local import ProcessLocal


class LateBroker:
    """Makes every topic at once and knows it only when it was asked `unknown_for` times."""

    def __init__(self, unknown_for: int) -> None:
        self.unknown_for = unknown_for
        self.asked = 0

    def create_topics(self, new: list[Any], **timeouts: float) -> dict[str, Future[None]]:
        done: Future[None] = Future()
        done.set_result(None)
        return {topic.topic: done for topic in new}

    def list_topics(self, name: str, timeout: float) -> SimpleNamespace:
        self.asked += 1
        unknown = self.asked <= self.unknown_for
        error = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART) if unknown else None
        topic = SimpleNamespace(error=error, partitions={} if unknown else {0: object()})
        return SimpleNamespace(topics={name: topic})

    def poll(self, timeout: float) -> int:
        return 0


class LateLeaders(LateBroker):
    """Knows the topic's two partitions, and their leaders only when it was asked for offsets `unknown_for` times."""

    def __init__(self, unknown_for: int, reason: int = KafkaError.NOT_LEADER_FOR_PARTITION) -> None:
        super().__init__(unknown_for)
        self.reason = reason

    def list_topics(self, name: str, timeout: float) -> SimpleNamespace:
        topic = SimpleNamespace(error=None, partitions={0: object(), 1: object()})
        return SimpleNamespace(topics={name: topic})

    def list_offsets(self, request: dict[TopicPartition, Any], **timeouts: float) -> dict[TopicPartition, Future[Any]]:
        self.asked += 1
        answers: dict[TopicPartition, Future[Any]] = {partition: Future() for partition in request}
        for future in answers.values():
            if self.asked <= self.unknown_for:
                future.set_exception(KafkaException(KafkaError(self.reason)))
            else:
                future.set_result(SimpleNamespace(offset=7))
        return answers


def asked_instead(monkeypatch: pytest.MonkeyPatch, broker: LateBroker) -> None:
    monkeypatch.setattr(topics, "administrator", ProcessLocal(lambda: broker, close=lambda client: None))


def test_a_topic_is_made_when_the_broker_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = LateBroker(unknown_for=2)
    asked_instead(monkeypatch, broker)

    assert topics.create_topic()
    assert broker.asked == 3


def test_a_broker_without_the_topic_is_an_error(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> None:
    settings.KAFKA_REQUEST_TIMEOUT_MS = 50
    asked_instead(monkeypatch, LateBroker(unknown_for=1_000_000))

    with pytest.raises(LogUnavailable, match=f"made topic {settings.TOPIC}"):
        topics.create_topic()


@pytest.fixture
def nothing_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """As PostgreSQL would say; it is not asked here."""
    monkeypatch.setattr("coupons.messaging.read_offsets.next_offsets", dict)


@pytest.mark.usefixtures("nothing_was_read")
@pytest.mark.parametrize("reason", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE])
def test_partitions_that_have_no_leader_yet_are_asked_again(monkeypatch: pytest.MonkeyPatch, reason: int) -> None:
    broker = LateLeaders(unknown_for=2, reason=reason)
    asked_instead(monkeypatch, broker)

    assert topics.partition_lags() == dict.fromkeys((0, 1), PartitionLag(start=7, end=7, read=None))
    assert broker.asked == 4, "three times for the starts, once for the ends"


@pytest.mark.usefixtures("nothing_was_read")
def test_a_missing_leader_is_an_error(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> None:
    settings.KAFKA_REQUEST_TIMEOUT_MS = 150
    asked_instead(monkeypatch, LateLeaders(unknown_for=1_000_000))

    with pytest.raises(LogUnavailable, match=f"offsets of topic {settings.TOPIC}: .*Not leader"):
        topics.partition_lags()


@pytest.mark.usefixtures("nothing_was_read")
def test_what_does_not_pass_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = LateLeaders(unknown_for=1, reason=KafkaError.TOPIC_AUTHORIZATION_FAILED)
    asked_instead(monkeypatch, broker)

    with pytest.raises(LogUnavailable, match="authorization"):
        topics.partition_lags()
    assert broker.asked == 1


@pytest.mark.usefixtures("nothing_was_read")
@pytest.mark.parametrize(
    ("reason", "clients"),
    [
        pytest.param(KafkaError._TRANSPORT, 2, id="nobody answered: it may have lost its brokers"),
        pytest.param(KafkaError.TOPIC_AUTHORIZATION_FAILED, 1, id="a broker did"),
    ],
)
def test_a_client_that_nobody_answered_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, reason: int, clients: int
) -> None:
    made: list[LateLeaders] = []

    def make() -> LateLeaders:
        made.append(LateLeaders(unknown_for=1, reason=reason))
        return made[-1]

    monkeypatch.setattr(topics, "administrator", ProcessLocal(make, close=lambda client: None))

    with pytest.raises(LogUnavailable):
        topics.partition_lags()

    assert len(made) == clients, "it has asked once more, whether the topic is still there"
