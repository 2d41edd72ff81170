"""The ledger: it closes on a healthy state, and each kind of difference is found and named."""

from collections.abc import Callable

import pytest
from django.db import connection

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.errors import GateUnavailable, StateStale
from coupons.ledger.reconcile import EXPLANATIONS, HEALS_BY_ITSELF, Kind, Ledger, reconcile
from coupons.models import Campaign, Coupon
from tests.support.service import Service
from tests.support.tickets import admit, consume, insert_coupons, issue, received, ticket


def ledger_of(campaign: Campaign) -> Ledger:
    [ledger] = reconcile(campaign_ids=[campaign.pk])
    return ledger


@pytest.fixture
def healthy(service: Service) -> Campaign:
    """a and b issued, c pending."""
    campaign = service.campaign(10)
    admit(campaign, "a", "b", "c")
    consume(received(campaign, "a", 1), received(campaign, "b", 2, offset=1))
    return campaign


def test_it_closes_on_a_healthy_state_with_its_numbers(healthy: Campaign) -> None:
    ledger = ledger_of(healthy)

    assert ledger.closes
    assert not ledger.differences
    assert (ledger.tickets, ledger.issued, ledger.failed, ledger.pending) == (3, 2, 0, 1)
    assert (ledger.first_sequence, ledger.last_sequence) == (1, 3)


def test_it_closes_on_a_campaign_that_nobody_applied_to(service: Service) -> None:
    ledger = ledger_of(service.campaign())

    assert ledger.closes
    assert ledger.first_sequence is None


def test_drafts_have_no_ledger(service: Service) -> None:
    service.campaign(opened=False)

    assert list(reconcile()) == []


def settle_without_a_row(campaign: Campaign) -> None:
    redis, keys = admission_redis(), campaign_keys(campaign.pk)
    redis.zrem(keys.pending, "c")
    redis.hincrby(keys.campaign, "settled", 1)


def give_the_sequence_twice(campaign: Campaign) -> None:
    admission_redis().hset(campaign_keys(campaign.pk).tickets, "c", 2)


def other_sequence(campaign: Campaign) -> None:
    admission_redis().hset(campaign_keys(campaign.pk).tickets, "b", 9)


def write_to_the_table(campaign: Campaign) -> None:
    insert_coupons(campaign, [("thief", 8)])


def delete_a_coupon(campaign: Campaign) -> None:
    Coupon.objects.filter(campaign=campaign, user_id="b").delete()


def issue_without_settling(campaign: Campaign) -> None:
    issue(ticket(campaign, "c", 3))


SPOILT: list[tuple[Callable[[Campaign], None], Kind, str]] = [
    (settle_without_a_row, Kind.LOST, "c #3"),
    (give_the_sequence_twice, Kind.SEQUENCE_TWICE, "#2 of "),
    (other_sequence, Kind.OTHER_SEQUENCE, "b ticket #9, coupon #2"),
    (write_to_the_table, Kind.NEVER_ADMITTED, "thief #8"),
    (delete_a_coupon, Kind.LOST, "b #2"),
    (delete_a_coupon, Kind.COUNT_WRONG, "issued_count 2, coupons 1"),
    (issue_without_settling, Kind.STALE_PENDING, "c #3"),
]


@pytest.mark.parametrize(("spoil", "kind", "example"), SPOILT, ids=[str(spoilt[1]) for spoilt in SPOILT])
def test_each_difference_is_found_and_named(
    healthy: Campaign, spoil: Callable[[Campaign], None], kind: Kind, example: str
) -> None:
    spoil(healthy)
    ledger = ledger_of(healthy)

    assert kind in ledger.differences
    assert ledger.differences[kind].examples[0].startswith(example)
    assert ledger.closes == (kind in HEALS_BY_ITSELF)


def test_more_coupons_than_the_quantity_are_found_when_the_trigger_is_gone(healthy: Campaign) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE coupons_coupon DISABLE TRIGGER coupon_count_issued")
    try:
        insert_coupons(healthy, [(f"x{number}", 100 + number) for number in range(9)])
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE coupons_coupon ENABLE TRIGGER coupon_count_issued")
    ledger = ledger_of(healthy)

    assert not ledger.closes
    assert ledger.differences[Kind.BEYOND_QUANTITY].examples == ["11 coupons, quantity 10"]


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_its_explanation(kind: Kind) -> None:
    assert len(EXPLANATIONS[kind]) > 20


def test_a_difference_keeps_ten_examples_and_the_whole_count(service: Service) -> None:
    campaign = service.campaign(100)
    insert_coupons(campaign, [(f"x{number}", number) for number in range(1, 26)])
    found = ledger_of(campaign).differences[Kind.NEVER_ADMITTED]

    assert (found.count, len(found.examples)) == (25, 10)


def test_a_state_that_is_not_current_is_no_verdict(healthy: Campaign) -> None:
    admission_redis().flushall()

    with pytest.raises(StateStale):
        ledger_of(healthy)


def test_a_redis_that_is_away_is_no_verdict(service: Service, healthy: Campaign) -> None:
    service.stack("pause", "redis")

    with pytest.raises(GateUnavailable):
        ledger_of(healthy)


def test_an_open_failed_event_whose_ticket_the_gate_lacks_is_named(service: Service) -> None:
    campaign = service.campaign(1)
    admit(campaign, "a")
    insert_coupons(campaign, [("thief", 9)])
    consume(received(campaign, "a", 1))
    redis, keys = admission_redis(), campaign_keys(campaign.pk)
    redis.hdel(keys.tickets, "a")
    redis.hincrby(keys.campaign, "admitted", -1)
    redis.hincrby(keys.campaign, "settled", -1)

    ledger = ledger_of(campaign)

    assert ledger.differences[Kind.FAILED_WITHOUT_TICKET].examples == ["a #1"]
    assert not ledger.closes
