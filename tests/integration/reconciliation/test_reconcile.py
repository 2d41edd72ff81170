"""The ledger's numbers, what is no verdict, and what only single cases show; test_corruptions.py has the kinds."""

from contextlib import closing
from uuid import uuid4

import pytest
from django.db import connection

from coupons.admission import campaign_store
from coupons.admission.gate import EpochAhead
from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.errors import GateUnavailable, LogUnavailable, StateStale
from coupons.issuing.failed_events import Failure, record_failures
from coupons.messaging.positions import Position
from coupons.messaging.topics import partition_lags
from coupons.models import Campaign, FailCode
from coupons.reconciliation.compare import Comparison
from coupons.reconciliation.differences import EXPLANATIONS, Kind
from coupons.reconciliation.ledger import Ledger
from coupons.reconciliation.reconcile import Reconciliation
from coupons.reconciliation.sources import read_redis
from coupons.reconciliation.temporary_tables import INSERT_TICKETS, TemporaryTables
from faults.ledgers import reconcile
from tests.support.service import Service, message
from tests.support.tickets import admit, consume, insert_coupons, publish_late, rebuild, received, were_read


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


def test_more_coupons_than_the_quantity_are_found(healthy: Campaign) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE coupons_coupon DISABLE TRIGGER coupon_count_issued")
    try:
        insert_coupons(healthy, [(f"x{number}", 100 + number) for number in range(9)])
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE coupons_coupon ENABLE TRIGGER coupon_count_issued")
    ledger = ledger_of(healthy)

    assert not ledger.closes
    assert ledger.differences[Kind.BEYOND_QUANTITY].examples == ["3 tickets, 11 coupons, quantity 10"]


def test_a_ticket_that_the_scan_shows_twice_counts_once(healthy: Campaign) -> None:
    before = campaign_store.describe(campaign_id=healthy.pk, epoch=healthy.epoch)
    with closing(TemporaryTables()) as tables:
        read_redis(healthy.pk, tables)
        tables.insert(INSERT_TICKETS, [("a", 1), ("c", 3)])
        comparison = Comparison(healthy, tables, lags=partition_lags(), before=before)
        comparison.compare_entries()

    assert (comparison.ledger.tickets, comparison.ledger.issued, comparison.ledger.pending) == (3, 2, 1)
    assert not comparison.ledger.differences


def test_a_late_message_without_a_ticket_is_no_difference(healthy: Campaign) -> None:
    rebuild(healthy)
    publish_late(healthy, "late", 9, epoch=1)
    ledger = ledger_of(healthy)

    assert ledger.unread == 1
    assert not ledger.differences


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_its_explanation(kind: Kind) -> None:
    explanation = EXPLANATIONS[kind]
    assert len(explanation.meaning) > 20
    assert bool(explanation.heals) != bool(explanation.command), "somebody heals it, or a person does"


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


def test_an_open_failed_event_without_a_ticket_is_named(service: Service) -> None:
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


def test_a_message_without_a_campaign_needs_a_failed_event(service: Service) -> None:
    """What the group has not read yet need not have one."""
    service.produce(b"no JSON", message(uuid4(), "a", 1))
    with Reconciliation() as looking:
        unread = looking.topic
    everything = [Position(number, lag.end - 1) for number, lag in partition_lags().items() if lag.end]
    were_read(*everything)
    with Reconciliation() as looking:
        read = looking.topic

    assert (unread.messages, unread.unread, unread.closes) == (2, 2, True)
    assert (read.messages, read.unread, read.unrecorded.count, read.closes) == (2, 0, 2, False)
    assert len(read.unrecorded.examples) == 2


def test_one_that_left_a_failed_event_is_no_difference(service: Service) -> None:
    service.produce(b"no JSON")
    [place] = [Position(number, 0) for number, lag in partition_lags().items() if lag.end]
    failure = Failure(FailCode.INVALID_MESSAGE, "test", b"no JSON", service.topic, place.partition, place.offset, {})
    record_failures([failure])
    were_read(place)

    with Reconciliation() as looking:
        assert looking.topic.closes


def test_a_kafka_that_is_away_is_no_verdict(service: Service, healthy: Campaign) -> None:
    service.stack("pause", "kafka")

    with pytest.raises(LogUnavailable):
        ledger_of(healthy)


def test_a_rebuild_that_came_while_it_looked_is_no_verdict(healthy: Campaign) -> None:
    """It has read some of the old state and some of the new."""
    with Reconciliation() as looking:
        rebuild(healthy)

        with pytest.raises(EpochAhead):
            looking.ledger_of(looking.campaigns[0])
