"""Runs the demo: starts the parts, lets the users apply, shows their progress, and checks the ledger."""

import os
import subprocess
import time
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.crowd import Answer, Crowd
from benchmarks.figures import percentile
from benchmarks.verdict import Row, find_faults
from coupons.admission import campaign_store
from coupons.models import Campaign, Coupon
from harness import CHECKOUT, HOST, MANAGE, Services, answers_ok, free_port, is_free, log_folder

READY_SEC = 30.0
GIVE_UP_AFTER_SEC = 60.0
"""A user repeats for this time at most, and the last coupons must follow the last answer within it."""
LOOK_SEC = 0.1

console = Console(highlight=False, markup=False, soft_wrap=True)


class DemoFailed(Exception):
    """The demo cannot continue. The text has the reason and what to do."""


def run(*, users: int, quantity: int, threads: int) -> int:
    if not settings.API_KEYS:
        raise DemoFailed(
            "COUPON_API_KEYS is empty, so no request is authorized. `make up` makes a key for a local stack."
        )
    port = _web_port(settings.WEB_PORT)
    folder = log_folder()
    with Services(log_folder=folder) as services:
        _start_parts(services, port)
        console.print(f"web, consumer and keeper are running; their logs are {folder}/demo-*.log")
        login = _admin_login()
        campaign_id = _open_campaign(quantity)
        console.print(f"campaign {campaign_id}: {users} users on {threads} threads, {quantity} coupons")
        with Crowd(
            url=f"http://{HOST}:{port}/api/v1/campaigns/{campaign_id}/apply",
            api_key=settings.API_KEYS[0],
            users=[str(number) for number in range(1, users + 1)],
            threads=threads,
            give_up_after_sec=GIVE_UP_AFTER_SEC,
        ) as crowd:
            _watch(services, crowd, campaign_id, users=users, quantity=quantity)
        answers, rows = crowd.answers, _rows(campaign_id)
        faults = find_faults(answers=answers, rows=rows, users=users, quantity=quantity)
        faults += _ledger_faults(campaign_id)
    _report(answers, rows)
    if faults:
        console.print("\nNot as promised:", *(f"  - {fault}" for fault in faults), sep="\n", style="red")
        return 1
    console.print(
        f"\nAs promised: {len(rows)} different users, one coupon each, sequences 1 to {len(rows)}.",
        style="green",
    )
    console.print(f"Next: `make run`, then {login}")
    return 0


def _web_port(wanted: int) -> int:
    if is_free(wanted):
        return wanted
    port = free_port()
    console.print(f"Port {wanted} is in use (`make run`?), so the demo's web server uses {port}.", style="yellow")
    return port


def _start_parts(services: Services, port: int) -> None:
    web = services.start("demo-web", [str(CHECKOUT / "bin" / "web")], {"WEB_PORT": str(port)})
    consumer = services.start("demo-consumer", [*MANAGE, "run_coupon_consumer", "--loglevel", "INFO"])
    services.start("demo-keeper", [*MANAGE, "run_keeper"])
    ready = f"http://{HOST}:{port}/readyz"
    services.wait("The web server at /readyz", lambda: answers_ok(ready), deadline_sec=READY_SEC, service=web)
    joined = "consumer.assigned"
    services.wait("The consumer's group", lambda: consumer.has_logged(joined), deadline_sec=READY_SEC, service=consumer)


def _admin_login() -> str:
    """Creates the operator's account if it is missing. Returns a text that explains how to log in."""
    address = f"http://{HOST}:{settings.WEB_PORT}/admin/"
    name, password = os.environ.get("DJANGO_SUPERUSER_USERNAME"), os.environ.get("DJANGO_SUPERUSER_PASSWORD")
    if not name or not password:
        return f"{address} (DJANGO_SUPERUSER_USERNAME and _PASSWORD are not set: `manage.py createsuperuser`)"
    account = get_user_model().objects.filter(username=name).first()
    if account is None:
        _manage("createsuperuser", "--noinput")
    elif not account.check_password(password):
        return f"{address} as {name}, whose password was changed after the stack was created"
    return f"{address} as {name} with the password {password}"


def _open_campaign(quantity: int) -> UUID:
    return UUID(_manage("create_campaign", "--name", "Demo", "--quantity", str(quantity), "--open").strip())


def _manage(*arguments: str) -> str:
    done = subprocess.run([*MANAGE, *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DemoFailed(
            f"manage.py {arguments[0]} exited with {done.returncode}.\n{done.stdout}{done.stderr}".rstrip()
        )
    return done.stdout


def _watch(services: Services, crowd: Crowd, campaign_id: UUID, *, users: int, quantity: int) -> None:
    """Shows the progress until all coupons are written or the time is up."""
    totals = {"admitted": min(users, quantity), "refused": max(users - quantity, 0), "issued": min(users, quantity)}
    columns = TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    deadline = None
    with Progress(*columns, console=console) as progress:
        tasks = {name: progress.add_task(name, total=total) for name, total in totals.items()}
        while True:
            finished, answers = crowd.finished, crowd.answers  # read before the counts, so that the counts are final
            admitted = sum(answer.admitted for answer in answers)
            issued, pending = _issued(campaign_id), _pending(campaign_id) if finished else None
            for name, count in zip(totals, (admitted, len(answers) - admitted, issued), strict=True):
                progress.update(tasks[name], completed=count)
            if finished:
                deadline = deadline or time.monotonic() + GIVE_UP_AFTER_SEC
                if (issued >= totals["issued"] and not pending) or time.monotonic() > deadline:
                    return
            services.check()
            time.sleep(LOOK_SEC)


def _issued(campaign_id: UUID) -> int:
    return Campaign.objects.values_list("issued_count", flat=True).get(pk=campaign_id)


def _pending(campaign_id: UUID) -> int:
    epoch = Campaign.objects.values_list("epoch", flat=True).get(pk=campaign_id)
    return campaign_store.describe(campaign_id=campaign_id, epoch=epoch).pending


def _rows(campaign_id: UUID) -> list[Row]:
    found = Coupon.objects.filter(campaign_id=campaign_id).order_by("sequence")
    return [Row(*row) for row in found.values_list("user_id", "sequence", "code", "issued_at")]


def _ledger_faults(campaign_id: UUID) -> list[str]:
    """Prints the output of reconcile_campaigns. Returns a fault if the ledger does not close."""
    command = [*MANAGE, "reconcile_campaigns", str(campaign_id)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    console.print("\nledger (admitted = issued + failed + pending):", style="bold")
    console.print((done.stdout + done.stderr).rstrip())
    return [] if done.returncode == 0 else [f"reconcile_campaigns exited with {done.returncode}"]


def _report(answers: list[Answer], rows: list[Row]) -> None:
    sent_at = {answer.user_id: answer.sent_at for answer in answers}
    waits_ms = [(row.issued_at.timestamp() - sent_at[row.user_id]) * 1000 for row in rows if row.user_id in sent_at]
    if rows:
        first, last = rows[0], rows[-1]
        console.print(f"sequence {first.sequence} went to user {first.user_id}, {last.sequence} to user {last.user_id}")
    if waits_ms:
        p50, p99 = percentile(waits_ms, 50), percentile(waits_ms, 99)
        console.print(f"from click to row: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
