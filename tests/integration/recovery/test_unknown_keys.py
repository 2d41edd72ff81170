"""Messages that are signed with a key which is not known here: a former key of ours, or a forger's. No promise is lost
by them, nothing says that all is well, and who can write to the topic stops nothing that is current."""

import pytest
from django.conf import LazySettings
from django.conf import settings as django
from django.core.management import call_command
from django.core.management.base import CommandError

from consumers.registry import Received
from coupons.admission.scripts import admission_redis
from coupons.errors import OperatorError, StateStale, UnknownMessageKey
from coupons.issuing.failed_events import give_up_events
from coupons.models import AuditEntry, Campaign, FailCode, FailEventHistory
from coupons.reconciliation.differences import Kind, Ledger
from coupons.recovery.rebuild import rebuild_campaigns
from coupons.recovery.unknown_keys import (
    find_blocked_campaigns,
    find_unread_unverified,
    refuse_unknown_keys,
    report_unknown_keys,
)
from faults.ledgers import reconcile
from tests.support.service import Service, message
from tests.support.tickets import admit, consume, issued_users, publish, rebuild, were_read
from tests.support.topic import read_topic, ticket_holders

pytestmark = pytest.mark.usefixtures("no_promise_is_open")

FORMER = {"2025-0a0b0c0d": b"a former secret of thirty-two bytes"}
TODAYS = {"2026-1a2b3c4d": b"another secret of thirty-two bytes"}


@pytest.fixture
def campaign(service: Service) -> Campaign:
    return service.campaign(10)


@pytest.fixture
def promised(campaign: Campaign, settings: LazySettings) -> Campaign:
    """`a` was promised sequence 1 by a message of a key that nobody has named since."""
    settings.MESSAGE_KEYS = FORMER
    [sequence] = admit(campaign, "a")
    publish(campaign, "a", sequence)
    settings.MESSAGE_KEYS = TODAYS
    return campaign


def name_the_key(settings: LazySettings) -> None:
    settings.MESSAGE_KEYS = TODAYS | FORMER


def all_read() -> None:
    """By a consumer."""
    take()
    were_read(*(each.position for each in read_topic()))


def take() -> None:
    """The same without the offsets."""
    consume(*(Received(django.TOPIC, *each.position, each.payload, each.headers) for each in read_topic()))


def ledger_of(campaign: Campaign) -> Ledger:
    campaign.refresh_from_db()
    [ledger] = reconcile(campaign_ids=[campaign.pk])
    return ledger


def test_while_redis_is_whole_it_is_read(promised: Campaign) -> None:
    refuse_unknown_keys()

    all_read()

    assert issued_users(promised) == {"a": 1}
    assert not FailEventHistory.objects.exists()
    assert ledger_of(promised).closes, "whose user has the coupon has lost nothing"


def test_messages_of_an_unknown_key_become_anonymous_failed_events(
    campaign: Campaign, service: Service, settings: LazySettings
) -> None:
    settings.MESSAGE_KEYS = FORMER
    service.produce(message(campaign.pk, "stranger", 1), b"no JSON")
    settings.MESSAGE_KEYS = TODAYS

    all_read()

    for event in FailEventHistory.objects.all():
        assert (event.error_code, event.campaign_id, event.user_id) == (FailCode.UNAUTHENTIC, None, "")
        assert "key 2025-0a0b0c0d, which is not known here" in event.error_message
    assert FailEventHistory.objects.count() == 2
    assert not issued_users(campaign)


def test_a_rebuild_without_redis_stops_until_the_key_is_named(promised: Campaign, settings: LazySettings) -> None:
    admission_redis().flushall()
    for _ in range(2):
        with pytest.raises(UnknownMessageKey, match="1 of key 2025-0a0b0c0d"):
            rebuild(promised)
    promised.refresh_from_db()
    assert promised.log_ends == {}, "no rebuild was through, so nothing that lands later is late"
    with pytest.raises(StateStale):
        admit(promised, "b")

    name_the_key(settings)
    rebuild(promised)

    assert ticket_holders(promised) == {"a": 1}


def test_another_campaign_opens_meanwhile(promised: Campaign, service: Service) -> None:
    other = service.campaign(10)
    admission_redis().flushall()

    with pytest.raises(UnknownMessageKey, match=str(promised.pk)):
        rebuild(promised, other)

    other.refresh_from_db()
    assert admit(other, "b") == [1]


