"""Shows each scheduled job's last run and result, and warns on the pages when a job failed or is overdue."""

from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from coupons.admin.pages import ReadOnlyAdmin, badge
from coupons.models import JobRun
from coupons.runtime.heartbeats import JOBS, SILENT_AFTER, job_names


def warnings(*, now: datetime) -> list[str]:
    runs = {run.name: run for run in JobRun.objects.all()}
    found = [_warning(name, runs.get(name), now) for name in job_names()]
    return [text for text in found if text]


def show_warnings(request: HttpRequest) -> None:
    if request.method == "GET":
        for text in warnings(now=timezone.now()):
            messages.error(request, text)


def _warning(name: str, run: JobRun | None, now: datetime) -> str:
    if run is None:
        return f"The job {name} has never run. Is cron running, or `make jobs`?"
    if run.succeeded is False:
        return f"The last run of {name} failed."
    if now - run.started_at <= SILENT_AFTER[JOBS]:
        return ""
    age = timesince(run.started_at, now, depth=1)
    if run.finished_at is None:
        return f"The job {name} started {age} ago and has not finished. It may have been killed."
    return f"The job {name} last ran {age} ago. Is cron running, or `make jobs`?"


@admin.register(JobRun)
class JobRunAdmin(ReadOnlyAdmin):
    list_display = ("name", "outcome", "started_at", "finished_at", "result")
    ordering = ("name",)
    fields = ("name", "outcome", "started_at", "finished_at", "result")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        show_warnings(request)
        return super().changelist_view(request, extra_context)

    @admin.display
    def outcome(self, run: JobRun) -> SafeString:
        if run.succeeded is None:
            return badge("running", "plain")
        return badge("succeeded", "good") if run.succeeded else badge("failed", "bad")
