"""Rows a second of `retry_failed_coupons` beside a short and a long history of finished events."""

import time
from statistics import median
from typing import Any

import psycopg2.extensions
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from benchmarks import sandbox
from benchmarks.figures import median_ratio
from benchmarks.sandbox import DATABASE, DATABASES, using_database
from benchmarks.workload import LOADED_EPOCH, Run, admit_all, eight_digits, open_new
from coupons.admission import gate
from coupons.database_wait import unlimited_waits
from coupons.issuing.failures import Failure, record_failures
from coupons.issuing.retry import retry_due_events
from coupons.messaging.messages import Ticket, encode
from coupons.models import FailCode, FailEventHistory

FILL_EVENTS = """
INSERT INTO coupons_faileventhistory (campaign_ref, user_id, sequence, payload, payload_hash, error_code,
    error_message, event_status, attempts, topic, partition, "offset", given_up_by, given_up_reason)
SELECT '', 'u' || n, n, convert_to('{"v":1,"user_id":"u' || n || '"}', 'UTF8'), md5(n::text) || md5('x' || n),
    'database-refused', 'finished long ago', 'SUCCESS', 1, 'history', 0, n, '', ''
FROM generate_series(1, %s) AS n
"""
FILL_ATTEMPTS = """
INSERT INTO coupons_failattempt (event_id, started_at, actor, error_code, error_message)
SELECT id, now(), 'benchmark', '', '' FROM coupons_faileventhistory
"""


def measure(run: Run, server: psycopg2.extensions.connection) -> dict[str, Any]:
    """Needs that no other connection is open to the first database, which becomes the template of the second."""
    short, long = run.size(1_000, 1_000), run.size(1_000_000, 30_000)
    due = run.size(1_000, 200)
    connection.close()
    sandbox.create_database(server, DATABASES[1], template=DATABASE)
    for name, finished in zip(DATABASES, (short, long), strict=True):
        _fill(name, finished)
        run.say(f"{finished} finished events in {name}")
    rates: dict[str, list[float]] = {str(short): [], str(long): []}
    for _ in range(run.repeats):
        for name, found in zip(DATABASES, rates.values(), strict=True):
            with using_database(name):
                found.append(_retry(due))
        run.say(", ".join(f"beside {finished}: {found[-1]:.0f} rows/s" for finished, found in rates.items()))
    with using_database(DATABASES[1]):
        sandbox.forget_campaigns()
    return {
        "due_rows": due,
        "ratio_long_to_short": median_ratio(rates[str(long)], rates[str(short)]),
        "medians_rows_per_sec": {finished: median(found) for finished, found in rates.items()},
        "repeats_rows_per_sec": rates,
    }


def _fill(name: str, finished: int) -> None:
    with using_database(name), unlimited_waits(), connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(FILL_EVENTS, [finished])
        cursor.execute(FILL_ATTEMPTS)
        cursor.execute("VACUUM ANALYZE coupons_faileventhistory, coupons_failattempt")


def _retry(due: int) -> float:
    campaign_id = open_new("retry", due)
    tickets = admit_all(campaign_id, eight_digits(due))
    record_failures([_failure(ticket) for ticket in tickets])
    gate.settle(campaign_id=campaign_id, epoch=LOADED_EPOCH, user_ids=[ticket.user_id for ticket in tickets])
    FailEventHistory.objects.filter(campaign_id=campaign_id).update(next_attempt_at=Now())
    began = time.monotonic()
    report = retry_due_events(limit=due, actor="benchmark")
    seconds = time.monotonic() - began
    assert report.succeeded == due, str(report)
    return due / seconds


def _failure(ticket: Ticket) -> Failure:
    """As if the database had refused this ticket for a reason that has passed."""
    return Failure(
        code=FailCode.DATABASE_REFUSED,
        reason="a passing reason",
        payload=encode(ticket),
        topic=settings.TOPIC,
        partition=0,
        offset=ticket.sequence,
        named={
            "campaign_id": str(ticket.campaign_id),
            "user_id": ticket.user_id,
            "sequence": ticket.sequence,
        },
    )
