"""Collects the evidence of a finding in one folder: all data, beside the history and the logs."""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connection

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.errors import DATABASE_DOWN, RetryLater
from coupons.messaging.log import read_log
from coupons.messaging.topics import partition_lags
from coupons.models import Campaign, Coupon, CouponEvent, FailAttempt, FailEventHistory, Redemption


def keep_evidence(folder: Path, campaign_ids: Iterable[UUID]) -> None:
    """Writes what it can read: the file of a server that does not answer is missing."""
    ids = list(campaign_ids)
    connection.close()
    with suppress(*DATABASE_DOWN):
        _write(folder / "campaigns.json", Campaign.objects.filter(pk__in=ids).values())
        _write(
            folder / "coupons.json", Coupon.objects.filter(campaign__in=ids).order_by("campaign", "sequence").values()
        )
        _write(folder / "redemptions.json", Redemption.objects.filter(coupon__campaign__in=ids).values())
        _write(folder / "coupon-events.json", CouponEvent.objects.filter(coupon__campaign__in=ids).values())
        _write(folder / "failed-events.json", FailEventHistory.objects.values())
        _write(folder / "attempts.json", FailAttempt.objects.values())
    with suppress(RetryLater):
        lags = partition_lags()
        _write(folder / "offsets.json", [{"partition": number, "lag": str(lag)} for number, lag in lags.items()])
        stretches = {number: (lag.start, lag.end) for number, lag in lags.items()}
        _write(
            folder / "topic.json",
            ({"position": each.position, "payload": each.payload} for each in read_log(stretches)),
        )
    for campaign_id in ids:
        _write(folder / f"redis-{campaign_id}.json", [_redis_of(campaign_id)])


def _redis_of(campaign_id: UUID) -> dict[str, Any]:
    keys = campaign_keys(campaign_id)
    redis = admission_redis()
    return {
        "campaign": redis.hgetall(keys.campaign),
        "tickets": redis.hgetall(keys.tickets),
        "pending": redis.zrange(keys.pending, 0, -1, withscores=True),
    }


def _write(file: Path, rows: Iterable[Any]) -> None:
    with file.open("w") as out:
        for row in rows:
            out.write(json.dumps(_readable(row)) + "\n")


def _readable(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode(errors="replace")
    if isinstance(value, dict):
        return {str(_readable(key)): _readable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(each) for each in value]
    return value if isinstance(value, int | float | str | None) else str(value)
