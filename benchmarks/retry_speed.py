"""Rows a second of `retry_failed_coupons` beside a short and a long history of finished events, and of the consumer."""

import time
from statistics import median
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from benchmarks import sandbox
from benchmarks.consumer_speed import consume
from benchmarks.figures import Mark, median_ratio
from benchmarks.sandbox import DATABASE, DATABASES, using_database
from benchmarks.workload import LOADED_EPOCH, Run, admit_all, eight_digits, open_new, publish_all
from coupons.admission import gate
from coupons.database_wait import unlimited_waits
from coupons.issuing.failures import Failure, record_failures
from coupons.issuing.retry import retry_due_events
from coupons.messaging.messages import Ticket, encode
from coupons.models import FailCode, FailEventHistory

LASTING_SEC, MOST_DUE = 3.0, 20_000

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


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    """Needs that no other connection is open to the first database, which becomes the template of the second."""
    short, long = run.size(1_000, 1_000), run.size(1_000_000, 30_000)
    due, rows = 200, run.size(40_000, 6_000)
    connection.close()
    sandbox.create_database(run.server, DATABASES[1], template=DATABASE)
    for name, finished in zip(DATABASES, (short, long), strict=True):
        _fill(name, finished)
        run.say(f"{finished} finished events in {name}")
    rates: dict[str, list[float]] = {"consumer": [], "beside 1 k": [], "beside 1 M": []}
    for number in range(-run.size(1, 0), run.repeats):
        found = {"consumer": _consume(run, rows)}
        for name, database in zip(("beside 1 k", "beside 1 M"), DATABASES, strict=True):
            with using_database(database):
                found[name] = _retry(due)
        if number < 0:  # it warms up, and says how many rows last long enough
            due = run.size(min(max(int(found["beside 1 k"] * LASTING_SEC), due), MOST_DUE), due)
            continue
        for name, rate in found.items():
            rates[name].append(rate)
        run.say(f"{due} due; " + ", ".join(f"{name}: {rate:.0f} rows/s" for name, rate in found.items()))
    with using_database(DATABASES[1]):
        sandbox.forget_campaigns()
    of_the_consumer = median_ratio(rates["beside 1 k"], rates["consumer"])
    cost = median_ratio(rates["beside 1 k"], rates["beside 1 M"])
    result = {
        "due_rows": due,
        "finished": {"beside 1 k": short, "beside 1 M": long},
        "ratio_to_the_consumer": of_the_consumer,
        "cost_of_a_row_long_to_short": cost,
        "medians_rows_per_sec": {name: median(found) for name, found in rates.items()},
        "repeats_rows_per_sec": rates,
    }
    return result, [
        Mark("retry against the consumer", of_the_consumer, 0.5, "x"),
        Mark("retry, cost of a row beside 1 M finished ones to that beside 1 k", cost, 1.2, "x", at_least=False),
    ]


def _consume(run: Run, rows: int) -> float:
    campaign_id = open_new("consumer", rows)
    publish_all(admit_all(campaign_id, eight_digits(rows)))
    return consume(run, campaign_id, rows)


def _fill(name: str, finished: int) -> None:
    with using_database(name), unlimited_waits(), connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        # As a replica: these finished events have no coupons, which a trigger would refuse.
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(FILL_EVENTS, [finished])
        cursor.execute(FILL_ATTEMPTS)
        cursor.execute("SET session_replication_role = origin")
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
