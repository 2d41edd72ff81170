"""Shows each scheduled job's last run and result, and warns on the pages when a job failed or is overdue."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString

from coupons.admin.pages import NOTHING, ReadOnlyAdmin, badge, moment_column
from coupons.models import JobRun
from coupons.runtime.text import make_visible

OVERDUE_AFTER = timedelta(minutes=10)  # every job of CRONJOBS runs every 5 minutes


def scheduled_names() -> list[str]:
    """Lists the commands that CRONJOBS runs."""
    return [entry[2][0] for entry in settings.CRONJOBS if entry[1].endswith("call_command")]


def warnings(*, now: datetime) -> list[str]:
    """Describes each problem with the scheduled jobs in one sentence; empty when there is none."""
    runs = {run.name: run for run in JobRun.objects.all()}
    found = [_warning(name, runs.get(name), now) for name in scheduled_names()]
    return [text for text in found if text]


def _warning(name: str, run: JobRun | None, now: datetime) -> str:
    if run is None:
        return f"{name} has never run. Is cron running, or `make jobs`?"
    if run.succeeded is False:
        return f"The last run of {name} failed."
    if now - run.started_at <= OVERDUE_AFTER:
        return ""
    if run.finished_at is None:
        return f"{name} started {_format_age(now - run.started_at)} ago and has not finished. It may have been killed."
    return f"{name} last ran {_format_age(now - run.started_at)} ago. Is cron running, or `make jobs`?"


def _format_age(age: timedelta) -> str:
    minutes = int(age.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"


@admin.register(JobRun)
class JobRunAdmin(ReadOnlyAdmin[JobRun]):
    list_display = ("name", "outcome", "started", "finished", "result_text")
    ordering = ("name",)
    fields = ("name", "outcome", "started", "finished", "result_text")

    started = moment_column("started_at", "started")
    finished = moment_column("finished_at", "finished")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        extra = {"job_warnings": warnings(now=timezone.now())}
        return super().changelist_view(request, {**(extra_context or {}), **extra})

    @admin.display
    def outcome(self, run: JobRun) -> SafeString:
        if run.succeeded is None:
            return badge("running", "plain") if _is_recent(run) else badge("not finished", "bad")
        if not run.succeeded:
            return badge("failed", "bad")
        return badge("succeeded", "good") if _is_recent(run) else badge("succeeded, now overdue", "warn")

    @admin.display(description="result")
    def result_text(self, run: JobRun) -> str:
        return make_visible(run.result) or NOTHING


def _is_recent(run: JobRun) -> bool:
    return timezone.now() - run.started_at <= OVERDUE_AFTER
