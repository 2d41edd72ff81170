"""The worker's loop, step by step, without a broker."""

import json
import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException
from django.db import OperationalError

from consumers.registry import Handled, Handler, Received
from consumers.watch import ConsumerSilent
from consumers.worker import PoisonFlood, Worker
from coupons.errors import RetryLater
from coupons.messaging.kafka import BrokersLost, ClientStatistics
from tests.support.clocks import Clock, SteppedEvent
from tests.support.fake_consumer import (
    TOPIC,
    BatchEnd,
    FakeConsumer,
    FakeWatch,
    Step,
    assign,
    error_message,
    record,
    revoke,
)

DOWN = RetryLater("Redis is down")


class Recorder:
    """A handler that keeps the offsets of each batch; `answers` are its outcomes in turn, then all is well."""

    def __init__(self, *answers: Handled | Exception) -> None:
        self.batches: list[list[tuple[int, int]]] = []
        self.times: list[float] = []
        self._answers = deque(answers)
        self.bench: Bench | None = None

    def __call__(self, messages: Sequence[Received]) -> Handled:
        assert self.bench is not None
        self.batches.append([(message.partition, message.offset) for message in messages])
        self.times.append(self.bench.clock())
        self.bench.consumer.journal.append(f"handle {len(messages)}")
        answer = self._answers.popleft() if self._answers else Handled(done=len(messages))
        if isinstance(answer, Exception):
            raise answer
        return answer


class Bench:
    """A worker with its fake consumer, run to the end of the plan."""

    def __init__(self, *plan: Step, handler: Recorder | None = None, **options: Any) -> None:
        self.clock = Clock()
        self.stop = SteppedEvent(self.clock)
        self.consumer = FakeConsumer(*plan, clock=self.clock, stop=self.stop)
        self.statistics = ClientStatistics()
        self.handler = handler or Recorder()
        self.handler.bench = self
        settings: dict[str, Any] = {"batch_size": 100, "max_rate": 0, "poison_limit": 1_000} | options
        self.worker = Worker(
            consumer=cast("Consumer", self.consumer),
            statistics=self.statistics,
            handler=Handler(TOPIC, "group", self.handler),
            stop=self.stop,
            clock=self.clock,
            **settings,
        )

    def run(self) -> "Bench":
        self.worker.run()
        return self


def test_the_offset_is_committed_only_after_the_handler_returned() -> None:
    bench = Bench(assign(0), record(0), record(1)).run()

    assert bench.consumer.journal == ["handle 2", "commit {0: 2}", "close"]


def test_each_partition_offset_follows_its_last_message() -> None:
    bench = Bench(assign(0, 1), record(7), record(3, partition=1), record(8), record(4, partition=1)).run()

    assert bench.consumer.commits == [{0: 9, 1: 5}]


def test_a_batch_has_at_most_batch_size_messages() -> None:
    bench = Bench(assign(0), *(record(offset) for offset in range(5)), batch_size=2).run()

    assert [len(batch) for batch in bench.handler.batches] == [2, 2, 1]


def test_batch_size_one_gives_one_message_at_a_time() -> None:
    bench = Bench(assign(0), record(0), record(1), batch_size=1).run()

    assert bench.handler.batches == [[(0, 0)], [(0, 1)]]


@pytest.mark.parametrize("down", [DOWN, OperationalError("server closed the connection")])
def test_an_outage_retries_the_batch_and_then_commits(down: Exception) -> None:
    handler = Recorder(down, down)
    bench = Bench(assign(0), record(0), record(1), BatchEnd(), record(2), handler=handler).run()

    assert handler.batches == [[(0, 0), (0, 1)], [(0, 0), (0, 1)], [(0, 0), (0, 1)], [(0, 2)]]
    assert bench.consumer.commits == [{0: 2}, {0: 3}]


def test_an_outage_pauses_and_resumes_partitions_once() -> None:
    bench = Bench(assign(0, 1), record(0), handler=Recorder(DOWN, DOWN)).run()

    assert bench.consumer.journal == [
        "handle 1",
        "pause [0, 1]",
        "handle 1",
        "handle 1",
        "commit {0: 1}",
        "resume [0, 1]",
        "close",
    ]


def test_polling_goes_on_during_an_outage() -> None:
    handler = Recorder(*[DOWN] * 8)
    bench = Bench(assign(0), record(0), handler=handler).run()

    waited = [later - earlier for earlier, later in zip(handler.times, handler.times[1:], strict=False)]
    assert max(waited) > 2, "the delays grow"
    assert bench.consumer.polls > 2 * len(handler.times), "a long delay is several polls"


def test_the_delays_begin_anew_after_a_success() -> None:
    handler = Recorder(*[DOWN] * 6, Handled(done=1), DOWN)
    Bench(assign(0), record(0), BatchEnd(), record(1), handler=handler).run()

    assert handler.times[-1] - handler.times[-2] <= 0.2


def test_a_message_of_a_just_revoked_partition_is_dropped() -> None:
    bench = Bench(assign(0, 1), record(0), record(5, partition=1), revoke(1), record(1)).run()

    assert bench.handler.batches == [[(0, 0), (0, 1)]]
    assert bench.consumer.commits == [{0: 2}]


