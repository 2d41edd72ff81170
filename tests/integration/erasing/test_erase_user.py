"""A user is erased: the id is nowhere any more, the ledger closes, and nothing brings the user back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import IntegrityError, connection

from coupons.admission import ticket_store
from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import change_campaign, close_campaign
from coupons.erasing import erase_user as erase_module
from coupons.erasing.erase_user import PREFIX, Erasure, erase_user
from coupons.errors import OperatorError, PushDidNotArrive, StateStale, UnknownCodeKey
from coupons.issuing import issue as issue_module
from coupons.issuing.failed_events import give_up_events
from coupons.models import (
    AuditEntry,
    Campaign,
    Coupon,
    CouponEvent,
    ErasedTicket,
    EventStatus,
    FailAttempt,
    FailCode,
    FailEventHistory,
)
from coupons.reconciliation.unload import unload_campaigns
from coupons.recovery.locks import Work, work_lock
from coupons.redemption import redeem
from coupons.runtime.failpoints import ERASURE_COMMITTED
from faults.ledgers import reconcile
from tests.integration.recovery.test_keeper import a_keeper, make_stale
from tests.support import failed_events
from tests.support.commands import run
from tests.support.service import Service, message
from tests.support.tickets import (
    admit,
    consume,
    issued_users,
    publish_and_mark,
    rebuild,
    received,
    were_read,
)

USER = "kim.lee@example.test"
REASON = "request 2026-118"


def erase(user_id: str = USER) -> Erasure:
    return erase_user(user_id=user_id, actor="op", reason=REASON)


def campaign_with(service: Service, *users: str, close: bool = True) -> Campaign:
    """Their coupons are issued, and the topic still has their messages, which were read."""
    campaign = service.campaign(10)
    for user, sequence in zip(users, admit(campaign, *users), strict=True):
        position = publish_and_mark(campaign, user, sequence)
        consume(received(campaign, user, sequence, offset=position.offset))
        were_read(position)
    if close:
        close_campaign(campaign_id=campaign.pk, actor="test")
    campaign.refresh_from_db()
    return campaign


def tickets_of(campaign: Campaign) -> dict[str, int]:
    return dict(ticket_store.scan_tickets(campaign.pk))


def assert_closes(campaign: Campaign) -> None:
    [ledger] = reconcile(campaign_ids=[campaign.pk])
    assert ledger.closes, ledger.document()
    assert not ledger.differences, ledger.document()


def places_that_name(user_id: str) -> list[str]:
    """Every table with a row that has this text, as text or as bytes; and every key of Redis."""
    found = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(
                f"SELECT count(*) FROM {table} AS each WHERE each::text LIKE %s OR each::text LIKE %s",  # noqa: S608
                [f"%{user_id}%", f"%{user_id.encode().hex()}%"],
            )
            if cursor.fetchone()[0]:
                found.append(table)
    redis: Any = admission_redis()
    for key in redis.scan_iter():
        kind = redis.type(key)
        members = redis.hkeys(key) if kind == b"hash" else redis.zrange(key, 0, -1) if kind == b"zset" else []
        found += [key.decode()] if user_id.encode() in members else []
    return found


# --- what is replaced ---------------------------------------------------------------------------------------


def test_the_id_is_nowhere_any_more_and_the_ledger_closes(service: Service) -> None:
    campaign = campaign_with(service, USER, "other")
    coupon = Coupon.objects.get(user_id=USER)
    redeem.redeem(
        code=coupon.code, order_ref="1", user_id=USER, hold_sec=None, actor="test", may_touch=lambda campaign_id: True
    )
    use = coupon.redemptions.get()
    redeem.return_redemption(
        redemption_id=use.pk, reason=f"{USER} sent it back", actor="op", may_touch=lambda c: True, audited=True
    )
    before = Coupon.objects.values("code", "sequence", "issued_at").get(pk=coupon.pk)

    erased = erase()

    assert erased.pseudonym.startswith(PREFIX)
    assert places_that_name(USER) == []
    assert issued_users(campaign) == {erased.pseudonym: 1, "other": 2} == tickets_of(campaign)
    assert Coupon.objects.values("code", "sequence", "issued_at").get(pk=coupon.pk) == before
    assert CouponEvent.objects.get(kind="returned").reason == f"{erased.pseudonym} sent it back"
    returned = AuditEntry.objects.get(what__startswith="Returned")
    assert (returned.object_name, returned.reason) == (f"{erased.pseudonym} #1", f"{erased.pseudonym} sent it back")
    assert_closes(campaign)


def test_failed_events_keep_no_id_in_columns_payload_or_texts(service: Service) -> None:
    campaign = campaign_with(service, "other", close=False)
    (sequence,) = admit(campaign, USER)
    payload = message(campaign.pk, USER, sequence)
    event = failed_events.failed(
        9,
        payload,
        campaign=campaign,
        user_id=USER,
        sequence=sequence,
        error_message=f"Key (user_id)=({USER}) already exists.",
    )
    hashed = event.payload_hash
    FailAttempt.objects.create(event=event, started_at=event.created_at, actor="x", error_message=f"({USER}) again")
    assert give_up_events(event_ids=[event.pk], actor="op", reason=f"refunded {USER}") == 1
    ticket_store.settle(epochs={campaign.pk: campaign.epoch}, users={campaign.pk: [USER]})
    close_campaign(campaign_id=campaign.pk, actor="test")

    erased = erase()

    event.refresh_from_db()
    assert places_that_name(USER) == []
    assert (event.user_id, event.sequence, event.payload_hash) == (erased.pseudonym, sequence, hashed)
    assert bytes(event.payload) == message(campaign.pk, erased.pseudonym, sequence)
    assert event.error_message == f"Key (user_id)=({erased.pseudonym}) already exists."
    assert event.given_up_reason == f"refunded {erased.pseudonym}"
    assert_closes(campaign)
    handled = consume(received(campaign, USER, sequence, offset=9))
    assert (handled.done, handled.failed) == (0, 0)
    assert places_that_name(USER) == []


@pytest.mark.parametrize("user", [USER, "42"])
def test_messages_that_could_not_be_read_or_believed_are_searched_too(service: Service, user: str) -> None:
    campaign_with(service, user)
    forged = message("nowhere", user, 42)
    broken = f'{{"user_id":"{user}","sequence":42, '.encode()
    failed_events.failed(1, forged, error_code=FailCode.UNAUTHENTIC)
    failed_events.failed(2, broken, error_code=FailCode.INVALID_MESSAGE)

    erased = erase(user)

    payloads = [bytes(event.payload) for event in FailEventHistory.objects.order_by("offset")]
    assert payloads == [
        message("nowhere", erased.pseudonym, 42),
        f'{{"user_id":"{erased.pseudonym}","sequence":42, '.encode(),
    ]


def test_a_short_id_is_a_word_like_others_outside_its_own_rows(service: Service) -> None:
    campaign = campaign_with(service, "42")
    coupon = Coupon.objects.get()
    redeem.revoke_coupon(code=coupon.code, reason="42 asked for it", actor="op", may_touch=lambda campaign_id: True)
    change_campaign(campaign_id=campaign.pk, changes={"metadata": {"value": 42}}, actor="op", reason="42 won")

    erased = erase("42")

    revoked = AuditEntry.objects.get(what="Revoked")
    assert (revoked.object_name, revoked.reason) == (f"{erased.pseudonym} #1", f"{erased.pseudonym} asked for it")
    changed = AuditEntry.objects.get(what__startswith="Changed metadata")
    assert (changed.what, changed.reason) == ('Changed metadata from {} to {"value": 42}', "42 won")


def test_an_unmistakable_id_is_found_in_every_text_of_the_audit(service: Service) -> None:
    campaign = campaign_with(service, USER)
    change_campaign(campaign_id=campaign.pk, changes={"metadata": {}}, actor="op", reason=f"asked by {USER}.")
    change_campaign(campaign_id=campaign.pk, changes={"metadata": {}}, actor="op", reason=f"asked by x{USER}")

    erased = erase()

    reasons = AuditEntry.objects.filter(what__startswith="Changed").order_by("pk").values_list("reason", flat=True)
    assert list(reasons) == [f"asked by {erased.pseudonym}.", f"asked by x{USER}"], "another id ends as this one"


def test_the_audit_keeps_who_erased_and_why_and_not_whom(service: Service) -> None:
    campaign = campaign_with(service, USER)
    ran = run("erase_user", USER, "--reason", REASON)

    entry = AuditEntry.objects.get(what__startswith="Erased a user")
    assert (entry.object_id, entry.reason) == (str(campaign.pk), REASON)
    assert ran.code == 0
    assert ran.out.split(":")[0] in entry.what
    assert USER not in ran.out + ran.err


def test_final_rows_are_final_again_in_the_same_session(service: Service) -> None:
    campaign_with(service, USER)
    pseudonym = erase().pseudonym

    with pytest.raises(IntegrityError, match="is final"), connection.cursor() as cursor:
        cursor.execute("UPDATE coupons_auditentry SET reason = replace(reason, 'test', %s)", [pseudonym])


# --- nothing brings the user back ---------------------------------------------------------------------------


@pytest.fixture
def erased(service: Service) -> Iterator[tuple[Campaign, str]]:
    """A campaign of the erased user, the other's coupon is #2; and the pseudonym."""
    campaign = campaign_with(service, USER, "other")
    pseudonym = erase().pseudonym
    campaign.refresh_from_db()
    yield campaign, pseudonym
    assert places_that_name(USER) == []
    assert issued_users(campaign) == {pseudonym: 1, "other": 2}
    assert tickets_of(campaign) == {pseudonym: 1, "other": 2}
    assert_closes(campaign)


