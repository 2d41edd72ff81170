"""Runs django-crontab's CRONJOBS in the foreground without a cron daemon: the same list, the same functions."""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib import import_module
from typing import Any

from cronsim import CronSim
from django.db import close_old_connections
from django.utils import timezone

logger = logging.getLogger(__name__)
CronJob = Sequence[Any]  # django-crontab's format: (schedule, dotted function[, arguments[, keyword arguments]])


class Scheduler:
    """Runs due jobs one after another. A job that takes longer than its interval skips the runs it missed."""

    def __init__(
        self, jobs: Sequence[CronJob], *, stop: threading.Event, now: Callable[[], datetime] = timezone.now
    ) -> None:
        self._jobs = jobs
        self._stop = stop
        self._now = now

    def run(self) -> None:
        logger.info("jobs.started count=%d", len(self._jobs))
        last_check = self._now()
        due = [self._next_due(job) for job in self._jobs]
        while not self._stop.is_set():
            if self._now() < last_check:  # a clock set back by hours would delay the due jobs by hours
                due = [self._next_due(job) for job in self._jobs]
            last_check = self._now()
            for number, job in enumerate(self._jobs):
                if self._now() >= due[number]:
                    run_job(job)
                    due[number] = self._next_due(job)
            wait_sec = (min(due) - self._now()).total_seconds() if due else 60.0
            self._stop.wait(min(max(wait_sec, 0.0), 60.0))

    def run_all_once(self) -> None:
        for job in self._jobs:
            run_job(job)

    def _next_due(self, job: CronJob) -> datetime:
        return next(CronSim(job[0], self._now()))


def run_job(job: CronJob) -> None:
    """Runs one entry as django-crontab would. A job that raises or exits is logged, and the next one still runs."""
    module_name, _, function_name = job[1].rpartition(".")
    arguments = job[2] if len(job) > 2 else []
    keywords = job[3] if len(job) > 3 else {}
    name = " ".join([function_name, *map(str, arguments)])
    close_old_connections()
    try:
        getattr(import_module(module_name), function_name)(*arguments, **keywords)
    except (Exception, SystemExit):
        logger.exception("jobs.failed job=%s", name)
    else:
        logger.info("jobs.done job=%s", name)
