"""The places of a campaign as Redis holds them, and what the users of a crowd were told of theirs."""

from redis import Redis

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.models import Campaign
from faults.crowd import Crowd
from faults.history import Request, read_history
from tests.support.promises import Promises


def places(campaign: Campaign, *, redis: Redis | None = None) -> Promises:
    """User -> sequence, also while the state is stale; empty when it is gone."""
    found: dict[bytes, bytes] = (redis or admission_redis()).hgetall(campaign_keys(campaign.pk).tickets)  # type: ignore[assignment]
    return {user.decode(): int(sequence) for user, sequence in found.items()}


def pending_users(campaign: Campaign) -> set[str]:
    users: list[bytes] = admission_redis().zrange(campaign_keys(campaign.pk).pending, 0, -1)  # type: ignore[assignment]
    return {user.decode() for user in users}


def assert_no_hole(campaign: Campaign) -> None:
    """Each sequence from 1 on was given once: nobody took two, and no fault cost one."""
    sequences = sorted(places(campaign).values())
    assert sequences == list(range(1, len(sequences) + 1))


def promised_after(crowd: Crowd, code: str) -> dict[str, Request]:
    """User -> the first promise, of those who had been told 503 `code` before they sent the request."""
    refused_at: dict[str, float] = {}
    promises: dict[str, Request] = {}
    for request in sorted(read_history(crowd.path).requests, key=lambda request: request.end):
        if request.promises:
            promises.setdefault(request.user_id, request)
        elif (request.status, request.code) == (503, code):
            refused_at.setdefault(request.user_id, request.end)
    return {user: one for user, one in promises.items() if one.start > refused_at.get(user, float("inf"))}


def nobody_is_promised_anything(crowd: Crowd, *, while_told: str) -> None:
    """Without Redis nobody at all; without Kafka nobody new: whose message was acknowledged before is told so.

    What was on its way when the fault began is answered first: whoever has been told 503 waits before he repeats.
    """
    promises = [202] if while_told == "unconfirmed" else [200, 202]
    crowd.is_told(503, while_told, times=25)
    before = [crowd.answers[status, ""] for status in promises]
    crowd.is_told(503, while_told, times=20)
    assert [crowd.answers[status, ""] for status in promises] == before


def assert_only_promised_or(crowd: Crowd, *codes: str) -> None:
    assert set(crowd.answers) <= {(202, ""), (200, ""), *((503, code) for code in codes)}, crowd.answers
