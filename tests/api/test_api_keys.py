"""Services' API keys: what each may do and where, how soon a revoked one is refused, and what happens in an outage."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from coupons.auth.api_key_cache import LEASE_SEC, MISS_LEASE_SEC, api_key_cache
from coupons.auth.api_keys import create_api_key, revoke_api_key
from coupons.auth.revocations import share_revoked_keys
from coupons.errors import OperatorError
from coupons.models import ApiKey, Campaign, Scope
from tests.support.clocks import Clock
from tests.support.commands import run
from tests.support.counted_reads import CountedReads
from tests.support.http import Api, assert_problem, json_of
from tests.support.service import Service
from tests.support.waiting import hold, wait_until

Make = Callable[..., Api]


@pytest.fixture(autouse=True)
def only_these_keys(settings: LazySettings, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.API_KEYS = []
    monkeypatch.setattr("coupons.auth.api_key_cache.REFRESH_SEC", 0.1)
    api_key_cache.reset()


@pytest.fixture
def campaign(service: Service) -> Campaign:
    return service.campaign(10)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time for which keys are good; they are read once, when `a_key` has made one."""
    clock = Clock()
    monkeypatch.setattr("coupons.auth.api_key_cache.REFRESH_SEC", 3_600.0)
    monkeypatch.setattr("coupons.auth.api_key_cache.time", SimpleNamespace(monotonic=clock))
    return clock


def a_key(*scopes: str, **more: object) -> tuple[ApiKey, Api]:
    """Known in this process when this returns."""
    row, key = create_api_key(name="shop", scopes=scopes or Scope.values, actor="test", **more)  # type: ignore[arg-type]
    api_key_cache.reset()
    return row, Api(f"Bearer {key}")


# --- what it may do ---


@pytest.mark.attack("a key without the scope", "7 requests with each scope alone", "403")
def test_a_key_opens_what_its_scopes_say(campaign: Campaign) -> None:
    requests: list[tuple[str, Callable[[Api], int]]] = [
        ("apply", lambda api: api.apply(campaign, "1").status_code),
        ("read", lambda api: api.ticket(campaign, "1").status_code),
        ("read", lambda api: api.campaign(campaign).status_code),
        ("read", lambda api: api.get("campaigns").status_code),
        ("manage", lambda api: api.post("campaigns", {"name": "new", "quantity": 1}).status_code),
        ("manage", lambda api: api.patch(f"campaigns/{campaign.pk}", {"name": "other"}).status_code),
        ("manage", lambda api: api.act(campaign, "pause").status_code),
    ]
    for scope in Scope.values:
        _, api = a_key(scope)
        for needed, send in requests:
            status = send(api)
            assert (status == 403) == (needed != scope), (scope, needed, status)
            assert status < 500
        if scope == "manage":
            assert api.act(campaign, "resume").status_code == 200


@pytest.mark.attack("a key for another campaign", "apply, ticket, read, close", "404")
def test_a_key_for_certain_campaigns_sees_no_others(campaign: Campaign, service: Service) -> None:
    other = service.campaign(10)
    _, api = a_key(campaign_ids=[campaign.pk])

    assert api.apply(campaign, "1").status_code == 202
    assert [each["id"] for each in json_of(api.get("campaigns"))["results"]] == [str(campaign.pk)]
    for answer in (api.apply(other, "1"), api.ticket(other, "1"), api.campaign(other), api.act(other, "close")):
        assert_problem(answer, 404, "not-found")
    assert_problem(api.post("campaigns", {"name": "new", "quantity": 1}), 403, "forbidden")


def test_wrong_keys_are_not_known(campaign: Campaign) -> None:
    row, good = a_key()
    assert good.apply(campaign, "1").status_code == 202

    for wrong in ("coupon_", f"coupon_{row.prefix}_", f"coupon_{row.prefix}_{'A' * 43}", row.digest, row.prefix):
        assert_problem(Api(f"Bearer {wrong}").apply(campaign, "1"), 401, "unauthenticated")


