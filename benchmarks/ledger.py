"""Measures time and memory of `reconcile_campaigns` with a million tickets and 300,000 redemptions, beside reading two
sources once."""

import os
import time
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from benchmarks.figures import Mark, at_most
from benchmarks.workload import (
    Run,
    admit_all,
    eight_digits,
    fill_redis,
    insert_coupons,
    open_new,
    publish_all,
    use_coupons,
)
from coupons.admission.ticket_store import scan_tickets
from coupons.messaging import read_offsets, topics
from coupons.messaging.messages import Ticket
from harness import MANAGE, ServiceFailed, Services, peak_mib, unlimited_waits

UNREAD_SHARE = 0.02
USED_SHARE = 0.3
LOOK_SEC = 0.05


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    """Checks a healthy state: all but the last tickets are issued and the first coupons are used, and the last tickets'
    messages wait for a consumer."""
    count = run.size(1_000_000, 20_000)
    campaign_id = open_new("verifier", count)
    users, written, used = eight_digits(count), int(count * (1 - UNREAD_SHARE)), int(count * USED_SHARE)
    fill_redis(campaign_id, users[:written])
    insert_coupons(campaign_id, written)
    use_coupons(campaign_id, used)
    at = timezone.now()
    publish_all([Ticket(campaign_id, user, sequence, at) for sequence, user in enumerate(users[:written], 1)])
    with transaction.atomic():
        read_offsets.advance({number: (0, lag.end) for number, lag in topics.partition_lags().items()})
    publish_all(admit_all(campaign_id, users[written:]))
    connection.close()
    run.say(f"{count} tickets, {count - written} of them unread messages; {used} redemptions")
    seconds, once, peaks = [], [], []
    for _ in range(run.repeats):
        once.append(_read_both_sides_once(campaign_id))
        took, peak = _reconcile(run, campaign_id)
        seconds.append(took)
        peaks.append(peak)
        run.say(f"reconcile_campaigns {took:.1f} s and {peak:.0f} MiB; HSCAN and COPY alone {once[-1]:.1f} s")
    said = f"{median(seconds):.1f} s and {max(peaks):.0f} MiB"
    title = f"`reconcile_campaigns`, {count:,} tickets, {used:,} redemptions"
    return {
        "tickets": count,
        "redemptions": used,
        "repeats_seconds": seconds,
        "repeats_reading_once_seconds": once,
        "repeats_peak_mib": peaks,
        "notes": {title: f"{said}; both sides read once {median(once):.1f} s"},
    }, [
        at_most("reconcile_campaigns, a million tickets", median(seconds), 60, " s"),
        at_most("reconcile_campaigns, peak memory", max(peaks), 200, " MiB"),
    ]


def _reconcile(run: Run, campaign_id: UUID) -> tuple[float, float]:
    """Runs the command as an operator does. Returns seconds and peak memory in MiB. Raises ServiceFailed unless the
    ledger closes."""
    began, peak = time.monotonic(), 0.0
    with Services(log_folder=run.log_folder) as services:
        service = services.start("bench-reconcile", [*MANAGE, "reconcile_campaigns", str(campaign_id)])
        while service.process.poll() is None:
            peak = max(peak, peak_mib(service.process.pid))
            time.sleep(LOOK_SEC)
    if service.process.returncode != 0:
        raise ServiceFailed(service.tail())
    return time.monotonic() - began, peak


def _read_both_sides_once(campaign_id: UUID) -> float:
    """Does the least that every comparison needs: reads all tickets from Redis and all coupons from PostgreSQL."""
    began = time.monotonic()
    assert sum(1 for _ in scan_tickets(campaign_id)) > 0
    with unlimited_waits(), connection.cursor() as cursor, Path(os.devnull).open("w") as nowhere:
        query = f"SELECT user_id, sequence FROM coupons_coupon WHERE campaign_id = '{campaign_id}'"  # noqa: S608  a UUID
        cursor.copy_expert(f"COPY ({query}) TO STDOUT", nowhere)
    return time.monotonic() - began
