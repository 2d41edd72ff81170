"""Somebody may write to the topic who is none of us: no coupon, no ticket, no answer and no ledger comes of it."""

import pytest
from django.conf import settings

from consumers.registry import Received
from coupons.admission.scripts import admission_redis
from coupons.issuing.retry import retry_events_now
from coupons.models import Campaign, Coupon, EventStatus, FailCode, FailEventHistory
from faults.ledgers import reconcile
from tests.support.http import Api
from tests.support.service import Service, message
from tests.support.tickets import admit, consume, issued_users, pending_users, publish, rebuild
from tests.support.topic import read_topic, ticket_holders


@pytest.fixture
def campaign(service: Service) -> Campaign:
    return service.campaign(10)


def unsigned(campaign: Campaign, user_id: str, sequence: int, *, offset: int = 0) -> Received:
    return Received(settings.TOPIC, 0, offset, message(campaign.pk, user_id, sequence))


@pytest.mark.attack(
    "a forged message", "unsigned, for a ticket that the gate holds", "no coupon; a failed event that names nobody"
)
def test_an_unsigned_message_of_a_held_ticket_issues_nothing(campaign: Campaign) -> None:
    """Even of a ticket that the gate holds: who could not sign it knows nothing that we have not told."""
    admit(campaign, "a")

    handled = consume(unsigned(campaign, "a", 1))

    assert (handled.done, handled.failed) == (0, 1)
    assert not Coupon.objects.exists()
    event = FailEventHistory.objects.get()
    assert event.error_code == FailCode.UNAUTHENTIC
    assert (event.campaign_id, event.user_id, event.sequence) == (None, "", None)
    assert b'"user_id": "a"' in bytes(event.payload), "whoever looks can read what it said"
    assert event.next_attempt_at is None, "it waits for an operator"
    assert pending_users(campaign) == ["a"]


@pytest.mark.usefixtures("long_timeouts")
def test_it_touches_no_status_and_no_ledger(campaign: Campaign) -> None:
    [sequence] = admit(campaign, "a")
    publish(campaign, "a", sequence)
    before = Api().ticket(campaign, "a").content
    [ledger] = reconcile(campaign_ids=[campaign.pk])
    consume(unsigned(campaign, "a", 1), unsigned(campaign, "stranger", 2, offset=1))

    [after] = reconcile(campaign_ids=[campaign.pk])

    assert after.document() == ledger.document()
    assert Api().ticket(campaign, "a").content == before
    assert Api().ticket(campaign, "stranger").status_code == 404


def test_a_retry_does_not_issue_it_either(campaign: Campaign) -> None:
    admit(campaign, "a")
    consume(unsigned(campaign, "a", 1))
    event = FailEventHistory.objects.get()

    report = retry_events_now(event_ids=[event.pk], actor="test")

    event.refresh_from_db()
    assert (report.succeeded, report.failed) == (0, 1)
    assert (event.event_status, event.error_code) == (EventStatus.FAIL, FailCode.UNAUTHENTIC)
    assert not Coupon.objects.exists()


@pytest.mark.attack(
    "a forged message, and a lost Redis", "unread in the topic while the state is made again", "no ticket"
)
@pytest.mark.parametrize("whole_topic", [False, True])
def test_a_rebuild_takes_no_ticket_from_it(campaign: Campaign, service: Service, whole_topic: bool) -> None:
    [sequence] = admit(campaign, "promised")
    publish(campaign, "promised", sequence)
    service.produce(message(campaign.pk, "forged", 2), message(campaign.pk, "promised", 9), signed=False)

    admission_redis().flushall()

    rebuild(campaign, whole_topic=whole_topic)

    assert ticket_holders(campaign) == {"promised": 1}


def test_a_promised_user_keeps_the_ticket_despite_unsigned_messages(campaign: Campaign) -> None:
    """A rebuild of the whole topic leaves out what the consumer refused; an unsigned message must refuse nobody."""
    [sequence] = admit(campaign, "promised")
    publish(campaign, "promised", sequence)
    consume(unsigned(campaign, "promised", 1))

    admission_redis().flushall()

    rebuild(campaign, whole_topic=True)

    assert ticket_holders(campaign) == {"promised": 1}


@pytest.mark.attack("a replayed message", "a signed one, with its signature", "a duplicate: one coupon")
def test_a_signed_message_that_is_produced_again_counts_once(campaign: Campaign, service: Service) -> None:
    [sequence] = admit(campaign, "a")
    position = publish(campaign, "a", sequence)
    [logged] = read_topic()
    first = Received(settings.TOPIC, *position, logged.payload, logged.headers)

    consume(first)
    again = consume(first._replace(offset=77))

    assert (again.done, again.duplicates, again.failed) == (0, 1, 0)
    assert issued_users(campaign) == {"a": 1}