def test_a_key_expires_by_the_clock_of_postgresql(
    campaign: Campaign, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    expires_at = timezone.now() + timedelta(minutes=30)
    _, api = a_key(expires_at=expires_at)
    monkeypatch.setattr(time, "time", lambda: expires_at.timestamp() + 3_600)
    assert api.apply(campaign, "1").status_code == 202

    clock.advance(29 * 60)
    assert api.apply(campaign, "1").status_code == 200
    clock.advance(60)
    assert "has expired" in assert_problem(api.apply(campaign, "1"), 401, "unauthenticated")["detail"]


# --- revoked ---


@pytest.mark.attack("a revoked key", "used again at once", "401 within the refresh")
def test_a_revoked_key_is_refused_within_the_refresh(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is by the first read of PostgreSQL that begins after the revocation; one begins each refresh."""
    reads = CountedReads(monkeypatch)
    row, api = a_key()
    assert api.apply(campaign, "1").status_code == 202

    revoke_api_key(prefix=row.prefix, actor="test", reason="stolen")

    reads.wait_for_next()
    assert_problem(api.apply(campaign, "1"), 401, "unauthenticated")
    row.refresh_from_db()
    assert (row.revoked_by, row.revoked_reason) == ("test", "stolen")


@pytest.mark.attack("a revoked key, and an older PostgreSQL", "its row is good again", "401 in each process that knew")
def test_a_revoked_key_stays_revoked_in_an_older_postgresql(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = CountedReads(monkeypatch)
    row, api = a_key()
    assert api.apply(campaign, "1").status_code == 202
    revoke_api_key(prefix=row.prefix, actor="test", reason="stolen")
    reads.wait_for_next()

    ApiKey.objects.update(revoked_at=None)

    reads.wait_for_next()
    assert_problem(api.apply(campaign, "1"), 401, "unauthenticated")


def test_a_process_that_starts_later_does_not_believe_the_copy(campaign: Campaign, service: Service) -> None:
    """Redis remembers the revocation for it; without Redis it takes what PostgreSQL says."""
    row, api = a_key()
    assert api.apply(campaign, "1").status_code == 202
    revoke_api_key(prefix=row.prefix, actor="test", reason="stolen")
    wait_until(lambda: row.digest in share_revoked_keys(), what="Redis knows")

    ApiKey.objects.update(revoked_at=None)
    api_key_cache.reset()

    assert_problem(api.apply(campaign, "1"), 401, "unauthenticated")
    service.stack("stop", "redis")
    api_key_cache.reset()
    assert api.get("campaigns").status_code == 200
    service.stack("start", "redis")
    wait_until(lambda: api.get("campaigns").status_code == 401, what="it has heard of it")


# --- PostgreSQL does not answer ---


def test_without_postgresql_a_known_key_is_good_for_its_lease(campaign: Campaign, clock: Clock) -> None:
    _, api = a_key()
    assert api.apply(campaign, "1").status_code == 202

    clock.advance(LEASE_SEC - 0.001)
    assert api.apply(campaign, "1").status_code == 200
    clock.advance(0.001)
    assert_problem(api.apply(campaign, "1"), 503, "unavailable")


def test_without_postgresql_an_unknown_key_may_be_a_new_one(campaign: Campaign, clock: Clock) -> None:
    a_key()
    stranger = Api("Bearer coupon_00000000_unknown")
    assert_problem(stranger.apply(campaign, "1"), 401, "unauthenticated")

    clock.advance(MISS_LEASE_SEC)

    assert_problem(stranger.apply(campaign, "1"), 503, "unavailable")


def test_without_postgresql_a_key_that_was_revoked_stays_so(campaign: Campaign, service: Service) -> None:
    _, api = a_key()
    revoked, stranger = a_key()
    assert api.apply(campaign, "1").status_code == 202
    revoke_api_key(prefix=revoked.prefix, actor="test", reason="stolen")
    wait_until(lambda: stranger.apply(campaign, "3").status_code == 401, what="the revocation is known")
    service.stack("stop", "postgres")

    assert api.apply(campaign, "2").status_code == 202
    assert_problem(stranger.apply(campaign, "3"), 401, "unauthenticated")


def test_keys_become_known_once_postgresql_is_up(campaign: Campaign, service: Service, settings: LazySettings) -> None:
    _, api = a_key()
    assert api.apply(campaign, "1").status_code == 202  # the campaign is known
    settings.API_KEYS = ["named"]
    service.stack("stop", "postgres")
    api_key_cache.reset()

    assert_problem(api.apply(campaign, "2"), 503, "unavailable")
    assert Api("Bearer named").apply(campaign, "3").status_code == 202

    service.stack("start", "postgres")
    wait_until(lambda: api.apply(campaign, "2").status_code == 202, what="the key is known")


# --- last used, commands, rows ---


def test_the_last_use_is_written_once_a_minute(campaign: Campaign) -> None:
    row, api = a_key()
    assert api.apply(campaign, "1").status_code == 202
    first = wait_until(lambda: last_used(row), what="the first use is written")

    assert api.apply(campaign, "1").status_code == 200
    hold(0.5, lambda: last_used(row) == first, "within the minute it is not written again")

    ApiKey.objects.update(last_used_at=first - timedelta(minutes=2))
    assert api.apply(campaign, "1").status_code == 200
    wait_until(lambda: (last_used(row) or first) > first, what="a minute later it is")


def last_used(row: ApiKey) -> datetime | None:
    row.refresh_from_db()
    return row.last_used_at


def test_the_commands_make_and_revoke(campaign: Campaign) -> None:
    done = run("create_api_key", "--name", "shop", "--scope", "apply", "--campaign", campaign.pk)
    key = done.out.strip()
    api_key_cache.reset()
    api = Api(f"Bearer {key}")
    assert api.apply(campaign, "1").status_code == 202
    assert_problem(api.ticket(campaign, "1"), 403, "forbidden")

    prefix = key.split("_")[1]
    assert f"revoke_api_key {prefix}" in done.err
    assert "is revoked" in run("revoke_api_key", prefix, "--reason", "test").out
    again = run("revoke_api_key", prefix, "--reason", "again")
    assert (again.code, "was revoked at" in again.err) == (1, True)
    unknown = run("revoke_api_key", "nothing", "--reason", "test")
    assert (unknown.code, "no API key" in unknown.err) == (1, True)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 101}, "name: .*100 characters"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["admin"]}, "scopes"),
        ({"expires_at": timezone.now() - timedelta(days=1)}, "expires_at"),
        ({"campaign_ids": ["0198c2a4-0000-7000-8000-000000000000"]}, "campaigns"),
    ],
)
def test_what_makes_no_sense_is_refused(service: Service, values: dict[str, object], words: str) -> None:
    good: dict[str, object] = {"name": "shop", "scopes": ["read"], "actor": "test"}

    with pytest.raises(OperatorError, match=words):
        create_api_key(**{**good, **values})  # type: ignore[arg-type]

    assert not ApiKey.objects.exists()


def test_the_database_refuses_a_key_without_scopes_or_campaigns(service: Service) -> None:
    wrongs: list[dict[str, Any]] = [{"scopes": []}, {"scopes": ["read"], "campaigns": []}]
    for wrong in wrongs:
        with pytest.raises(IntegrityError), transaction.atomic():
            ApiKey.objects.create(name="x", prefix="x", digest="x", **wrong)


@pytest.mark.attack("a stolen database", "the row of a key is read", "it does not have the key")
def test_the_key_itself_is_stored_nowhere(service: Service) -> None:
    _, key = create_api_key(name="shop", scopes=["read"], actor="test")
    secret = key.split("_", 2)[2]
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(k)::text FROM coupons_apikey k")
        stored = cursor.fetchall()[0][0]

    assert secret not in stored