def test_a_kept_batch_drops_revoked_partitions() -> None:
    handler = Recorder(DOWN)
    plan: list[Step] = [assign(0, 1), record(0), record(5, partition=1), BatchEnd(), revoke(1)]
    bench = Bench(*plan, handler=handler).run()

    assert handler.batches == [[(0, 0), (1, 5)], [(0, 0)]]
    assert bench.consumer.commits == [{0: 1}]


def test_a_fully_revoked_batch_lets_the_worker_go_on() -> None:
    handler = Recorder(DOWN)
    plan: list[Step] = [assign(0, 1), record(5, partition=1), BatchEnd(), revoke(1), record(0)]
    bench = Bench(*plan, handler=handler).run()

    assert handler.batches == [[(1, 5)], [(0, 0)]]
    assert bench.consumer.commits == [{0: 1}]
    assert bench.consumer.paused & bench.consumer.assigned == set()


def test_partitions_lost_while_paused_are_read_again() -> None:
    plan: list[Step] = [
        assign(0, 1),
        record(5),
        BatchEnd(),
        revoke(0, 1),
        assign(0, 1),
        record(5),
        record(2, partition=1),
    ]
    bench = Bench(*plan, handler=Recorder(DOWN)).run()

    assert bench.handler.batches == [[(0, 5)], [(0, 5), (1, 2)]]
    assert bench.consumer.commits == [{0: 6, 1: 3}]


def test_a_partition_assigned_during_an_outage_is_paused_too() -> None:
    plan: list[Step] = [assign(0), record(0), BatchEnd(), assign(1), record(9, partition=1)]
    bench = Bench(*plan, handler=Recorder(DOWN)).run()

    assert "pause [1]" in bench.consumer.journal
    assert "resume [0, 1]" in bench.consumer.journal
    assert bench.consumer.commits == [{0: 1}, {1: 10}]


@pytest.mark.parametrize(
    "code", [KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError._STATE, KafkaError._NO_OFFSET]
)
def test_a_commit_that_came_after_a_rebalance_is_let_be(code: int) -> None:
    bench = Bench(assign(0), record(0), BatchEnd(), record(1))
    bench.consumer.commit_errors.append(KafkaError(code))

    bench.run()

    assert bench.consumer.commits == [{0: 2}]


def later(consumer: FakeConsumer) -> None:
    consumer.clock.now += 11


def lose_commits(consumer: FakeConsumer) -> None:
    consumer.group_offsets.clear()


def test_an_idle_worker_repeats_a_lost_commit() -> None:
    """A broker that hung may have lost it, and where no more messages come no later commit makes up for it."""
    bench = Bench(assign(0), record(0), BatchEnd(), lose_commits, later, later)

    bench.run()

    assert bench.consumer.commits == [{0: 1}, {0: 1}]


def test_one_that_the_broker_has_is_not_repeated() -> None:
    bench = Bench(assign(0), record(0), BatchEnd(), later, later)

    bench.run()

    assert bench.consumer.commits == [{0: 1}]


def test_a_fatal_commit_error_ends_the_worker() -> None:
    bench = Bench(assign(0), record(0))
    bench.consumer.commit_errors.append(KafkaError(KafkaError.UNKNOWN_MEMBER_ID, "fenced", True))

    with pytest.raises(KafkaException):
        bench.run()

    assert bench.consumer.closed


@pytest.mark.parametrize("code", [KafkaError._FATAL, KafkaError.TOPIC_AUTHORIZATION_FAILED])
def test_a_fatal_client_error_ends_the_worker(code: int) -> None:
    bench = Bench(assign(0), error_message(code))

    with pytest.raises(KafkaException):
        bench.run()

    assert bench.consumer.closed


def test_a_fatal_error_during_an_outage_ends_the_worker() -> None:
    bench = Bench(assign(0), record(0), BatchEnd(), error_message(KafkaError._FATAL), handler=Recorder(DOWN))

    with pytest.raises(KafkaException):
        bench.run()


def test_an_error_that_passes_is_logged_and_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    plan: list[Step] = [assign(0), error_message(KafkaError._ALL_BROKERS_DOWN), record(0)]
    with caplog.at_level(logging.WARNING, "consumers"):
        bench = Bench(*plan).run()

    assert "consumer.kafka_error" in caplog.text
    assert bench.consumer.commits == [{0: 1}]


def test_a_handler_defect_ends_the_worker_without_commit() -> None:
    bench = Bench(assign(0), record(0), handler=Recorder(ZeroDivisionError()))

    with pytest.raises(ZeroDivisionError):
        bench.run()

    assert bench.consumer.commits == []
    assert bench.consumer.closed


def test_a_flood_of_bad_messages_ends_the_worker() -> None:
    handler = Recorder(*[Handled(done=0, failed=2)] * 3)
    bench = Bench(assign(0), *(record(offset) for offset in range(6)), handler=handler, batch_size=2, poison_limit=5)

    with pytest.raises(PoisonFlood, match="6 more messages of topic t"):
        bench.run()

    assert bench.consumer.commits[-1] == {0: 6}, "what was recorded is not recorded again"


