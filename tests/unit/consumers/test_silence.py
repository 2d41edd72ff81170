"""When a silent client is to blame for its silence."""

from collections.abc import Iterator, Mapping
from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException
from django.db import OperationalError

from consumers import watch
from consumers.supervisor import HEALTHY_SEC
from consumers.watch import CHECK_INTERVAL_SEC, SILENT_SEC, ConsumerSilent, SilenceWatch
from coupons.errors import LogUnavailable
from coupons.messaging.topics import PartitionLag
from tests.support.clocks import Clock

ME = "this member"


class Member:
    def memberid(self) -> str:
        return ME


class Scene:
    """A topic, a group, and one watch; `pass_time` has it look each second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.lags: dict[int, PartitionLag] | Exception = {0: PartitionLag(0, 9, 5), 1: PartitionLag(0, 9, 9)}
        self.holders = {0: ME, 1: "another"}
        self.is_readable = True
        self.watch = SilenceWatch("group", clock=self.clock)
        monkeypatch.setattr(watch, "partition_lags", self._lags)
        monkeypatch.setattr(watch, "partition_holders", lambda group: self.holders)
        monkeypatch.setattr(watch, "read_log", self._read)
        monkeypatch.setattr(watch, "close_old_connections", lambda: None)

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.clock.advance(1)
            self.watch.check(cast("Consumer", Member()))

    def _lags(self) -> dict[int, PartitionLag]:
        if isinstance(self.lags, Exception):
            raise self.lags
        return self.lags

    def _read(self, ranges: Mapping[int, tuple[int, int]]) -> Iterator[str]:
        assert ranges == {0: (5, 9)}
        return iter(["a message"] if self.is_readable else [])


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


ENOUGH = SILENT_SEC + 2 * CHECK_INTERVAL_SEC


def test_long_waiting_messages_of_its_partition_make_it_silent(scene: Scene) -> None:
    with pytest.raises(ConsumerSilent, match="partition 0, offset 5"):
        scene.pass_time(ENOUGH)


def test_so_are_those_that_nobody_holds(scene: Scene) -> None:
    del scene.holders[0]

    with pytest.raises(ConsumerSilent):
        scene.pass_time(ENOUGH)


def test_those_that_another_holds_are_not(scene: Scene) -> None:
    scene.holders[0] = "another"

    scene.pass_time(10 * ENOUGH)


def test_nor_is_a_partition_that_is_read_meanwhile(scene: Scene) -> None:
    for offset in range(5, 9):
        scene.lags = {0: PartitionLag(0, 9, offset)}
        scene.pass_time(SILENT_SEC - CHECK_INTERVAL_SEC)


def test_messages_waiting_during_an_outage_do_not_count(scene: Scene) -> None:
    for _ in range(5):
        scene.pass_time(SILENT_SEC - CHECK_INTERVAL_SEC)
        scene.watch.reset()


@pytest.mark.parametrize(
    "error", [LogUnavailable("down"), KafkaException(KafkaError(KafkaError._TRANSPORT)), OperationalError("down")]
)
def test_while_a_part_is_down_the_silence_has_its_reason(scene: Scene, error: Exception) -> None:
    whole, scene.lags = scene.lags, error
    scene.pass_time(10 * ENOUGH)

    scene.lags = whole
    scene.pass_time(SILENT_SEC - CHECK_INTERVAL_SEC)
    with pytest.raises(ConsumerSilent):
        scene.pass_time(ENOUGH)


def test_what_no_client_can_read_is_no_message(scene: Scene) -> None:
    """A transaction's end has an offset of its own."""
    scene.is_readable = False

    scene.pass_time(10 * ENOUGH)


def test_silent_workers_do_not_count_as_crashes() -> None:
    assert SILENT_SEC >= HEALTHY_SEC
