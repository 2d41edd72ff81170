"""Measures rows a second from topic to commit: the real consumer, one save() per message, and COPY of the same rows."""

import time
from collections.abc import Sequence
from statistics import median
from typing import Any
from uuid import UUID

from confluent_kafka import Consumer, TopicPartition
from django.conf import settings
from django.db.models import Count, Max, Min

from benchmarks.figures import Mark, median_ratio, number
from benchmarks.workload import Run, admit_all, copy_coupons, eight_digits, open_new, publish_all
from coupons.issuing.insert_coupons import new_codes
from coupons.messaging.kafka import client_config
from coupons.messaging.messages import Ticket, decode
from coupons.messaging.topics import partition_lags
from coupons.models import Campaign, Coupon
from harness import MANAGE, Services

DEADLINE_SEC = 180.0


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    rows = run.size(100_000, 6_000)
    rates: dict[str, list[float]] = {"consumer": [], "save() a message": [], "COPY": []}
    for repeat in range(run.repeats):
        campaign_id = open_new(f"consumer {repeat}", rows)
        tickets = admit_all(campaign_id, eight_digits(rows))
        starts = {partition: lag.end for partition, lag in partition_lags().items()}
        publish_all(tickets)
        rates["consumer"].append(consume(run, campaign_id, rows))
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


def consume(run: Run, campaign_id: UUID, rows: int) -> float:
    """Runs the real consumer until it has written all of the campaign's messages. Returns rows a second."""
    with Services(log_folder=run.log_folder) as services:
        consumer = services.start("bench-consumer", [*MANAGE, "run_coupon_consumer", "--solo"])
        issued = Campaign.objects.filter(pk=campaign_id, issued_count=rows)
        services.wait("The coupons", issued.exists, deadline_sec=DEADLINE_SEC, service=consumer)
    return pace(campaign_id)


def pace(campaign_id: UUID) -> float:
    """Rows a second from the first batch's INSERT to the last one's, without the program's start and end."""
    coupons = Coupon.objects.filter(campaign_id=campaign_id)
    times = coupons.aggregate(first=Min("issued_at"), last=Max("issued_at"), rows=Count("pk"))
    last_batch = coupons.filter(issued_at=times["last"]).count()
    return float((times["rows"] - last_batch) / (times["last"] - times["first"]).total_seconds())


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
            Coupon(
                campaign_id=campaign_id, user_id=ticket.user_id, sequence=ticket.sequence, code=new_codes(1)[0]
            ).save()
            saved += 1
        return saved / (time.monotonic() - began)
    finally:
        consumer.close()


def _copy(tickets: Sequence[Ticket]) -> float:
    """The upper limit of the tables with their indexes and trigger."""
    return len(tickets) / copy_coupons(open_new("COPY", len(tickets)), tickets)
