"""Id sequences that lag behind their tables: a matter of the table, healed, and no ticket is refused for it."""

import threading
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model

from coupons.auth.api_keys import create_api_key
from coupons.campaigns.lifecycle import change_campaign, pause_campaign
from coupons.issuing.failed_events import give_up_events
from coupons.issuing.retry import RetryReport, retry_events_now
from coupons.models import ApiKey, AuditEntry, Campaign, Coupon, FailAttempt, FailEventHistory
from coupons.recovery.keeper import Keeper
from coupons.runtime.id_sequences import heal_id_sequences
from tests.support.service import Service
from tests.support.tickets import admit, consume, issued_users, received


def set_back(model: type[Model]) -> None:
    """As after a restore or a move by logical replication."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT setval(pg_get_serial_sequence('{model._meta.db_table}', 'id'), 1, false)")


@pytest.fixture
def campaign(service: Service) -> Campaign:
    """Five users are in, and two rows are in each table that a message may end in, with the first ids."""
    for model in (Coupon, FailEventHistory, AuditEntry):
        set_back(model)
    campaign = service.campaign(10)
    admit(campaign, *"abcdefg")
    consume(received(campaign, "a", 1), received(campaign, "b", 2, offset=1))
    consume(received(campaign, "x", 90, offset=2), received(campaign, "y", 91, offset=3))
    return campaign


def test_winners_are_written_although_the_coupons_ids_are_behind(campaign: Campaign) -> None:
    set_back(Coupon)

    handled = consume(*(received(campaign, user, n, offset=n + 10) for n, user in enumerate("cde", 3)))

    assert (handled.done, handled.failed) == (3, 0)
    assert set(issued_users(campaign)) == set("abcde")
    assert FailEventHistory.objects.count() == 2


def test_a_failed_event_is_kept_although_its_ids_are_behind(campaign: Campaign) -> None:
    set_back(FailEventHistory)

    handled = consume(received(campaign, "z", 92, offset=20))

    assert handled.failed == 1
    assert FailEventHistory.objects.filter(user_id="z").exists()


def test_both_at_once_are_healed_in_one_batch(campaign: Campaign) -> None:
    set_back(Coupon)
    set_back(FailEventHistory)

    handled = consume(received(campaign, "c", 3, offset=20), received(campaign, "z", 92, offset=21))

    assert (handled.done, handled.failed) == (1, 1)


def test_retry_and_giving_up_work_with_id_sequences_behind(campaign: Campaign) -> None:
    first, second = FailEventHistory.objects.order_by("pk")
    set_back(FailAttempt)
    set_back(AuditEntry)
    retry_events_now(event_ids=[first.pk], actor="kim", reason="once")
    set_back(FailAttempt)
    set_back(AuditEntry)

    assert retry_events_now(event_ids=[second.pk], actor="kim", reason="again") == RetryReport(failed=1)
    set_back(AuditEntry)
    assert give_up_events(event_ids=[first.pk], actor="kim", reason="forged") == 1
    assert FailAttempt.objects.count() == 2


CHANGES: dict[str, Callable[[Campaign], object]] = {
    "pause": lambda campaign: pause_campaign(campaign_id=campaign.pk, actor="kim"),
    "change": lambda campaign: change_campaign(campaign_id=campaign.pk, changes={"quantity": 11}, actor="kim"),
    "lower": lambda campaign: change_campaign(campaign_id=campaign.pk, changes={"quantity": 9}, actor="kim"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_an_operator_changes_a_campaign_with_audit_ids_behind(
    campaign: Campaign, change: Callable[[Campaign], object]
) -> None:
    before = AuditEntry.objects.count()
    set_back(AuditEntry)

    change(campaign)

    assert AuditEntry.objects.filter(actor="kim").count() == 1
    assert AuditEntry.objects.count() == before + 1


def test_an_api_key_is_made_although_its_ids_are_behind(service: Service) -> None:
    create_api_key(name="a", scopes=["read"], actor="kim")
    set_back(ApiKey)
    ApiKey.objects.filter(name="a").update(id=1)

    create_api_key(name="b", scopes=["read"], actor="kim")

    assert ApiKey.objects.count() == 2


def test_the_keeper_heals_every_table_before_anybody_meets_it(campaign: Campaign) -> None:
    User.objects.create(pk=50, username="restored")
    set_back(User)
    set_back(Coupon)

    Keeper(interval_sec=0.1, stop=threading.Event()).round()

    assert heal_id_sequences() == []
    assert User.objects.create(username="new").pk > 50


def test_a_sequence_that_is_ahead_is_left_alone(campaign: Campaign) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT setval(pg_get_serial_sequence('coupons_coupon', 'id'), 5000)")

    assert heal_id_sequences(Coupon) == []
    consume(received(campaign, "c", 3, offset=20))
    assert Coupon.objects.get(user_id="c").pk == 5001
