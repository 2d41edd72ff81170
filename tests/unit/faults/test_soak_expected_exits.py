"""The soak calls an end unexplained unless its own doing explains it."""

import signal
from collections.abc import Callable

import pytest

from faults.soak.expected_exits import CRASH_LOOP, CRASH_LOOP_AFTER_KILL_SEC, FATAL_AFTER_LOSS_SEC, ExpectedExits
from tests.support.clocks import Clock


def output(text: str) -> Callable[[], str]:
    return lambda: text


LOOP = output(f"[ERROR] Unexpected exit from worker-1\n[ERROR] {CRASH_LOOP}, exiting\n")
TRACEBACK = output("Traceback (most recent call last): ...\n")


def test_a_program_may_end_when_told_or_killed() -> None:
    ends = ExpectedExits(clock=Clock())

    for code in (0, 71, -signal.SIGKILL, -signal.SIGTERM):
        assert ends.explain("web-1", code, TRACEBACK)
    for code in (1, 2, 3, -signal.SIGSEGV):
        assert not ends.explain("web-1", code, TRACEBACK)


def test_a_consumer_may_lose_its_client_after_broker_loss() -> None:
    clock = Clock()
    ends = ExpectedExits(clock=clock)
    assert not ends.explain("consumer-1", 70, TRACEBACK)

    ends.kafka_lost()
    assert ends.explain("consumer-1", 70, TRACEBACK)
    assert not ends.explain("keeper-1", 70, TRACEBACK)
    clock.advance(FATAL_AFTER_LOSS_SEC)

    assert not ends.explain("consumer-1", 70, TRACEBACK)


def test_killed_workers_may_look_like_a_crash_loop() -> None:
    clock = Clock()
    ends = ExpectedExits(clock=clock)
    assert not ends.explain("web-1", 1, LOOP), "its workers died by themselves"

    ends.worker_killed("web-1")
    assert ends.explain("web-1", 1, LOOP)
    assert not ends.explain("web-1", 1, TRACEBACK), "it says another reason"
    assert not ends.explain("web-2", 1, LOOP), "another's worker was killed"
    clock.advance(CRASH_LOOP_AFTER_KILL_SEC)

    assert not ends.explain("web-1", 1, LOOP)


@pytest.mark.parametrize("other", ["web.produced", "redemption.written"])
def test_an_armed_web_failpoint_explains_a_crash_loop(other: str) -> None:
    """Two may be at a time: each is a part of its own in the schedule."""
    clock = Clock()
    ends = ExpectedExits(clock=clock)
    ends.armed("web.admitted")
    ends.armed(other)
    ends.disarmed("web.admitted")
    clock.advance(3_600)
    assert ends.explain("web-1", 1, LOOP)
    assert ends.explain("web-2", 1, LOOP)
    assert not ends.explain("keeper-1", 1, LOOP)

    ends.disarmed(other)
    assert ends.explain("web-1", 1, LOOP)
    clock.advance(CRASH_LOOP_AFTER_KILL_SEC)

    assert not ends.explain("web-1", 1, LOOP)
    assert not ends.explain("web-2", 1, LOOP)


def test_a_failpoint_of_another_program_explains_no_crash_loop() -> None:
    ends = ExpectedExits(clock=Clock())
    ends.armed("consumer.inserted")

    assert not ends.explain("web-1", 1, LOOP)
