"""Creates campaigns, tickets and messages in bulk with the product's own scripts and functions."""

import io
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import psycopg2.extensions
from django.db import connection
from django.utils import timezone

from coupons.admission import scripts
from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis, source
from coupons.campaigns.lifecycle import create_campaign, open_campaign
from coupons.campaigns.redis_sync import settings_of
from coupons.issuing.insert_coupons import new_codes
from coupons.messaging.messages import Ticket
from coupons.messaging.producer import publisher
from coupons.models import Campaign, CampaignState
from coupons.runtime.clock import moment_of
from harness import unlimited_waits

CHUNK = 5_000
ROWS = 1_000_000
LOADED_EPOCH = 1
FIRST_USER = 10_000_000

INSERT = """
INSERT INTO coupons_coupon (campaign_id, user_id, sequence, code)
SELECT %s, (%s + n)::text, n, md5(%s::text || n) FROM generate_series(%s, %s) AS n
"""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Run:
    """The size and the repeats of a run. `size` shrinks in a quick run."""

    quick: bool
    repeats: int
    log_folder: Path
    server: psycopg2.extensions.connection
    """A connection to the stack's usual database; it may create and drop others."""
    older: str = ""
    """The older commit that the product is compared with."""

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def say(self, text: str) -> None:
        print(f"  {text}", flush=True)


def open_new(name: str, quantity: int) -> UUID:
    campaign = create_campaign(name=name, quantity=quantity, actor="benchmark")
    open_campaign(campaign_id=campaign.pk, actor="benchmark")
    return campaign.pk


def admit_all(campaign_id: UUID, users: Sequence[str]) -> list[Ticket]:
    """Runs admit.lua for each user, many in one round trip. Returns the tickets of the admitted users."""
    redis = admission_redis()
    script = redis.register_script(source("admit"))
    script.sha = redis.script_load(source("admit"))
    tickets = []
    for chunk in chunks(users):
        pipeline = redis.pipeline(transaction=False)
        for user in chunk:
            pipeline.evalsha(script.sha, 3, *campaign_keys(campaign_id), LOADED_EPOCH, user)
        for user, (code, *values) in zip(chunk, pipeline.execute(), strict=True):
            if code == b"ADMITTED":
                tickets.append(Ticket(campaign_id, user, values[0], moment_of(values[1])))
    return tickets


def fill_redis(campaign_id: UUID, users: Sequence[str]) -> None:
    """Writes a campaign's state in Redis as it is after these users were admitted in this order and got coupons."""
    redis, keys = admission_redis(), campaign_keys(campaign_id)
    sequence = itertools.count(1)
    for chunk in chunks(users):
        redis.hset(keys.tickets, mapping={user: next(sequence) for user in chunk})
    counts: dict[Any, Any] = {"admitted": len(users), "settled": len(users), "next_sequence": len(users) + 1}
    redis.hset(keys.campaign, mapping=counts)


def insert_coupons(campaign_id: UUID, count: int) -> None:
    """Lets PostgreSQL create the coupons of the first `count` users of `eight_digits`, in this order."""
    with unlimited_waits(), connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        for first in range(1, count + 1, ROWS):
            cursor.execute(INSERT, [campaign_id, FIRST_USER - 1, campaign_id, first, min(first + ROWS - 1, count)])


def make_campaigns(count: int) -> None:
    """Creates open campaigns in bulk in PostgreSQL and in Redis, in the state that opening each would leave."""
    opened_at = timezone.now() - timedelta(hours=1)
    campaigns = [
        Campaign(
            name=f"known {number}",
            quantity=100,
            opens_at=opened_at,
            state=CampaignState.OPEN,
            epoch=LOADED_EPOCH,
            revision=1,
        )
        for number in range(count)
    ]
    Campaign.objects.bulk_create(campaigns, batch_size=1_000)
    calls = [(campaign_keys(each.pk), [LOADED_EPOCH, *settings_of(each).arguments()]) for each in campaigns]
    for start in range(0, count, 100):
        scripts.run_each("load", calls[start : start + 100])


def publish_all(tickets: Sequence[Ticket]) -> None:
    for chunk in chunks(tickets):
        for delivered in [publisher().publish(ticket) for ticket in chunk]:
            delivered.result(30)


def copy_coupons(campaign_id: UUID, tickets: Sequence[Ticket]) -> float:
    """Writes prepared text by COPY in one transaction. Returns the seconds."""
    codes = new_codes(len(tickets))
    lines = (
        f"{campaign_id}\t{ticket.user_id}\t{ticket.sequence}\t{code}\n"
        for ticket, code in zip(tickets, codes, strict=True)
    )
    text = io.StringIO("".join(lines))
    with unlimited_waits(), connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        began = time.monotonic()
        cursor.copy_expert("COPY coupons_coupon (campaign_id, user_id, sequence, code) FROM STDIN", text)
        seconds = time.monotonic() - began
        assert Campaign.objects.get(pk=campaign_id).issued_count == len(tickets)
    return seconds


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


def eight_digits(count: int) -> list[str]:
    return [str(number) for number in range(FIRST_USER, FIRST_USER + count)]
