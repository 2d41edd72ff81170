"""`make soak MINUTES=30 SEED=...`: concurrent faults by a seeded schedule, over several campaigns and processes.

The soak runs in rounds: users apply and faults are injected for 90 s, then all faults end, and reconciliation and the
history checker check every promise. It stops at the first unexplained finding and puts all evidence into one folder.
The same seed gives the same schedule. PostgreSQL has a standby, which may be promoted. With BROKERS=3 brokers are lost
one by one. --kills is another schedule: SIGKILL to each process and server in turn, one every ten seconds for five
minutes, while 70 users a second apply for 20,000 coupons.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import django
import psycopg2
from django.core.management import call_command
from psycopg2 import sql
from stack_parts.home import Home

from couponsite.terminal import make_printing_harmless
from faults.links import brokers
from faults.postgres_pair import PostgresPair
from faults.soak.schedule import KINDS, kill_each, kinds_with, make_round
from faults.visits import Habits

if TYPE_CHECKING:
    from faults.soak.round import Round

RESULTS = Path(__file__).parents[1] / "results"
DATABASE = "test_soak"
ROUND_SEC = 90.0
EVERY_SEC = 7.0
SHOPS = 4
KILLS_SEC, KILLS_EVERY_SEC = 300.0, 10.0
KILLED = ("web-1", "consumer-1", "keeper-1", "redis", "kafka", "postgres")


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 = no findings, 1 = an unexplained finding, 2 = the soak could not start, 130 = interrupted."""
    options = parse(arguments)
    url = os.environ.get("DATABASE_URL", "")
    if not url:
        print("soak: DATABASE_URL is not set: use `make soak`.", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(os.environ.get("STACK_HOME", ".stack")).resolve() / "soak" / options.seed
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with _postgres() as postgres, _database(postgres.url(url)) as topic:
            return _soak(options, postgres.url(url), topic, folder, postgres)
    except KeyboardInterrupt:
        print("soak: interrupted; its processes have been stopped.", file=sys.stderr)
        return 130


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="start rounds for this time (default %(default)s)")
    parser.add_argument("--seed", default="", help="default: a new seed, which is printed")
    parser.add_argument("--kills", action="store_true", help="instead, kill each part in turn for five minutes")
    parser.add_argument("--users-per-sec", type=float, help="rate of new users; default 40, with --kills 70")
    names = sorted({kind.name for kind in KINDS})
    parser.add_argument("--only", action="append", choices=names, metavar="FAULT", help=f"may be repeated: {names}")
    parser.add_argument(
        "--round-sec", type=float, default=ROUND_SEC, help="time of faults in each round (default %(default)s)"
    )
    options = parser.parse_args(arguments)
    options.seed = options.seed or secrets.token_hex(4)
    return options


@contextmanager
def _postgres() -> Iterator[PostgresPair]:
    """The stack's PostgreSQL with a standby, which faults promote."""
    home = Home.current().root
    with closing(PostgresPair(home.with_name(f"{home.name}-standby"))) as pair:
        pair.follow()
        yield pair


@contextmanager
def _database(url: str) -> Iterator[str]:
    """Makes an empty database, whose name allows failpoints, and a topic. Both are kept for later inspection."""
    with_name = urlunsplit(urlsplit(url)._replace(path=f"/{DATABASE}"))
    server = psycopg2.connect(url)
    server.autocommit = True
    with server.cursor() as cursor:
        cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(DATABASE)))
        cursor.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(DATABASE)))
    server.close()
    topic = f"coupon_soak_{int(time.time())}"
    os.environ.update(
        DATABASE_URL=with_name,
        COUPON_TOPIC=topic,
        COUPON_CONSUMER_GROUP=topic,
        COUPON_LOG_LEVEL="ERROR",
        DJANGO_SETTINGS_MODULE="couponsite.settings",
    )
    django.setup()
    from coupons.admission.scripts import admission_redis
    from coupons.messaging.topics import create_topic

    admission_redis().flushall()
    call_command("migrate", verbosity=0)
    create_topic()
    yield topic