@pytest.mark.parametrize("whole_topic", [False, True])
def test_a_rebuild_does_not(erased: tuple[Campaign, str], whole_topic: bool) -> None:
    campaign, _ = erased
    rebuild(campaign, whole_topic=whole_topic)


def test_a_redis_that_lost_everything_does_not(erased: tuple[Campaign, str]) -> None:
    campaign, _ = erased
    admission_redis().flushall()
    rebuild(campaign, whole_topic=True)


def test_an_older_copy_of_redis_does_not(erased: tuple[Campaign, str]) -> None:
    campaign, pseudonym = erased
    redis, keys = admission_redis(), campaign_keys(campaign.pk)
    redis.hdel(keys.tickets, pseudonym)
    redis.hset(keys.tickets, USER, 1)
    make_stale(campaign)
    rebuild(campaign)


def test_a_message_that_comes_again_does_not(erased: tuple[Campaign, str]) -> None:
    campaign, _ = erased
    handled = consume(received(campaign, USER, 1, offset=50), received(campaign, USER, 1, offset=51, epoch=1))

    assert (handled.done, handled.duplicates, handled.failed) == (0, 2, 0)


def test_rows_that_were_deleted_come_back_under_the_pseudonym(erased: tuple[Campaign, str]) -> None:
    """With another code: it is derived from the user's id."""
    campaign, pseudonym = erased
    code = Coupon.objects.get(user_id=pseudonym).code
    Coupon.objects.filter(user_id=pseudonym).delete()
    rebuild(campaign, whole_topic=True)
    handled = consume(received(campaign, pseudonym, 1, offset=60))

    assert handled.done == 1
    assert Coupon.objects.get(user_id=pseudonym).code != code


