"""Measures rows a second from topic to commit: the real consumer, one save() per message, and COPY of the same rows."""

import io
import time
from collections.abc import Sequence
from statistics import median
from typing import Any
from uuid import UUID

from confluent_kafka import Consumer, TopicPartition
from django.conf import settings
from django.db import connection
from django.db.models import Max, Min

from benchmarks.figures import Mark, median_ratio, number
from benchmarks.workload import Run, admit_all, eight_digits, open_new, publish_all
from coupons.messaging.kafka import client_config
from coupons.messaging.messages import Ticket, decode
from coupons.messaging.topics import partition_lags
from coupons.models import Campaign, Coupon
from coupons.redemption.codes import former_code
from harness import MANAGE, Services, unlimited_waits

DEADLINE_SEC = 180.0


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    rows = run.size(100_000, 6_000)
    rates: dict[str, list[float]] = {"consumer": [], "save() a message": [], "COPY": []}
    for repeat in range(run.repeats):
        campaign_id = open_new(f"consumer {repeat}", rows)
        tickets = admit_all(campaign_id, eight_digits(rows))
        starts = {partition: lag.end for partition, lag in partition_lags().items()}
        publish_all(tickets)
        rates["consumer"].append(_consume(run, campaign_id, rows))
        rates["save() a message"].append(_save_one_by_one(starts, rows=run.size(3_000, 600)))
        rates["COPY"].append(_copy(tickets))
        run.say(", ".join(f"{name} {found[-1]:.0f} rows/s" for name, found in rates.items()))
    ratios = {name: median_ratio(rates["consumer"], rates[name]) for name in ("save() a message", "COPY")}
    result = {
        "rows": rows,
        "batch_size": settings.CONSUMER_BATCH_SIZE,
        "repeats_rows_per_sec": rates,
        "notes": {f"rows a second, {name}": number(median(found)) for name, found in rates.items()},
    }
    return result, [
        Mark("consumer against one save() a message", ratios["save() a message"], 15, "x"),
        Mark("consumer against COPY of the same rows", ratios["COPY"], 0.5, "x"),
    ]


def _consume(run: Run, campaign_id: UUID, rows: int) -> float:
    """Runs the real consumer until it has written all of the campaign's messages. Returns rows a second from the first
    batch's INSERT to the last one's, without the program's start and end."""
    with Services(log_folder=run.log_folder) as services:
        consumer = services.start("bench-consumer", [*MANAGE, "run_coupon_consumer", "--solo"])
        issued = Campaign.objects.filter(pk=campaign_id, issued_count=rows)
        services.wait("The coupons", issued.exists, deadline_sec=DEADLINE_SEC, service=consumer)
    coupons = Coupon.objects.filter(campaign_id=campaign_id)
    times = coupons.aggregate(first=Min("issued_at"), last=Max("issued_at"))
    before_last_batch = coupons.filter(issued_at__lt=times["last"]).count()
    return float(before_last_batch / (times["last"] - times["first"]).total_seconds())


def _save_one_by_one(starts: dict[int, int], *, rows: int) -> float:
    """The plain loop: take a message and save() its row. It commits no offsets, which favours it."""
    campaign_id = open_new("save() a message", rows)
    consumer = Consumer(client_config(**{"group.id": "none", "enable.auto.commit": False}))
    consumer.assign([TopicPartition(settings.TOPIC, *start) for start in starts.items()])
    saved, began = 0, 0.0
    try:
        while saved < rows:
            message = consumer.poll(1.0)
            if message is None or message.error() is not None:
                continue
            began = began or time.monotonic()
            ticket = decode(message.value())
            code = former_code()
            Coupon(campaign_id=campaign_id, user_id=ticket.user_id, sequence=ticket.sequence, code=code).save()
            saved += 1
        return saved / (time.monotonic() - began)
    finally:
        consumer.close()


def _copy(tickets: Sequence[Ticket]) -> float:
    """The upper limit of the tables with their indexes and trigger: COPY of prepared text in one transaction."""
    campaign_id, codes = open_new("COPY", len(tickets)), [former_code() for _ in tickets]
    rows = zip(tickets, codes, strict=True)
    lines = (f"{campaign_id}\t{ticket.user_id}\t{ticket.sequence}\t{code}\n" for ticket, code in rows)
    text = io.StringIO("".join(lines))
    with unlimited_waits(), connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        began = time.monotonic()
        cursor.copy_expert("COPY coupons_coupon (campaign_id, user_id, sequence, code) FROM STDIN", text)
        seconds = time.monotonic() - began
    assert Campaign.objects.get(pk=campaign_id).issued_count == len(tickets)
    return len(tickets) / seconds