def test_what_is_accounted_for_stops_no_rebuild(promised: Campaign, settings: LazySettings) -> None:
    """The user has the coupon, and the message is unread all the same: the group's offset went back."""
    settings.MESSAGE_KEYS = FORMER | TODAYS
    take()
    settings.MESSAGE_KEYS = TODAYS
    admission_redis().flushall()

    rebuild(promised)

    assert ticket_holders(promised) == {"a": 1}


def test_a_rebuild_with_the_ticket_in_redis_needs_no_key(promised: Campaign) -> None:
    """Redis was restarted with its files: the state is stale, and every ticket is there."""
    Campaign.objects.filter(pk=promised.pk).update(epoch=7, mended_epoch=1)
    assert find_blocked_campaigns([promised.pk]) == {}

    rebuild(promised)

    assert ticket_holders(promised) == {"a": 1}


def test_a_forger_does_not_close_a_campaign_that_is_current(
    campaign: Campaign, service: Service, settings: LazySettings
) -> None:
    settings.MESSAGE_KEYS = FORMER
    service.produce(message(campaign.pk, "stranger", 1))
    settings.MESSAGE_KEYS = TODAYS

    refuse_unknown_keys()
    rebuild(campaign)

    campaign.refresh_from_db()
    assert admit(campaign, "b") == [1]


@pytest.mark.parametrize("pattern", ["2025-0a0b0c0d", "*"])
def test_the_operator_says_that_it_is_forged(promised: Campaign, pattern: str) -> None:
    admission_redis().flushall()
    with pytest.raises(CommandError, match="--forged-key"):
        call_command("rebuild_admission")

    call_command("rebuild_admission", "--forged-key", pattern, "--reason", "no key of ours")

    assert ticket_holders(promised) == {}
    entry = AuditEntry.objects.get(what__contains=f"forged keys: {pattern}")
    assert entry.reason == "no key of ours"
    admission_redis().flushall()
    with pytest.raises(UnknownMessageKey):  # another key is not meant
        rebuild_campaigns(campaign_ids=[promised.pk], forged_keys=["2024-*"], sleep=lambda seconds: None)


def test_the_ledger_does_not_close_before_the_key_is_named(promised: Campaign, settings: LazySettings) -> None:
    unread = ledger_of(promised)
    assert unread.differences[Kind.UNKNOWN_KEY].examples == ["a #1, key 2025-0a0b0c0d"]
    assert not unread.closes

    name_the_key(settings)

    assert ledger_of(promised).closes


def test_the_ledger_does_not_close_over_a_dropped_promise(promised: Campaign, settings: LazySettings) -> None:
    """As versions before this one dropped it: Redis is lost, the message is read and recorded, `a` has nothing."""
    admission_redis().flushall()
    rebuild_campaigns(campaign_ids=[promised.pk], forged_keys=["*"], sleep=lambda seconds: None)
    all_read()
    ledger = ledger_of(promised)
    assert (ledger.closes, set(ledger.differences)) == (False, {Kind.UNKNOWN_KEY})
    assert "--whole-topic" in ledger.command(Kind.UNKNOWN_KEY)

    name_the_key(settings)
    rebuild(promised, whole_topic=True)

    assert ticket_holders(promised) == {"a": 1}


def test_the_ledger_closes_when_the_failed_event_is_given_up(promised: Campaign) -> None:
    admission_redis().flushall()
    rebuild_campaigns(campaign_ids=[promised.pk], forged_keys=["*"], sleep=lambda seconds: None)
    all_read()

    give_up_events(event_ids=[FailEventHistory.objects.get().pk], actor="test", reason="no key of ours")

    assert ledger_of(promised).closes
    admission_redis().flushall()
    assert rebuild(promised, whole_topic=True), "nor does it stop a rebuild of the whole topic"


def test_a_start_is_refused_while_only_unreadable_messages_hold_promises(promised: Campaign) -> None:
    admission_redis().flushall()

    with pytest.raises(OperatorError, match=r"1 of key 2025-0a0b0c0d.*Change a key.*--forged-key"):
        refuse_unknown_keys()


def test_check_deploy_names_the_keys_of_unread_messages(promised: Campaign, settings: LazySettings) -> None:
    [found] = report_unknown_keys()
    assert found.id == "coupons.E018"
    assert "1 of key 2025-0a0b0c0d" in found.msg

    name_the_key(settings)

    assert report_unknown_keys() == []


def test_a_bounded_look_says_what_it_left_out(promised: Campaign) -> None:
    found, not_looked_at = find_unread_unverified([promised], within_sec=-1)

    assert (found, not_looked_at) == ({promised.pk: []}, 1)
