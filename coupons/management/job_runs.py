"""Stores the last run of each scheduled job for the admin: cron discards output and exit codes."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from django.db import DatabaseError, InterfaceError
from django.db.models.functions import Now

from coupons.models import JobRun

ResultT = TypeVar("ResultT")


def record_run(name: str, job: Callable[[], ResultT]) -> ResultT:
    """Runs the job, and records its start, its end and its result. An exception is recorded and raised again."""
    started = {"started_at": Now(), "finished_at": None, "succeeded": None, "result": ""}
    JobRun.objects.update_or_create(name=name, defaults=started)
    run = JobRun.objects.filter(pk=name)
    try:
        result = job()
    except Exception as error:
        with suppress(DatabaseError, InterfaceError):
            run.update(finished_at=Now(), succeeded=False, result=f"{type(error).__name__}: {error}")
        raise
    run.update(finished_at=Now(), succeeded=True, result=str(result))
    return result
