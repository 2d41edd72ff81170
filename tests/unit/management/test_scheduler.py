"""CRONJOBS without a cron daemon: the same list, on time, and one bad job does not stop the others."""

import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest

from coupons.management.scheduler import Scheduler, run_job
from tests.support.clocks import Clock, SteppedEvent

START = datetime(2026, 12, 1, 10, 2, 30, tzinfo=UTC)


class Diary(ModuleType):
    """A module of jobs that note when they ran."""

    def __init__(self) -> None:
        super().__init__("diary_of_jobs")
        self.clock = Clock(0.0)
        self.stop = SteppedEvent(self.clock)
        self.lines: list[str] = []
        self.stop_after = 3
        self.takes_sec = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.clock())

    def note(self, *arguments: str, **keywords: str) -> None:
        values = [*arguments, *keywords.values()]
        self.lines.append(" ".join([self.now().strftime("%H:%M:%S"), *values]))
        self.clock.advance(self.takes_sec)
        if len(self.lines) >= self.stop_after:
            self.stop.set()

    def fail(self) -> None:
        raise ZeroDivisionError

    def leave(self) -> None:
        raise SystemExit(1)


@pytest.fixture
def diary() -> Iterator[Diary]:
    module = Diary()
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def test_a_job_runs_when_due_and_then_again(diary: Diary) -> None:
    Scheduler([("*/5 * * * *", "diary_of_jobs.note")], stop=diary.stop, now=diary.now).run()

    assert [line[:5] for line in diary.lines] == ["10:05", "10:10", "10:15"]


def test_a_clock_set_back_does_not_delay_a_job(diary: Diary) -> None:
    def now() -> datetime:
        return diary.now() - (timedelta(hours=2) if diary.clock() > 200 else timedelta())

    Scheduler([("*/5 * * * *", "diary_of_jobs.note")], stop=diary.stop, now=now).run()

    assert [line[:5] for line in diary.lines] == ["10:05", "10:10", "10:15"]


def test_a_job_gets_its_arguments_and_keywords(diary: Diary) -> None:
    run_job(("* * * * *", "diary_of_jobs.note", ["a"], {"key": "b"}))

    assert diary.lines == ["10:02:30 a b"]


def test_two_jobs_each_run_at_their_own_times(diary: Diary) -> None:
    jobs = [("*/5 * * * *", "diary_of_jobs.note", ["five"]), ("*/2 * * * *", "diary_of_jobs.note", ["two"])]
    diary.stop_after = 4
    Scheduler(jobs, stop=diary.stop, now=diary.now).run()

    assert [(line[:5], line[9:]) for line in diary.lines] == [
        ("10:04", "two"),
        ("10:05", "five"),
        ("10:06", "two"),
        ("10:08", "two"),
    ]


def test_a_long_job_skips_missed_runs(diary: Diary) -> None:
    diary.takes_sec = 8 * 60
    Scheduler([("*/5 * * * *", "diary_of_jobs.note")], stop=diary.stop, now=diary.now).run()

    assert [line[:5] for line in diary.lines] == ["10:05", "10:15", "10:25"]


@pytest.mark.parametrize("bad", ["diary_of_jobs.fail", "diary_of_jobs.leave", "diary_of_jobs.missing", "no_module.x"])
def test_a_failed_job_is_logged_and_the_next_runs(diary: Diary, bad: str, caplog: pytest.LogCaptureFixture) -> None:
    jobs = [("* * * * *", bad), ("* * * * *", "diary_of_jobs.note")]
    Scheduler(jobs, stop=diary.stop, now=diary.now).run_all_once()

    assert len(diary.lines) == 1
    assert f"jobs.failed job={bad.rpartition('.')[2]}" in caplog.text


def test_no_jobs_wait_for_the_stop(diary: Diary) -> None:
    stopped = threading.Event()
    stopped.set()

    Scheduler([], stop=stopped, now=diary.now).run()
