"""Stores the last run of each scheduled job for the admin: cron discards output and exit codes."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError, InterfaceError
from django.db.models.functions import Now

from coupons.models import JobRun


@contextmanager
def recorded_run(name: str) -> Iterator[list[str]]:
    """Records start, end and outcome of a run. The caller appends the result to the list. Exceptions are recorded and
    raised again."""
    JobRun.objects.update_or_create(
        name=name, defaults={"started_at": Now(), "finished_at": None, "succeeded": None, "result": ""}
    )
    result: list[str] = []
    try:
        yield result
    except Exception as error:
        result.append(f"{type(error).__name__}: {error}")
        _finish(name, succeeded=False, result=result)
        raise
    _finish(name, succeeded=True, result=result)


def _finish(name: str, *, succeeded: bool, result: list[str]) -> None:
    try:
        JobRun.objects.filter(pk=name).update(finished_at=Now(), succeeded=succeeded, result="\n".join(result))
    except (DatabaseError, InterfaceError):
        if succeeded:
            raise
