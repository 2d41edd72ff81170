"""A topic that has been made is known to the broker that is asked next, or the command says that it is not."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError
from django.conf import LazySettings

from coupons.errors import LogUnavailable
from coupons.messaging import topics
from coupons.per_process import PerProcess


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


def asked_instead(monkeypatch: pytest.MonkeyPatch, broker: LateBroker) -> None:
    monkeypatch.setattr(topics, "administrator", PerProcess(lambda: broker, close=lambda client: None))


def test_a_topic_is_made_when_the_broker_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = LateBroker(unknown_for=2)
    asked_instead(monkeypatch, broker)

    assert topics.create_topic()
    assert broker.asked == 3


def test_a_broker_that_never_learns_of_it_is_an_error_that_names_the_topic(
    monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    settings.KAFKA_REQUEST_TIMEOUT_MS = 50
    asked_instead(monkeypatch, LateBroker(unknown_for=1_000_000))

    with pytest.raises(LogUnavailable, match=f"made topic {settings.TOPIC}"):
        topics.create_topic()
