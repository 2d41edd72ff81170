"""A handler that interrupts a wait may set the event for which its thread waits; with threading.Event it may hang."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from coupons.runtime.signal_event import SignalEvent
from tests.support.process import ROOT

WAITS = """
import signal, sys, time
from threading import Event
from coupons.runtime.signal_event import SignalEvent

stop = {event}()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
print("waiting", flush=True)
while not stop.wait(0):
    pass
"""
TRIES = 20


def ends(event: str, *, within_sec: float = 6) -> bool:
    """Whether a program that waits for this event, again and again, ends with the first SIGTERM."""
    program = subprocess.Popen(
        [sys.executable, "-c", WAITS.format(event=event)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.readline() == "waiting\n"
        program.send_signal(signal.SIGTERM)
        try:
            return program.wait(within_sec) == 0
        except subprocess.TimeoutExpired:
            program.kill()
            return False


def test_a_signal_ends_every_wait() -> None:
    assert all(ends("SignalEvent") for _ in range(TRIES))


def test_one_that_is_none_of_ours_hangs() -> None:
    """About every second time."""
    assert any(not ends("Event", within_sec=2) for _ in range(TRIES))


def test_a_wait_ends_when_another_thread_sets_it() -> None:
    event = SignalEvent()
    threading.Timer(0.05, event.set).start()

    assert event.wait(20)
    assert event.wait(0)


def test_all_who_wait_are_woken() -> None:
    event = SignalEvent()
    waiting = [threading.Thread(target=event.wait) for _ in range(3)]
    for thread in waiting:
        thread.start()
    event.set()

    for thread in waiting:
        thread.join(20)
    assert not any(thread.is_alive() for thread in waiting)


def test_no_wait_outlasts_its_time_out_by_much() -> None:
    """Of so many, one meets the thread when it stands still at the wrong moment."""
    ended = threading.Event()

    def wait_often() -> None:
        for _ in range(2_000):
            SignalEvent().wait(0.000_001)
        ended.set()

    threading.Thread(target=wait_often, daemon=True).start()
    assert ended.wait(60)


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_a_wait_that_nobody_ends_takes_its_time(seconds: float) -> None:
    began = time.monotonic()

    assert not SignalEvent().wait(seconds)
    assert time.monotonic() - began >= seconds


def test_one_that_was_cleared_waits_again() -> None:
    event = SignalEvent()
    event.set()
    event.clear()

    assert not event.is_set()
    assert not event.wait(0)
