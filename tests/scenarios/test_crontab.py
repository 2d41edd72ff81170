"""The scheduled jobs from real crontab lines, in a checkout whose path has a space, as cron runs it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db.models.functions import Now

from coupons.models import Campaign, Coupon, EventStatus, FailEventHistory, JobRun, Redemption
from coupons.redemption.redeem import redeem
from coupons.runtime.heartbeats import job_names
from tests.support.process import ROOT
from tests.support.promises import Promises, apply_all, assert_kept
from tests.support.service import Service
from tests.support.tickets import admit, issue, ticket
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system

OWN_LINES = "# of the user\n17 3 * * * true\n"
HANDED_OVER = ("DATABASE_URL", "REDIS_URL", "KAFKA_BOOTSTRAP_SERVERS", "DJANGO_SECRET_KEY", "COUPON_TOPIC")


class Checkout:
    """A copy of the program with a `.env` of its own: what cron starts must reach the test's servers, not others."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("couponsite", "coupons", "consumers"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "manage.py", folder)
        (folder / ".env").write_text("".join(f"{name}={environment[name]}\n" for name in HANDED_OVER))
        self._environment = {name: value for name, value in os.environ.items() if name != "COUPON_ENV_FILE"}

    def crontab(self, verb: str) -> str:
        command = [sys.executable, "manage.py", "crontab", verb]
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment, check=True, capture_output=True, text=True
        )
        return done.stdout

    @property
    def lines(self) -> list[str]:
        """The lines of the installed crontab that are this checkout's."""
        return [line for line in installed().splitlines() if line.endswith(f"# coupons in {self.folder}")]

    def run(self, job: str) -> None:
        """Runs the line of this job as cron does."""
        # Which number stands for a job in its line, django-crontab alone knows: the lines are in the jobs' order.
        line = self.lines[job_names().index(job)]
        run_as_cron_does(line.split(maxsplit=5)[5])


def installed() -> str:
    return subprocess.run(["crontab", "-l"], check=False, capture_output=True, text=True).stdout


def install(text: str) -> None:
    subprocess.run(["crontab", "-"], input=text, check=True, text=True)


@pytest.fixture
def checkout(service: Service, tmp_path: Path) -> Iterator[Checkout]:
    before = installed()
    install(OWN_LINES)
    yield Checkout(tmp_path / "a check out", service.environment)
    if before:
        install(before)
    else:
        subprocess.run(["crontab", "-r"], check=True)


def with_a_due_event(service: Service) -> tuple[Campaign, Promises]:
    """A ticket that the database refused once, and would take now."""
    campaign = service.campaign(10)
    promises = apply_all(campaign, range(2))
    Campaign.objects.filter(pk=campaign.pk).update(quantity=1)
    consumer = service.consumer("--solo", COUPON_RETRY_BASE_DELAY_SEC="0")
    wait_until(lambda: FailEventHistory.objects.filter(event_status=EventStatus.FAIL).count() == 1)
    assert consumer.stop() == 0
    Campaign.objects.filter(pk=campaign.pk).update(quantity=10)
    return campaign, promises


def test_adding_and_removing_a_line_keeps_other_lines(checkout: Checkout) -> None:
    checkout.crontab("add")
    checkout.crontab("add")
    assert len(checkout.lines) == len(job_names()) == 2
    assert installed().startswith(OWN_LINES)

    checkout.crontab("remove")
    assert installed() == OWN_LINES


def test_the_cron_line_turns_a_due_failure_into_a_coupon(checkout: Checkout, service: Service) -> None:
    campaign, promises = with_a_due_event(service)
    checkout.crontab("add")

    checkout.run("retry_failed_coupons")

    event = FailEventHistory.objects.get()
    assert (event.event_status, event.attempts) == (EventStatus.SUCCESS, 1)
    run = JobRun.objects.get(name="retry_failed_coupons")
    assert run.succeeded
    assert run.finished_at is not None
    assert run.result.startswith("1 succeeded, 0 failed again")
    assert_kept(campaign, promises)


def test_the_cron_line_writes_down_which_holds_have_ended(checkout: Checkout, service: Service) -> None:
    campaign = service.campaign(10)
    issue(ticket(campaign, "a", *admit(campaign, "a")))
    coupon = Coupon.objects.get()
    redeem(code=coupon.code, order_ref="1", user_id=None, hold_sec=60, actor="test", may_touch=lambda campaign_id: True)
    Redemption.objects.update(hold_until=Now())
    checkout.crontab("add")

    checkout.run("tidy_holds")

    assert Redemption.objects.get().state == "lapsed"
    assert JobRun.objects.get(name="tidy_holds").result == "1 ended"


def test_a_run_without_the_database_or_redis_is_shown(checkout: Checkout, service: Service) -> None:
    with_a_due_event(service)
    checkout.crontab("add")
    service.stack("kill", "redis")

    checkout.run("retry_failed_coupons")

    run = JobRun.objects.get(name="retry_failed_coupons")
    assert run.succeeded is False
    assert "Redis" in run.result
    event = FailEventHistory.objects.get()
    assert (event.event_status, event.attempts) == (EventStatus.FAIL, 0), "what was not tried is not counted"


def test_a_cron_daemon_runs_it_every_minute(checkout: Checkout, service: Service) -> None:
    campaign, promises = with_a_due_event(service)
    checkout.crontab("add")
    install(installed().replace("*/5 * * * *", "* * * * *"))
    daemon = service.start("cron", ["cron", "-f"]) if not cron_runs() else None

    try:
        runs = JobRun.objects.filter(succeeded=True)
        wait_until(lambda: runs.count() == len(job_names()), within_sec=75, what="cron has run all jobs")
    finally:
        checkout.crontab("remove")
        if daemon is not None:
            daemon.stop()

    assert FailEventHistory.objects.get().event_status == EventStatus.SUCCESS
    assert_kept(campaign, promises)


def run_as_cron_does(command: str) -> None:
    environment = {"HOME": str(Path.home()), "LOGNAME": "root", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    subprocess.run(["/bin/sh", "-c", command], cwd=Path.home(), env=environment, check=True, timeout=60)


def cron_runs() -> bool:
    names = (folder / "comm" for folder in Path("/proc").glob("[0-9]*"))
    return any(read(name).strip() in ("cron", "crond") for name in names)


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
