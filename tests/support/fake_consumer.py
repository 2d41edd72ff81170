"""A consumer without a broker: it follows a plan of messages and rebalances, and keeps what the worker did with it."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, Message, TopicPartition

from consumers.offsets import on_commit
from tests.support.clocks import Clock, SteppedEvent

TOPIC = "t"
MAX_POLLS = 50_000

Rebalance = Callable[["FakeConsumer"], None]


class BatchEnd:
    """In a plan: consume() returns here although more would follow."""


Step = Message | Rebalance | BatchEnd


def record(offset: int, *, partition: int = 0, value: bytes = b"x") -> Message:
    return Message(topic=TOPIC, partition=partition, offset=offset, value=value)


def error_message(code: int) -> Message:
    return Message(topic=TOPIC, partition=0, offset=0, value=b"", error=KafkaError(code))


def assign(*partitions: int) -> Rebalance:
    return lambda consumer: consumer.on_assign(consumer, _partitions(partitions))


def revoke(*partitions: int) -> Rebalance:
    return lambda consumer: consumer.on_revoke(consumer, _partitions(partitions))


class FakeConsumer:
    """Gives the plan's messages of partitions that are not paused; sets `stop` when the plan is done and nothing is
    paused. poll() takes its whole time-out by the clock when there is nothing to give."""

    def __init__(self, *plan: Step, clock: Clock, stop: SteppedEvent) -> None:
        self._plan: deque[Step] = deque(plan)
        self.clock = clock
        self._stop = stop
        self.polls = 0
        self.assigned: set[int] = set()
        self.paused: set[int] = set()
        self.journal: list[str] = []
        self.commits: list[dict[int, int]] = []
        self.group_offsets: dict[int, int] = {}
        self.seek_errors: deque[KafkaError] = deque()
        self.commit_errors: deque[KafkaError] = deque()
        self._failed_commits: deque[tuple[KafkaError, list[TopicPartition]]] = deque()
        self.closed = False
        self.on_close: Callable[[], object] = lambda: None

    def subscribe(self, topics: list[str], *, on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self.topics = topics
        self.on_assign, self.on_revoke = on_assign, on_revoke

    def poll(self, timeout: float) -> Message | None:
        self.polls += 1
        assert self.polls < MAX_POLLS, "the worker polls for ever"
        while self._failed_commits:
            on_commit(*self._failed_commits.popleft())
        while self._plan:
            if isinstance(self._plan[0], Message) and self._held_back(self._plan[0]):
                break
            step = self._plan.popleft()
            if isinstance(step, Message):
                return step
            if not isinstance(step, BatchEnd):
                step(self)
                return None
        if not self._plan and not self.paused & self.assigned:
            self._stop.set()
        self.clock.advance(timeout)
        return None

    def consume(self, count: int, timeout: float) -> list[Message]:
        found: list[Message] = []
        while self._plan and len(found) < count:
            step = self._plan[0]
            if isinstance(step, BatchEnd) or (isinstance(step, Message) and self._held_back(step)):
                break
            self._plan.popleft()
            if isinstance(step, Message):
                found.append(step)
            else:
                step(self)
        return found

    def _held_back(self, message: Message) -> bool:
        return message.error() is None and message.partition() in self.paused

    def incremental_assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.assigned |= _numbers(partitions)

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        self.assigned -= _numbers(partitions)  # what is paused stays so, as in librdkafka

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        assert _numbers(partitions) <= self.assigned, "pause of a partition that is not assigned has no effect"
        self.paused |= _numbers(partitions)
        self.journal.append(f"pause {sorted(_numbers(partitions))}")

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        assert _numbers(partitions) <= self.assigned
        if self.paused & _numbers(partitions):
            self.journal.append(f"resume {sorted(_numbers(partitions))}")
        self.paused -= _numbers(partitions)

    def commit(self, *, offsets: Sequence[TopicPartition], asynchronous: bool) -> None:
        assert asynchronous, "the synchronous form waits without a time-out"
        if not offsets:
            return  # it only wakes librdkafka
        if self.commit_errors:
            self._failed_commits.append((self.commit_errors.popleft(), list(offsets)))
            return
        self.commits.append({offset.partition: offset.offset for offset in offsets})
        self.group_offsets.update(self.commits[-1])
        self.journal.append(f"commit {self.commits[-1]}")

    def committed(self, partitions: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [
            TopicPartition(TOPIC, each.partition, self.group_offsets.get(each.partition, OFFSET_INVALID))
            for each in partitions
        ]

    def seek(self, partition: TopicPartition) -> None:
        if self.seek_errors:
            raise KafkaException(self.seek_errors.popleft())
        assert partition.partition in self.assigned
        self.journal.append(f"seek {partition.partition} to {partition.offset}")

    def assignment(self) -> list[TopicPartition]:
        return _partitions(sorted(self.assigned))

    def position(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        return [TopicPartition(TOPIC, partition.partition, 10) for partition in partitions]

    def get_watermark_offsets(self, partition: TopicPartition, *, cached: bool) -> tuple[int, int]:
        return 0, 25

    def close(self) -> None:
        self.closed = True
        self.journal.append("close")
        self.on_close()


def _partitions(numbers: Sequence[int]) -> list[TopicPartition]:
    return [TopicPartition(TOPIC, number) for number in numbers]


def _numbers(partitions: Sequence[TopicPartition]) -> set[int]:
    return {partition.partition for partition in partitions}


class FakeWatch:
    """Stands for the worker's SilenceWatch: keeps what it `said`; `verdict` is raised at a check."""

    verdict: Exception | None = None
    made: ClassVar[list["FakeWatch"]] = []

    def __init__(self, group: str, *, clock: Clock) -> None:
        self.said: list[str] = []
        FakeWatch.made.append(self)

    def reset(self) -> None:
        self.said.append("reset")

    def check(self, consumer: "FakeConsumer") -> None:
        self.said.append("check")
        if self.verdict is not None:
            raise self.verdict