@pytest.mark.parametrize("good", [Handled(done=2), Handled(done=0, duplicates=2)])
def test_as_many_good_messages_as_bad_ones_are_no_flood(good: Handled) -> None:
    handler = Recorder(Handled(done=0, failed=2), good, Handled(done=0, failed=2), good)
    plan: list[Step] = [assign(0), *(record(offset) for offset in range(8))]
    bench = Bench(*plan, handler=handler, batch_size=2, poison_limit=3).run()

    assert len(bench.handler.batches) == 4


@pytest.mark.parametrize("mixed", [Handled(done=1, failed=3), Handled(done=0, duplicates=1, failed=3)])
def test_a_few_good_messages_do_not_hide_a_flood(mixed: Handled) -> None:
    plan: list[Step] = [assign(0), *(record(offset) for offset in range(16))]
    bench = Bench(*plan, handler=Recorder(*[mixed] * 4), batch_size=4, poison_limit=5)

    with pytest.raises(PoisonFlood):
        bench.run()

    assert len(bench.handler.batches) == 3, "2, 4 and 6 more than were written"


def test_good_messages_give_no_credit_for_later_bad_ones() -> None:
    handler = Recorder(Handled(done=2), Handled(done=2), Handled(done=0, failed=2), Handled(done=0, failed=2))
    plan: list[Step] = [assign(0), *(record(offset) for offset in range(8))]
    bench = Bench(*plan, handler=handler, batch_size=2, poison_limit=3)

    with pytest.raises(PoisonFlood, match="4 more messages"):
        bench.run()


def test_max_rate_holds_back_what_would_exceed_it() -> None:
    bench = Bench(assign(0), *(record(offset) for offset in range(50)), max_rate=10).run()

    started, ended = bench.handler.times[0], bench.handler.times[-1]
    assert sum(len(batch) for batch in bench.handler.batches) == 50
    assert ended - started >= 50 / 10 - 2
    assert "pause [0]" not in bench.consumer.journal, "a pause would throw away what was fetched ahead"


def test_progress_is_logged_with_rows_lag_and_last_offset(caplog: pytest.LogCaptureFixture) -> None:
    plan: list[Step] = [assign(0), *(record(offset) for offset in range(30))]
    with caplog.at_level(logging.INFO, "consumers"):
        Bench(*plan, max_rate=3).run()

    lines = [line for line in caplog.messages if line.startswith("consumer.progress")]
    assert lines
    assert "lag=15" in lines[-1]
    assert "last=t[0]@" in lines[-1]


def test_a_stop_finishes_the_batch_in_hand_only() -> None:
    class StopsDuring(Recorder):
        def __call__(self, messages: Sequence[Received]) -> Handled:
            assert self.bench is not None
            self.bench.stop.set()
            return super().__call__(messages)

    bench = Bench(assign(0), record(0), BatchEnd(), record(1), handler=StopsDuring()).run()

    assert bench.consumer.journal == ["handle 1", "commit {0: 1}", "close"]


def test_an_error_of_the_goodbye_ends_the_worker() -> None:
    """librdkafka runs callbacks in it, and what they raise comes out of it."""
    bench = Bench(assign(0), record(0))

    def fail() -> None:
        raise KafkaException(KafkaError(KafkaError._FATAL))

    bench.consumer.on_close = fail
    with pytest.raises(KafkaException):
        bench.run()

    assert bench.worker.has_left


def test_a_worker_stops_although_its_broker_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.worker.LEAVE_TIMEOUT_SEC", 0.05)
    answered = threading.Event()
    bench = Bench(assign(0), record(0))
    bench.consumer.on_close = lambda: answered.wait(20)

    bench.run()

    assert not bench.worker.has_left
    answered.set()


def test_losing_all_brokers_ends_the_worker() -> None:
    def lose_brokers(consumer: FakeConsumer) -> None:
        for second in (1, 2, 3):
            bench.statistics.read(json.dumps({"ts": second * 1_000_000, "brokers": {}}))

    bench = Bench(assign(0), record(0), BatchEnd(), lose_brokers, BatchEnd(), record(1))

    with pytest.raises(BrokersLost):
        bench.run()

    assert bench.consumer.journal == ["handle 1", "commit {0: 1}", "close"]


def test_a_silent_client_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeWatch, "verdict", ConsumerSilent("unread for a minute"))
    bench = Bench(assign(0))

    with pytest.raises(ConsumerSilent):
        bench.run()

    assert bench.consumer.journal == ["close"]


def test_a_reading_or_paused_worker_is_not_silent() -> None:
    Bench(assign(0), record(0), BatchEnd(), record(1)).run()
    Bench(assign(0), record(0), handler=Recorder(DOWN)).run()
    Bench(assign(0), record(0), BatchEnd(), record(1), max_rate=1).run()

    busy, waiting, slow = (watch.said.count("reset") for watch in FakeWatch.made)
    assert busy == 2
    assert waiting > 2
    assert slow > 2
