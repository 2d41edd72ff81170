"""Scans a campaign's keys in chunks, without checking that the state is current. All raise GateUnavailable.

A scan returns entries that exist from its beginning to its end at least once; those added or removed meanwhile, maybe.
"""

from collections.abc import Iterator
from itertools import islice
from uuid import UUID

from redis.exceptions import RedisError

from coupons.admission.gate import Held
from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.errors import GateUnavailable

CHUNK = 1_000


def scan_tickets(campaign_id: UUID) -> Iterator[tuple[str, int]]:
    """Yields every user with the sequence; a user may come twice."""
    redis, key = admission_redis(), campaign_keys(campaign_id).tickets
    try:
        for user, sequence in redis.hscan_iter(key, count=CHUNK):
            yield user.decode(errors="replace"), int(sequence)
    except RedisError as error:
        raise GateUnavailable(f"Redis: {error}") from error


def scan_pending(campaign_id: UUID) -> Iterator[tuple[str, float]]:
    """Yields every pending user with the score (messaging/positions.py); a user may come twice."""
    try:
        for user, score in admission_redis().zscan_iter(campaign_keys(campaign_id).pending, count=CHUNK):
            yield user.decode(errors="replace"), float(score)
    except RedisError as error:
        raise GateUnavailable(f"Redis: {error}") from error


def scan_held(campaign_id: UUID) -> Iterator[Held]:
    """Yields every ticket with its score; a ticket may come twice."""
    tickets = scan_tickets(campaign_id)
    pending_key = campaign_keys(campaign_id).pending
    while chunk := list(islice(tickets, CHUNK)):
        try:
            scores = admission_redis().zmscore(pending_key, [user for user, _ in chunk])
        except RedisError as error:
            raise GateUnavailable(f"Redis: {error}") from error
        for (user, sequence), score in zip(chunk, scores, strict=True):
            yield Held(user, sequence, score)