def _soak(options: argparse.Namespace, url: str, topic: str, folder: Path, postgres: PostgresPair) -> int:
    from faults.soak.deployment import Deployment
    from faults.soak.evidence import keep_evidence
    from faults.soak.round import run_round

    print(f"soak: seed {options.seed}; logs and histories in {folder}", flush=True)
    failpoints = Path(tempfile.mkdtemp(prefix="failpoints-", dir=folder))
    done: list[dict[str, Any]] = []
    findings: list[str] = []
    began = time.monotonic()
    with Deployment(folder, topic=topic, failpoints=failpoints, postgres=postgres) as deployment:
        for task in _rounds(options, began):
            run_round(task, deployment, folder=folder, database=DATABASE, url=url, say=_say)
            done.append(task.figures)
            _say(_line(task))
            findings = task.findings
            if findings:
                keep_evidence(folder, task.campaigns)
                (folder / "findings.txt").write_text("\n\n".join(findings) + "\n")
                print("\nUNEXPLAINED:", *findings, f"Evidence: {folder}", sep="\n  ")
                print(f"To repeat: make soak SEED={options.seed} MINUTES={options.minutes:g}")
                break
    _write(options, done, minutes=(time.monotonic() - began) / 60, findings=findings)
    return 1 if findings else 0


def _rounds(options: argparse.Namespace, began: float) -> Iterator["Round"]:
    from faults.soak.round import Round

    if options.kills:
        habits = Habits(users_per_sec=options.users_per_sec or 70, connections=64, shops=SHOPS, give_up_after_sec=600)
        steps = kill_each(KILLED, seconds=KILLS_SEC, every_sec=KILLS_EVERY_SEC)
        yield Round(1, KILLS_SEC, steps, [20_000], habits, until_sold_out=True)
        return
    number = 0
    while time.monotonic() - began < options.minutes * 60:
        number += 1
        rate = options.users_per_sec or 40
        habits = Habits(users_per_sec=rate, connections=32, shops=SHOPS, seed=number, give_up_after_sec=600)
        kinds = [kind for kind in kinds_with(brokers()) if not options.only or kind.name in options.only]
        steps = make_round(options.seed, number, seconds=options.round_sec, every_sec=EVERY_SEC, kinds=kinds)
        yield Round(number, options.round_sec, steps, [100, 600, 10_000], habits)


def _say(text: str) -> None:
    print(text, flush=True)


def _line(task: "Round") -> str:
    figures = task.figures
    checkouts = f"{figures['checkouts']['requests']} requests of shops"
    found = f"{len(task.findings)} UNEXPLAINED" if task.findings else "all explained"
    quiet = f"settled after {figures['quiet_after_sec']} s"
    return (
        f"  round {task.number}: {len(task.steps)} faults, {figures['requests']} requests, "
        f"{figures['promised']} promised, {checkouts}, p99 {figures['p99_sec']} s, {quiet}: {found}"
    )


def _write(options: argparse.Namespace, rounds: list[dict[str, Any]], *, minutes: float, findings: list[str]) -> None:
    kind = "kills" if options.kills else "soak"
    now = datetime.now(UTC)
    document = {
        "kind": kind if len(brokers()) == 1 else f"{kind}, {len(brokers())} brokers",
        "seed": options.seed,
        "ended_at": now.isoformat(timespec="seconds"),
        "minutes": round(minutes, 1),
        "unexplained": len(findings),
        "rounds": rounds,
    }
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{kind}-{now:%Y%m%dT%H%M%SZ}.json"
    file.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{len(rounds)} rounds in {minutes:.1f} minutes, {len(findings)} unexplained; figures: {file}")


if __name__ == "__main__":
    make_printing_harmless()
    sys.exit(main())