def test_the_user_may_come_to_another_campaign_and_be_erased_again(service: Service) -> None:
    first = campaign_with(service, USER)
    pseudonym = erase().pseudonym
    second = campaign_with(service, USER)
    assert issued_users(second) == {USER: 1}

    assert erase().pseudonym == pseudonym

    assert places_that_name(USER) == []
    for campaign in (first, second):
        assert issued_users(campaign) == {pseudonym: 1}
        assert_closes(campaign)


def test_an_unloaded_campaign_needs_no_redis(service: Service) -> None:
    campaign = campaign_with(service, USER)
    unloaded = unload_campaigns(campaign_ids=[campaign.pk], actor="op", sleep=lambda seconds: None)
    assert unloaded.unloaded

    erased = erase()

    handled = consume(received(campaign, USER, 1, offset=50))
    assert (handled.duplicates, handled.failed) == (1, 0)
    assert (erased.tickets, issued_users(campaign)) == (0, {erased.pseudonym: 1})
    assert places_that_name(USER) == []
    assert run("reconcile_campaigns").code == 0


# --- killed, and at the same time ---------------------------------------------------------------------------


def test_after_a_kill_before_redis_the_keeper_goes_on(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = campaign_with(service, USER, "other")

    def die(point: str) -> None:
        raise KeyboardInterrupt(point)

    with monkeypatch.context() as dying:
        dying.setattr(erase_module, "failpoint", die)
        with pytest.raises(KeyboardInterrupt, match=ERASURE_COMMITTED):
            erase()
    assert USER in tickets_of(campaign)
    with pytest.raises(StateStale):  # a second run waits for it
        erase()

    assert a_keeper().round()

    pseudonym = Coupon.objects.get(sequence=1).user_id
    assert tickets_of(campaign) == {pseudonym: 1, "other": 2}
    assert places_that_name(USER) == []
    assert_closes(campaign)
    assert erase().pseudonym == pseudonym


def test_a_redis_that_cannot_follow_is_told_and_rebuilt(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = campaign_with(service, USER)

    def fail(**named: Any) -> bool:
        raise StateStale("rebuilding", campaign_id=campaign.pk, reason="rebuilding")

    with monkeypatch.context() as failing:
        failing.setattr(ticket_store, "erase", fail)
        with pytest.raises(PushDidNotArrive, match="erased in PostgreSQL, and Redis"):
            erase()
    assert a_keeper().round()

    assert places_that_name(USER) == []
    assert_closes(campaign)


def test_a_second_run_finds_nothing_and_takes_what_came_since(service: Service) -> None:
    campaign = campaign_with(service, USER)
    first = erase()
    audited = AuditEntry.objects.count()
    second = erase()
    assert (second.pseudonym, second.replaced.total, second.tickets) == (first.pseudonym, 0, 0)
    assert AuditEntry.objects.count() == audited

    failed_events.failed(7, campaign=campaign, user_id=USER, sequence=8, error_code=FailCode.NOT_ADMITTED)
    assert erase().replaced.failed_events == 1
    assert places_that_name(USER) == []


@pytest.mark.parametrize("given_up", [False, True])
def test_a_consumer_that_asked_the_gate_before_writes_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch, given_up: bool
) -> None:
    """Between the gate's answer and its insert the user is erased. A ticket that was given up has no coupon to be in
    the way: the epoch is."""
    campaign = campaign_with(service, "other", *([] if given_up else [USER]), close=False)
    if given_up:
        event = failed_events.held(campaign, USER)
        ticket_store.settle(epochs={campaign.pk: campaign.epoch}, users={campaign.pk: [USER]})
        assert give_up_events(event_ids=[event.pk], actor="op", reason="refunded") == 1
    close_campaign(campaign_id=campaign.pk, actor="test")
    asked = issue_module._first_of_each

    def erase_now(tickets: Any) -> Any:
        monkeypatch.undo()
        with ThreadPoolExecutor(1) as other:
            other.submit(erase_and_close).result(30)
        return asked(tickets)

    monkeypatch.setattr(issue_module, "_first_of_each", erase_now)
    again = received(campaign, USER, 2, offset=70)
    with pytest.raises(StateStale):
        consume(again)
    handled = consume(again)  # as the worker does after RetryLater

    assert (handled.done, handled.duplicates, handled.failed) == (0, 1, 0)
    assert places_that_name(USER) == []
    assert_closes(campaign)


def erase_and_close() -> None:
    """In a thread, which has a session of its own."""
    try:
        erase()
    finally:
        connection.close()


# --- refused ------------------------------------------------------------------------------------------------


def refused() -> str:
    before = (list(Coupon.objects.values()), AuditEntry.objects.count(), ErasedTicket.objects.count())
    with pytest.raises(OperatorError) as error:
        erase()
    assert (list(Coupon.objects.values()), AuditEntry.objects.count(), ErasedTicket.objects.count()) == before
    return str(error.value)


def test_an_open_campaign_is_in_the_way_since_the_person_could_apply_again(service: Service) -> None:
    campaign = campaign_with(service, USER, close=False)

    text = refused()
    assert f"campaign {campaign.pk} is open, so the same person could apply again" in text
    assert f"manage.py close_campaign {campaign.pk}" in text

    assert run("close_campaign", campaign.pk).code == 0
    assert erase().tickets == 1


def test_a_pending_ticket_is_in_the_way(service: Service) -> None:
    campaign = service.campaign(10)
    admit(campaign, USER)
    close_campaign(campaign_id=campaign.pk, actor="test")

    assert "is pending: the consumers come first" in refused()


@pytest.mark.parametrize("status", [EventStatus.FAIL, EventStatus.PROCESSING])
def test_a_failed_event_that_waits_is_in_the_way(service: Service, status: EventStatus) -> None:
    campaign = service.campaign(10)
    event = failed_events.held(campaign, USER)
    FailEventHistory.objects.update(event_status=status)
    ticket_store.settle(epochs={campaign.pk: campaign.epoch}, users={campaign.pk: [USER]})
    close_campaign(campaign_id=campaign.pk, actor="test")

    assert f"failed event {event.pk} waits" in refused()


def test_a_rebuild_is_in_the_way(service: Service) -> None:
    campaign_with(service, USER)
    with work_lock(Work.REBUILD) as acquired:
        assert acquired
        assert "A rebuild is at work" in refused()


@pytest.mark.parametrize(
    ("user", "reason", "said"),
    [
        ("stranger@example.test", REASON, "user_id: nothing here names this user"),
        ("two words", REASON, "user_id: it is no user id"),
        (f"{PREFIX}{'0' * 32}", REASON, "user_id: this is a pseudonym"),
        (USER, " ", "reason: say why"),
        (USER, f"{USER} asked", "reason: it names the user"),
    ],
)
def test_what_is_no_request_is_refused_by_name(service: Service, user: str, reason: str, said: str) -> None:
    campaign_with(service, USER)
    ran = run("erase_user", user, "--reason", reason)

    assert ran.code == 1
    assert said in ran.err
    assert not ErasedTicket.objects.exists()


def test_the_key_of_the_digests_is_missed_when_it_is_gone(service: Service, settings: LazySettings) -> None:
    campaign = campaign_with(service, USER)
    erase()
    settings.CODE_KEYS = {"other-00000000": b"x" * 32}

    with pytest.raises(UnknownCodeKey):
        consume(received(campaign, USER, 1, offset=50))
    assert any(message.id == "coupons.E024" for message in _deploy_check())


def _deploy_check() -> Any:
    from coupons.checks.configuration import check_code_keys

    return check_code_keys(None)
