"""A producer that librdkafka has given up, or that has lost its brokers, is noticed wherever it says so, and replaced
once; the others go on."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError, KafkaException

from coupons.errors import LogUnavailable
from coupons.messaging import producer
from coupons.messaging.messages import Ticket
from tests.support.waiting import wait_until

TICKET = Ticket(uuid4(), "42", 1, datetime(2026, 12, 1, tzinfo=UTC), "test")
# As confluent-kafka 2.16.1 makes it of the client's own fatal error: its code says so, fatal() does not.
FATAL = KafkaError(KafkaError._FATAL, "test")
PASSING = KafkaError(KafkaError._TRANSPORT, "test")


class FakeProducer:
    """Raises, or reports, what a test puts into it; the class is where the tests find the last one."""

    made: list["FakeProducer"] = []

    def __init__(self, config: dict[str, Any]) -> None:
        self.statistics: Callable[[str], None] = config["stats_cb"]
        self.raised_by_poll: list[KafkaError] = []
        self.raised_by_produce: KafkaError | None = None
        self.report: KafkaError | None = None
        self.polls = 0
        FakeProducer.made.append(self)

    def poll(self, timeout: float) -> int:
        self.polls += 1
        if self.raised_by_poll:
            raise KafkaException(self.raised_by_poll.pop())
        return 1

    def produce(self, *args: object, on_delivery: Callable[[KafkaError | None, object], None], **more: object) -> None:
        if self.raised_by_produce is not None:
            raise KafkaException(self.raised_by_produce)
        if self.report is not None:
            on_delivery(self.report, None)

    def flush(self, timeout: float) -> int:
        return 0


@pytest.fixture(autouse=True)
def fake_producers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    producer.publishers.reset()  # of a test before
    monkeypatch.setattr(producer, "Producer", FakeProducer)
    FakeProducer.made = []
    yield
    producer.publishers.reset()


def raised_by_poll(client: FakeProducer, error: KafkaError) -> None:
    client.raised_by_poll = [error]


def raised_by_produce(client: FakeProducer, error: KafkaError) -> None:
    client.raised_by_produce = error
    with pytest.raises(LogUnavailable):
        producer.publisher().publish(TICKET).result(5)


def reported(client: FakeProducer, error: KafkaError) -> None:
    client.report = error
    with pytest.raises(LogUnavailable):
        producer.publisher().publish(TICKET).result(5)


@pytest.mark.parametrize("said", [raised_by_poll, raised_by_produce, reported])
def test_a_fatal_error_replaces_the_producer(said: Callable[[FakeProducer, KafkaError], None]) -> None:
    first = producer.publisher()
    said(FakeProducer.made[0], FATAL)

    wait_until(lambda: first.is_broken)
    with ThreadPoolExecutor(16) as pool:
        others = set(pool.map(lambda _: producer.publisher(), range(64)))

    assert len(others) == 1
    assert first not in others
    assert len(FakeProducer.made) == 2, "and it is made once among all who ask"


@pytest.mark.parametrize("said", [raised_by_poll, raised_by_produce, reported])
def test_an_error_that_passes_replaces_nothing(said: Callable[[FakeProducer, KafkaError], None]) -> None:
    first = producer.publisher()
    client = FakeProducer.made[0]
    said(client, PASSING)
    polls = client.polls
    wait_until(lambda: client.polls > polls + 2, what="the thread that polls goes on")

    assert producer.publisher() is first


def test_a_producer_that_lost_its_brokers_is_replaced() -> None:
    first = producer.publisher()
    client = FakeProducer.made[0]
    client.statistics(json.dumps({"ts": 1_000_000, "brokers": {}}))
    assert producer.publisher() is first, "that may be the moment in which it begins anew"

    client.statistics(json.dumps({"ts": 3_000_000, "brokers": {}}))
    wait_until(lambda: first.is_broken)

    assert producer.publisher() is not first
    assert len(FakeProducer.made) == 2


def test_unreadable_statistics_do_not_end_the_polling_thread() -> None:
    producer.publisher()
    client = FakeProducer.made[0]
    for document in ("no JSON", "[]", '{"topics": {"t": {}}}'):
        client.statistics(document)
        reported(client, PASSING)

    polls = client.polls
    wait_until(lambda: client.polls > polls + 2)


def test_refusals_are_logged_at_a_bounded_rate(caplog: pytest.LogCaptureFixture) -> None:
    producer.publisher()
    client = FakeProducer.made[0]

    with caplog.at_level("WARNING", logger=producer.__name__):
        for _ in range(3):
            reported(client, PASSING)

    (said,) = [record.getMessage() for record in caplog.records if "producer.refused" in record.message]
    assert said.startswith("producer.refused count=1 error=")
