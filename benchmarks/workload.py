"""Creates topics, campaigns, tickets and messages in bulk with the product's own scripts and functions."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import psycopg2.extensions
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # re-exported without __all__
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from benchmarks import BLOG_COUNT
from coupons.admission import campaign_store, scripts
from coupons.admission.campaign_store import Description
from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import create_campaign, open_campaign
from coupons.campaigns.redis_sync import settings_of
from coupons.messaging.messages import Ticket
from coupons.messaging.producer import publisher, publishers
from coupons.messaging.topics import administrator, create_topic
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

# Of four, two are redeemed, one is returned and one held.
REDEEM = """
INSERT INTO coupons_redemption (id, coupon_id, order_ref, state, hold_until, redeemed_at, ended_at)
SELECT gen_random_uuid(), id, 'order ' || sequence, state, CASE WHEN state = 'held' THEN now() + interval '1 day' END,
    CASE WHEN state <> 'held' THEN now() END, CASE WHEN state = 'returned' THEN now() END
FROM (
    SELECT id, sequence, (ARRAY['redeemed', 'returned', 'redeemed', 'held'])[1 + mod(sequence, 4)] AS state
    FROM coupons_coupon WHERE campaign_id = %s AND sequence <= %s
) AS used
"""
RECORD_EVENTS = """
INSERT INTO coupons_couponevent (coupon_id, redemption_id, kind, actor, reason)
SELECT coupon.id, used.id, unnest(CASE state WHEN 'returned' THEN ARRAY['redeemed', state] ELSE ARRAY[state] END),
    'benchmark', ''
FROM coupons_redemption AS used JOIN coupons_coupon AS coupon ON coupon.id = used.coupon_id
WHERE coupon.campaign_id = %s
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


def create_stores() -> None:
    call_command("migrate", verbosity=0)
    create_topic()


def remove_stores() -> None:
    """Removes the campaigns' keys in Redis and the topic, and closes the connections of this process."""
    for campaign_id in Campaign.objects.values_list("pk", flat=True):
        admission_redis().unlink(*campaign_keys(campaign_id))
    admission_redis().delete(BLOG_COUNT)
    connection.close()
    publishers.reset()
    delete_topic(settings.TOPIC)


@contextmanager
def spare_topic() -> Iterator[str]:
    """Creates another topic, for messages that the product's consumer must not read, and deletes it afterwards."""
    topic = f"{settings.TOPIC}_spare"
    administrator().create_topics([NewTopic(topic, num_partitions=settings.TOPIC_PARTITIONS)])[topic].result()
    try:
        yield topic
    finally:
        delete_topic(topic)


def delete_topic(topic: str) -> None:
    """Deletes a topic and its consumer group, which has the same name."""
    administrator().delete_consumer_groups([topic])[topic].exception()
    administrator().delete_topics([topic])[topic].result()


def open_new(name: str, quantity: int) -> UUID:
    campaign = create_campaign(name=name, quantity=quantity, actor="benchmark")
    open_campaign(campaign_id=campaign.pk, actor="benchmark")
    return campaign.pk


def describe(campaign_id: UUID) -> Description:
    """How many users Redis has admitted, and what became of them."""
    epoch = Campaign.objects.values_list("epoch", flat=True).get(pk=campaign_id)
    return campaign_store.describe(campaign_id=campaign_id, epoch=epoch)


def admit_all(campaign_id: UUID, users: Sequence[str]) -> list[Ticket]:
    """Runs admit.lua for each user, many in one round trip. Returns the tickets of the admitted users."""
    tickets, keys = [], campaign_keys(campaign_id)
    for chunk in chunks(users):
        replies = scripts.run_each("admit", [(keys, [LOADED_EPOCH, user]) for user in chunk])
        for user, (code, *values) in zip(chunk, replies, strict=True):
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


def use_coupons(campaign_id: UUID, count: int) -> None:
    """Lets orders redeem, hold and return the coupons with the first `count` sequences."""
    with unlimited_waits(), connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(REDEEM, [campaign_id, count])
        cursor.execute(RECORD_EVENTS, [campaign_id])


def make_campaigns(count: int) -> None:
    """Creates open campaigns in bulk in PostgreSQL and in Redis, in the state that opening each would leave."""
    opened_at = timezone.now() - timedelta(hours=1)
    state: dict[str, Any] = {"state": CampaignState.OPEN, "epoch": LOADED_EPOCH, "revision": 1}
    campaigns = [Campaign(name=f"known {n}", quantity=100, opens_at=opened_at, **state) for n in range(count)]
    Campaign.objects.bulk_create(campaigns, batch_size=1_000)
    for chunk in chunks(campaigns):
        calls = [(campaign_keys(each.pk), [LOADED_EPOCH, *settings_of(each).arguments()]) for each in chunk]
        scripts.run_each("load", calls)


def publish_all(tickets: Sequence[Ticket]) -> None:
    for chunk in chunks(tickets):
        for delivered in [publisher().publish(ticket) for ticket in chunk]:
            delivered.result(30)


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


def eight_digits(count: int) -> list[str]:
    return [str(number) for number in range(FIRST_USER, FIRST_USER + count)]
