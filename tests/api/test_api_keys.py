"""Services' API keys: what each may do and where, how soon a revoked one is refused, and what happens in an outage."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from coupons.admission.keys import API_KEYS
from coupons.admission.scripts import admission_redis
from coupons.auth import api_keys, snapshot
from coupons.auth.api_keys import create_api_key, push_api_keys, revoke_api_key
from coupons.auth.last_used import last_used
from coupons.auth.snapshot import KeySnapshot, key_snapshot
from coupons.errors import GateUnavailable, OperatorError, PushDidNotArrive
from coupons.models import ApiKey, Campaign, Scope
from coupons.recovery.keeper import Keeper
from tests.integration.test_keeper import a_keeper
from tests.support.clocks import Clock
from tests.support.commands import run
from tests.support.http import Api, assert_problem, json_of
from tests.support.looks import Looks
from tests.support.service import Service
from tests.support.waiting import wait_until

Make = Callable[..., Api]


@pytest.fixture(autouse=True)
def only_these_keys(settings: LazySettings, service: Service) -> None:
    settings.API_KEYS = []
    settings.API_KEYS_REFRESH_MS = 100
    key_snapshot.reset()


@pytest.fixture
def campaign(service: Service) -> Campaign:
    return service.campaign(10)


def a_key(*scopes: str, **more: object) -> tuple[ApiKey, Api]:
    """Known in this process when this returns."""
    row, key = create_api_key(name="shop", scopes=scopes or Scope.values, actor="test", **more)  # type: ignore[arg-type]
    key_snapshot.reset()
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


def test_a_key_expires_by_itself(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    _, api = a_key(expires_at=timezone.now() + timedelta(hours=1))
    assert api.apply(campaign, "1").status_code == 202

    monkeypatch.setattr(KeySnapshot, "has_expired", lambda snapshot, key: key.expires_at is not None)

    assert_problem(api.apply(campaign, "1"), 401, "unauthenticated")


def test_a_key_expires_by_redis_s_time_whatever_this_host_s_clock_says(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    expires_at = timezone.now() + timedelta(hours=1)
    row, api = a_key(expires_at=expires_at)
    monkeypatch.setattr(time, "time", lambda: expires_at.timestamp() + 3_600)

    assert api.apply(campaign, "1").status_code == 202

    known = key_snapshot().find(row.digest)
    assert known is not None
    redis_sec, _ = admission_redis().time()
    assert key_snapshot().has_expired(replace(known, expires_at=redis_sec - 10))


# --- revoked ---


@pytest.mark.attack("a revoked key", "used again at once", "401 within the refresh")
def test_a_revoked_key_is_refused_within_the_refresh(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is by the first look at Redis which begins after the revocation; such a look begins once a refresh."""
    row, api = a_key()
    assert api.apply(campaign, "1").status_code == 202
    looks = Looks(key_snapshot(), monkeypatch)

    revoke_api_key(prefix=row.prefix, actor="test", reason="stolen")

    looks.wait_for_next()
    assert_problem(api.apply(campaign, "1"), 401, "unauthenticated")
    row.refresh_from_db()
    assert (row.revoked_by, row.revoked_reason) == ("test", "stolen")


