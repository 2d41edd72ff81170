"""Where the worker begins to read, and how it goes back, with a handler that keeps its own record of what was read."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError

from consumers.registry import Handled, Handler, Received
from consumers.worker import Worker
from coupons.errors import MessagesSkipped, RetryLater
from coupons.messaging.kafka import ClientStatistics
from tests.support.clocks import Clock, SteppedEvent
from tests.support.fake_consumer import TOPIC, BatchEnd, FakeConsumer, Step, assign, record, revoke


class Bench:
    """A worker whose handler says `start_at`, and answers batches in turn with what is in `answers`."""

    def __init__(
        self, *plan: Step, committed: Mapping[int, int], begins: Sequence[Mapping[int, int] | Exception]
    ) -> None:
        self.clock = Clock()
        self.stop = SteppedEvent(self.clock)
        self.consumer = FakeConsumer(*plan, clock=self.clock, stop=self.stop)
        self.consumer.group_offsets = dict(committed)
        self.asked: list[Mapping[int, int | None]] = []
        self.begins = deque(begins)
        self.answers: deque[Exception] = deque()
        self.batches: list[list[tuple[int, int]]] = []
        self.worker = Worker(
            consumer=cast("Consumer", self.consumer),
            statistics=ClientStatistics(),
            handler=Handler(TOPIC, "group", self.handle, self.start_at),
            stop=self.stop,
            batch_size=100,
            max_rate=0,
            poison_limit=1_000,
            clock=self.clock,
        )

    def start_at(self, committed: Mapping[int, int | None]) -> Mapping[int, int]:
        self.asked.append(committed)
        answer = self.begins.popleft() if self.begins else {}
        if isinstance(answer, Exception):
            raise answer
        return answer

    def handle(self, messages: Sequence[Received]) -> Handled:
        self.batches.append([(message.partition, message.offset) for message in messages])
        self.consumer.journal.append(f"handle {len(messages)}")
        if self.answers:
            raise self.answers.popleft()
        return Handled(done=len(messages))

    def run(self) -> list[str]:
        self.worker.run()
        return self.consumer.journal


def later(consumer: FakeConsumer) -> None:
    consumer.clock.advance(2)


def test_it_handles_nothing_before_it_knows_where_to_begin() -> None:
    bench = Bench(assign(0, 1), record(3), committed={0: 5}, begins=[{0: 3}])

    assert bench.run() == ["seek 0 to 3", "handle 1", "commit {0: 4}", "close"]
    assert bench.asked == [{0: 5, 1: None}]


def test_an_agreeing_record_begins_at_the_group_offset() -> None:
    bench = Bench(assign(0), record(5), committed={0: 5}, begins=[{}])

    assert bench.run() == ["handle 1", "commit {0: 6}", "close"]


@pytest.mark.parametrize("down", [RetryLater("down"), None], ids=["the record", "the seek"])
def test_what_cannot_be_told_at_once_is_asked_again(down: Exception | None) -> None:
    bench = Bench(assign(0), BatchEnd(), later, record(3), committed={0: 5}, begins=[down or {0: 3}, {0: 3}])
    if down is None:
        bench.consumer.seek_errors.append(KafkaError(KafkaError._STATE))

    assert "seek 0 to 3" in bench.run()
    assert len(bench.asked) == 2


def test_a_partition_revoked_before_beginning_is_dropped() -> None:
    bench = Bench(assign(0, 1), revoke(1), later, record(0), committed={}, begins=[RetryLater("down"), {}])
    bench.run()

    assert bench.asked == [{0: None, 1: None}, {0: None}]


def test_a_batch_beyond_the_record_is_read_again() -> None:
    plan: list[Step] = [assign(0, 1), record(7), record(4, partition=1), BatchEnd(), record(2), record(4, partition=1)]
    bench = Bench(*plan, committed={}, begins=[{}])
    bench.answers.append(MessagesSkipped("0@7, read up to 2", next_offsets={0: 2}))

    journal = bench.run()

    assert journal == ["handle 2", "seek 0 to 2", "seek 1 to 4", "handle 2", "commit {0: 3, 1: 5}", "close"]


def test_a_kept_batch_beyond_the_record_is_read_again() -> None:
    bench = Bench(assign(0), record(7), BatchEnd(), record(2), committed={}, begins=[{}])
    bench.answers += [RetryLater("down"), MessagesSkipped("0@7, read up to 2", next_offsets={0: 2})]

    journal = bench.run()

    assert journal == [
        "handle 1",
        "pause [0]",
        "handle 1",
        "seek 0 to 2",
        "resume [0]",
        "handle 1",
        "commit {0: 3}",
        "close",
    ]
