"""The tickets of a campaign as Redis holds them, and what the users of a crowd were told of theirs."""

import time
from collections.abc import Iterable

from redis import Redis

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.models import Campaign
from coupons.runtime.failpoints import REBUILD_BEGUN
from faults.crowd import Crowd
from faults.history import Request, read_history
from tests.support.promises import Promises
from tests.support.service import Service
from tests.support.waiting import wait_until


def held_tickets(campaign: Campaign, *, redis: Redis | None = None) -> Promises:
    """User -> sequence, also while the state is stale; empty when it is gone."""
    found: dict[bytes, bytes] = (redis or admission_redis()).hgetall(campaign_keys(campaign.pk).tickets)  # type: ignore[assignment]
    return {user.decode(): int(sequence) for user, sequence in found.items()}


def pending_users(campaign: Campaign) -> set[str]:
    users: list[bytes] = admission_redis().zrange(campaign_keys(campaign.pk).pending, 0, -1)  # type: ignore[assignment]
    return {user.decode() for user in users}


def assert_no_hole(campaign: Campaign, *, lossy: Iterable[Crowd] = ()) -> None:
    """Each sequence from 1 on was given once: nobody took two, and no fault cost one.

    `lossy`: the users of a campaign whose Redis lost data. What a rebuild finds neither in the topic nor in PostgreSQL
    is lost with it, and leaves a hole if a later one was published: the ticket of one who was told 503 `unconfirmed`.
    """
    sequences = sorted(held_tickets(campaign).values())
    assert len(set(sequences)) == len(sequences)
    if not any(crowd.answers[503, "unconfirmed"] for crowd in lossy):
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


def promised_newcomers(crowd: Crowd, *, since: float) -> set[str]:
    """Who has been promised a coupon by now and had asked for nothing before that moment (monotonic)."""
    requests = read_history(crowd.path).requests
    before = {request.user_id for request in requests if request.start <= since}
    return {request.user_id for request in requests if request.promises} - before


def nobody_is_promised_anything(crowd: Crowd, *, while_told: str) -> None:
    """Without Redis nobody at all; without Kafka nobody new: whose message was acknowledged before is told so.

    What was on its way when the fault began is answered first: whoever has been told 503 waits before he repeats.
    """
    promises = [202] if while_told == "unconfirmed" else [200, 202]
    crowd.wait_for_answers(503, while_told, times=25)
    since = time.monotonic()
    before = [crowd.answers[status, ""] for status in promises]
    crowd.wait_for_answers(503, while_told, times=20)
    wait_until(lambda: _tellers(crowd, while_told, since=since) == set(crowd.addresses), what="each server has told so")
    assert [crowd.answers[status, ""] for status in promises] == before


def _tellers(crowd: Crowd, code: str, *, since: float) -> set[str]:
    told = [each for each in read_history(crowd.path).requests if each.start > since]
    return {each.address for each in told if (each.status, each.code) == (503, code)}


def closed_until_the_rebuild_goes_on(service: Service, crowd: Crowd) -> None:
    """REBUILD_BEGUN was armed to stop: no keeper is so fast, and no crowd so slow, that nobody was told 503
    meanwhile."""
    service.wait_for(REBUILD_BEGUN)
    crowd.wait_for_answers(503, "unavailable", times=20)
    service.resume(REBUILD_BEGUN)


def assert_only_promised_or(crowd: Crowd, *codes: str) -> None:
    """By each of the servers that it asked."""
    promising = {request.address for request in read_history(crowd.path).requests if request.promises}
    assert promising == set(crowd.addresses)
    assert set(crowd.answers) <= {(202, ""), (200, ""), *((503, code) for code in codes)}, crowd.answers
