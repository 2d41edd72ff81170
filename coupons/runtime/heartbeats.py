"""Shows which programs work: each goes around a loop and says so in PostgreSQL. A process that stands still does not,
though it looks alive to everything else."""

import time
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from coupons.errors import DATABASE_DOWN
from coupons.models import Heartbeat, JobRun
from coupons.runtime.db_timeouts import answers_within

BEAT_SEC = 5.0
ANSWER_SEC = 1.0
KEEPER, CONSUMER, JOBS = "keeper", "consumer", "jobs"
SILENT_AFTER = {
    # Longer than a round of the keeper and a batch of the consumer while their servers are slow.
    KEEPER: timedelta(seconds=30),
    CONSUMER: timedelta(seconds=30),
    JOBS: timedelta(minutes=10),  # every job of CRONJOBS runs every 5 minutes
}


class Pulse:
    """Beats for one program, at most every BEAT_SEC. The processes of a program share its row: one that goes on is
    enough, as it does the work of those that do not."""

    def __init__(self, program: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._program = program
        self._clock = clock
        self._due_at = clock()

    def beat_if_due(self) -> None:
        """Raises a database error, and tries again BEAT_SEC later."""
        now = self._clock()
        if now < self._due_at:
            return
        self._due_at = now + BEAT_SEC
        Heartbeat.objects.bulk_create(
            [Heartbeat(program=self._program, beat_at=Now())],
            update_conflicts=True,
            unique_fields=["program"],
            update_fields=["beat_at"],
        )

    def try_to_beat(self) -> None:
        """Beats if due, and gives up after a moment when PostgreSQL does not answer: the caller has other work."""
        try:
            with answers_within(ANSWER_SEC):
                self.beat_if_due()
        except DATABASE_DOWN:
            connection.close()


def job_names() -> list[str]:
    """Returns the commands of CRONJOBS. An earlier version may have left rows of others."""
    return [entry[2][0] for entry in settings.CRONJOBS if entry[1].endswith("call_command")]


def ages() -> dict[str, timedelta | None]:
    """Returns how long ago each program last beat, None if it never has. That of the jobs is the start of the job that
    has waited longest, None if one has never run. Raises a database error."""
    beats = dict(Heartbeat.objects.values_list("program", Now() - F("beat_at")))
    starts = dict(JobRun.objects.values_list("name", Now() - F("started_at")))
    jobs = [starts.get(name) for name in job_names()]
    started = [age for age in jobs if age is not None]
    return {
        KEEPER: beats.get(KEEPER),
        CONSUMER: beats.get(CONSUMER),
        JOBS: None if len(started) < len(jobs) else max(started, default=timedelta()),
    }