def test_a_revocation_that_did_not_reach_redis_is_pushed_by_the_keeper(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, api = a_key()
    with monkeypatch.context() as broken:
        broken.setattr(api_keys, "run", _no_redis)
        with pytest.raises(PushDidNotArrive, match="is revoked"):
            revoke_api_key(prefix=row.prefix, actor="test", reason="stolen")
    assert api.apply(campaign, "1").status_code == 202, "Redis has not heard of it"

    assert a_keeper().round()

    wait_until(lambda: api.apply(campaign, "1").status_code == 401, what="it is refused")


def test_a_key_that_could_not_be_pushed_is_made_all_the_same(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(api_keys, "run", _no_redis)
        with pytest.raises(api_keys.KeyNotPushed) as caught:
            create_api_key(name="shop", scopes=["apply"], actor="test")
    _, key = caught.value.made

    push_api_keys()
    key_snapshot.reset()

    assert Api(f"Bearer {key}").apply(campaign, "1").status_code == 202


def _no_redis(*_: object) -> list[object]:
    raise GateUnavailable("no Redis")


# --- outages ---


@pytest.mark.attack("a revoked key, and an older Redis", "the snapshot of before the revocation", "503, then 401")
def test_an_older_redis_does_not_bring_a_revoked_key_back(campaign: Campaign) -> None:
    """Its snapshot was pushed to another server process: it counts for nothing until PostgreSQL was asked again."""
    row, api = a_key()
    older: Any = admission_redis().hgetall(API_KEYS)
    revoke_api_key(prefix=row.prefix, actor="test", reason="stolen")
    admission_redis().hset(API_KEYS, mapping={**older, b"run_id": b"0" * 40})
    key_snapshot.reset()

    assert_problem(api.apply(campaign, "1"), 503, "unavailable")

    assert a_keeper().round()
    wait_until(lambda: api.apply(campaign, "1").status_code == 401, what="it is refused")


def test_a_flushed_redis_is_told_again(campaign: Campaign) -> None:
    _, api = a_key("read")
    admission_redis().delete(API_KEYS)
    key_snapshot.reset()
    assert_problem(api.campaign(campaign), 503, "unavailable")

    assert a_keeper().round()

    wait_until(lambda: api.campaign(campaign).status_code == 200, what="it is known again")


def test_without_redis_what_is_known_is_good_until_its_lease_ends(
    campaign: Campaign,
    service: Service,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    monkeypatch.setattr(snapshot, "time", SimpleNamespace(monotonic=clock))
    key_snapshot.reset()  # it reads once more, by that clock
    row, api = a_key("read")
    known = key_snapshot()
    assert api.campaign(campaign).status_code == 200
    service.stack("kill", "redis")
    wait_until(lambda: "api_keys.not_read" in caplog.text, what="it has noticed")
    lease_sec = settings.API_KEYS_LEASE_MS / 1000

    clock.advance(lease_sec - 0.001)
    assert known.find(row.digest) is not None
    assert api.campaign(campaign).status_code == 200
    clock.advance(0.001)
    assert_problem(api.campaign(campaign), 503, "unavailable")
    service.stack("start", "redis")
    settings.ACCEPT_TIMEOUT_MS = 1_000  # so long the rebuild waits for applications that may be under way
    a_keeper().round()
    wait_until(lambda: api.campaign(campaign).status_code == 200, what="it is known again")


def test_without_postgresql_nobody_is_locked_out_and_nobody_let_in(campaign: Campaign, service: Service) -> None:
    _, api = a_key()
    revoked, stranger = a_key()
    revoke_api_key(prefix=revoked.prefix, actor="test", reason="stolen")
    key_snapshot.reset()
    assert api.apply(campaign, "1").status_code == 202
    service.stack("stop", "postgres")
    key_snapshot.reset()

    assert api.apply(campaign, "2").status_code == 202
    assert_problem(stranger.apply(campaign, "3"), 401, "unauthenticated")

    service.stack("start", "postgres")


# --- the push ---


def test_a_push_says_whether_there_was_anything_to_push(service: Service) -> None:
    create_api_key(name="shop", scopes=["read"], actor="test")

    assert not push_api_keys(), "whoever made the key has pushed it"
    ApiKey.objects.update(expires_at=timezone.now())
    assert push_api_keys()
    assert not push_api_keys()


def test_a_push_that_stood_still_does_not_undo_a_later_one(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has read Redis and PostgreSQL; then a key is revoked and pushed; then it writes."""
    row, _ = a_key()
    ApiKey.objects.create(name="to push", prefix="other", digest="0", scopes=["read"])
    read = api_keys._document
    looks = []

    def stand_still() -> str:
        document = read()
        looks.append(document)
        if len(looks) == 1:
            revoke_api_key(prefix=row.prefix, actor="test", reason="stolen")
        return document

    monkeypatch.setattr(api_keys, "_document", stand_still)
    push_api_keys()

    assert row.prefix in looks[0]
    assert row.digest.encode() not in (admission_redis().hget(API_KEYS, "document") or b"")


# --- last used, commands, rows ---


def test_the_last_use_is_written_lazily(campaign: Campaign, settings: LazySettings) -> None:
    settings.API_KEYS_USE_SEC = 3_600
    last_used.reset()
    row, api = a_key()
    assert api.apply(campaign, "1").status_code == 202
    row.refresh_from_db()
    assert row.last_used_at is None, "no request waits for PostgreSQL"
    settings.API_KEYS_USE_SEC = 1
    last_used.reset()  # what it had noted is written at its end
    ApiKey.objects.update(last_used_at=None)
    assert api.apply(campaign, "1").status_code == 200

    def is_written() -> bool:
        row.refresh_from_db()
        return row.last_used_at is not None and timezone.now() - row.last_used_at < timedelta(minutes=1)

    wait_until(is_written, what="the last use is written")


def test_the_commands_make_and_revoke(campaign: Campaign) -> None:
    done = run("create_api_key", "--name", "shop", "--scope", "apply", "--campaign", campaign.pk)
    key = done.out.strip()
    key_snapshot.reset()
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


def test_the_database_keeps_a_key_from_meaning_more_than_was_asked(service: Service) -> None:
    wrongs: list[dict[str, Any]] = [{"scopes": []}, {"scopes": ["read"], "campaigns": []}]
    for wrong in wrongs:
        with pytest.raises(IntegrityError), transaction.atomic():
            ApiKey.objects.create(name="x", prefix="x", digest="x", **wrong)


@pytest.mark.attack("a stolen database", "its row and the snapshot in Redis are read", "neither has the key")
def test_the_key_itself_is_stored_nowhere(service: Service) -> None:
    _, key = create_api_key(name="shop", scopes=["read"], actor="test")
    secret = key.split("_", 2)[2]
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(k)::text FROM coupons_apikey k")
        stored = cursor.fetchall()[0][0]

    assert secret not in stored
    assert secret.encode() not in (admission_redis().hget(API_KEYS, "document") or b"")


def test_the_keeper_says_when_redis_cannot_be_told(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "run", _no_redis)
    keeper: Keeper = a_keeper()

    assert not keeper.round()
