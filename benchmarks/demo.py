"""`make demo`: users on threads compete for coupons over HTTP, through every real part, and the ledger is checked.

Then a shop redeems some of the coupons. It needs a running and migrated stack. It exits 0 only if exactly
min(users, quantity) different users have one coupon each with sequences 1 to n, PostgreSQL agrees with the users' and
the shop's answers, and the ledger closes.
"""

import argparse
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from uuid import UUID

import django
from django.conf import settings
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "couponsite.settings")
django.setup()  # models can only be imported after it

from django.contrib.auth import get_user_model

from benchmarks.checkout import Checkout, Plan
from benchmarks.crowd import Answer, Crowd
from benchmarks.figures import percentile
from benchmarks.targets import READY_SEC, apply_path, start_parts
from benchmarks.workload import describe
from coupons.errors import DATABASE_DOWN, RetryLater
from coupons.models import Campaign, Coupon
from couponsite.terminal import make_printing_harmless
from harness import HOST, ServiceFailed, Services, free_port, is_free, log_folder, manage

GIVE_UP_AFTER_SEC = 60.0
"""A user repeats for this time at most, and the last coupons must follow the last answer within it."""
LOOK_SEC = 0.1

console = Console(highlight=False, markup=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(users=options.users, quantity=options.quantity, threads=options.threads)
    except ServiceFailed as error:
        print(f"demo: {error}", file=sys.stderr)
    except (RetryLater, *DATABASE_DOWN) as error:
        print(f"demo: a server does not answer: {error}. Check `make status`.", file=sys.stderr)
    except KeyboardInterrupt:
        print("demo: interrupted; its processes have been stopped.", file=sys.stderr)
        return 130
    return 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--users", type=positive, default=1000, help="number of users (default %(default)s)")
    parser.add_argument("--quantity", type=positive, default=100, help="number of coupons (default %(default)s)")
    parser.add_argument("--threads", type=positive, default=32, help="number of their threads (default %(default)s)")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def run(*, users: int, quantity: int, threads: int) -> int:
    if not settings.API_KEYS:
        sys.exit("demo: COUPON_API_KEYS is empty, so nobody may apply. `make up` makes a key for a local stack.")
    port = _web_port(settings.WEB_PORT)
    folder = log_folder()
    with Services(log_folder=folder) as services:
        _, consumer = start_parts(services, "demo", port, consumes=["--loglevel", "INFO"])
        joined = partial(consumer.has_logged, "consumer.assigned")
        services.wait("The consumer's group", joined, deadline_sec=READY_SEC, service=consumer)
        console.print(f"web, consumer and keeper are running; their logs are {folder}/demo-*.log")
        login = _admin_login()
        campaign_id = UUID(manage("create_campaign", "--name", "Demo", "--quantity", str(quantity), "--open"))
        console.print(f"campaign {campaign_id}: {users} users on {threads} threads, {quantity} coupons")
        with Crowd(
            url=f"http://{HOST}:{port}{apply_path(campaign_id)}",
            api_key=settings.API_KEYS[0],
            users=users,
            threads=threads,
            give_up_after_sec=GIVE_UP_AFTER_SEC,
        ) as crowd:
            _watch(services, crowd, campaign_id, users=users, quantity=quantity)
        answers, coupons = crowd.answers, list(Coupon.objects.filter(campaign_id=campaign_id).order_by("sequence"))
        faults = find_faults(answers=answers, coupons=coupons, users=users, quantity=quantity)
        faults += _checkout_faults(port, coupons)
        faults += _ledger_faults(campaign_id)
    _report(answers, coupons)
    if faults:
        console.print("\nNot as promised:", *(f"  - {fault}" for fault in faults), sep="\n", style="red")
        return 1
    count = len(coupons)
    console.print(f"\nAs promised: {count} different users, one coupon each, sequences 1 to {count}.", style="green")
    console.print(f"Next: `make run`, then {login}")
    return 0


def _web_port(wanted: int) -> int:
    if is_free(wanted):
        return wanted
    port = free_port()
    console.print(f"Port {wanted} is in use (`make run`?), so the demo's web server uses {port}.", style="yellow")
    return port


def _admin_login() -> str:
    """Creates the operator's account if it is missing. Returns a text that explains how to log in."""
    address = f"http://{HOST}:{settings.WEB_PORT}/admin/"
    name, password = os.environ.get("DJANGO_SUPERUSER_USERNAME"), os.environ.get("DJANGO_SUPERUSER_PASSWORD")
    if not name or not password:
        return f"{address} (DJANGO_SUPERUSER_USERNAME and _PASSWORD are not set: `manage.py createsuperuser`)"
    account = get_user_model().objects.filter(username=name).first()
    if account is None:
        manage("createsuperuser", "--noinput")
    elif not account.check_password(password):
        return f"{address} as {name}, whose password was changed after the stack was created"
    return f"{address} as {name} with the password {password}"


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
            issued = Campaign.objects.values_list("issued_count", flat=True).get(pk=campaign_id)
            pending = describe(campaign_id).pending if finished else None
            for name, count in zip(totals, (admitted, len(answers) - admitted, issued), strict=True):
                progress.update(tasks[name], completed=count)
            if finished:
                deadline = deadline or time.monotonic() + GIVE_UP_AFTER_SEC
                if (issued >= totals["issued"] and not pending) or time.monotonic() > deadline:
                    return
            services.check()
            time.sleep(LOOK_SEC)


def _checkout_faults(port: int, coupons: Sequence[Coupon]) -> list[str]:
    """Lets a shop use some of the coupons, and prints what it has done. Returns what was wrong."""
    plan = Plan.of(coupons)
    checkout = Checkout(url=f"http://{HOST}:{port}/api/v1", api_key=settings.API_KEYS[0])
    checkout.carry_out(plan)
    console.print(f"checkout  {plan}")
    return checkout.faults


def _ledger_faults(campaign_id: UUID) -> list[str]:
    """Prints the output of reconcile_campaigns. Returns a fault if the ledger does not close."""
    console.print("\nledger (admitted = issued + failed + pending):", style="bold")
    try:
        console.print(manage("reconcile_campaigns", str(campaign_id)))
    except ServiceFailed as error:
        return [str(error)]
    return []


def find_faults(*, answers: Sequence[Answer], coupons: Sequence[Coupon], users: int, quantity: int) -> list[str]:
    """Lists every way in which the promise was broken."""
    expected = min(users, quantity)
    told = {answer.user_id: answer.sequence for answer in answers if answer.admitted}
    written = {coupon.user_id: coupon.sequence for coupon in coupons}
    codes = {coupon.code for coupon in coupons}
    unexpected = Counter(
        f"{answer.status} {answer.code}".strip() if answer.status else f"no answer ({answer.code})"
        for answer in answers
        if not answer.admitted and (answer.status, answer.code) != (409, "sold-out")
    )
    checks = {
        f"{len(answers)} of {users} users got an answer": len(answers) == users,
        f"{len(told)} users were promised a coupon, expected {expected}": len(told) == expected,
        f"{len(coupons)} coupons were written, expected {expected}": len(coupons) == expected,
        f"the coupons belong to {len(written)} users, expected {expected}": len(written) == expected,
        f"the coupons have {len(codes)} codes": len(codes) == len(coupons),
        f"the sequences are not 1 to {expected}": sorted(written.values()) == list(range(1, expected + 1)),
        f"{len(told.keys() - written.keys())} users were promised and have no coupon": told.keys() <= written.keys(),
        f"{len(written.keys() - told.keys())} users have a coupon and were not promised": written.keys() <= told.keys(),
        "a user was promised another sequence than the coupon has": all(
            written.get(user_id, sequence) == sequence for user_id, sequence in told.items()
        ),
    }
    faults = [text for text, holds in checks.items() if not holds]
    return faults + [f"{count} users got the answer {text}" for text, count in unexpected.items()]


def _report(answers: list[Answer], coupons: list[Coupon]) -> None:
    sent_at = {answer.user_id: answer.sent_at for answer in answers}
    issued = [coupon for coupon in coupons if coupon.user_id in sent_at]
    waits_ms = [(coupon.issued_at.timestamp() - sent_at[coupon.user_id]) * 1000 for coupon in issued]
    if coupons:
        first, last = coupons[0], coupons[-1]
        console.print(f"sequence {first.sequence} went to user {first.user_id}, {last.sequence} to user {last.user_id}")
    if waits_ms:
        p50, p99 = percentile(waits_ms, 50), percentile(waits_ms, 99)
        console.print(f"from click to row: p50 {p50:.0f} ms, p99 {p99:.0f} ms")


if __name__ == "__main__":
    make_printing_harmless()
    sys.exit(main())
