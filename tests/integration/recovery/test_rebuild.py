"""A rebuild makes a campaign's Redis state right again from what Redis still has, the topic and PostgreSQL."""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection

from consumers.registry import Received
from coupons.admission import campaign_store
from coupons.admission.gate import Outcome
from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.messaging.signing import sign
from coupons.models import Campaign, Coupon, FailEventHistory
from coupons.recovery.relay import relay_pending
from coupons.recovery.stale import stale_campaigns
from faults.ledgers import reconcile
from tests.support.gate import admit_user
from tests.support.service import Service
from tests.support.tickets import (
    admit,
    consume,
    held,
    insert_coupons,
    pending_users,
    publish,
    publish_and_mark,
    publish_late,
    rebuild,
    received,
    were_read,
)
from tests.support.topic import read_topic


@pytest.fixture
def busy(service: Service) -> Campaign:
    """Of 10: `issued` has its coupon, `failed` its failed event, `logged` is in the topic, `kept` in Redis only."""
    campaign = service.campaign(10)
    admit(campaign, "issued", "failed", "logged", "kept")
    consume(received(campaign, "issued", 1, offset=1))
    Campaign.objects.update(issued_count=10)
    consume(received(campaign, "failed", 2, offset=2))
    Campaign.objects.update(issued_count=1)
    publish_and_mark(campaign, "logged", 3)
    return campaign


def sequences(campaign: Campaign) -> dict[str, int]:
    return {user: one.sequence for user, one in held(campaign, "issued", "failed", "logged", "kept").items()}


def flush(campaign: Campaign) -> None:
    admission_redis().flushall()


def lose(number: int) -> Callable[[Campaign], None]:
    return lambda campaign: void(admission_redis().delete(campaign_keys(campaign.pk)[number]))


def other_run_id(campaign: Campaign) -> None:
    admission_redis().hset(campaign_keys(campaign.pk).campaign, "run_id", "f" * 40)


def void(_: object) -> None:
    return None


def test_a_current_campaign_is_not_stale(busy: Campaign) -> None:
    assert stale_campaigns() == []


def test_an_empty_redis_is_rebuilt_from_topic_and_postgresql(busy: Campaign) -> None:
    flush(busy)
    assert stale_campaigns() == [busy.pk]
    rebuild(busy)

    assert sequences(busy) == {"issued": 1, "failed": 2, "logged": 3}
    assert pending_users(busy) == ["logged"]
    assert stale_campaigns() == []


@pytest.mark.parametrize(
    ("spoil", "kept"),
    [(lose(0), True), (lose(1), False), (lose(2), True), (other_run_id, True)],
    ids=["campaign", "tickets", "pending", "a restart"],
)
def test_each_single_loss_is_rebuilt_from_what_is_left(
    busy: Campaign, spoil: Callable[[Campaign], None], kept: bool
) -> None:
    spoil(busy)
    assert stale_campaigns() == [busy.pk]
    rebuild(busy)

    assert sequences(busy) == {"issued": 1, "failed": 2, "logged": 3} | ({"kept": 4} if kept else {})
    assert set(pending_users(busy)) == {"logged"} | ({"kept"} if kept else set())


def test_the_ledger_closes_after_a_rebuild(busy: Campaign) -> None:
    other_run_id(busy)
    rebuild(busy)
    [ledger] = reconcile()

    assert (ledger.tickets, ledger.issued, ledger.failed, ledger.pending, ledger.closes) == (4, 1, 1, 2, True)


def test_the_relay_publishes_a_ticket_that_only_redis_had(busy: Campaign, settings: LazySettings) -> None:
    settings.RELAY_AFTER_MS = 0
    lose(2)(busy)
    rebuild(busy)
    relay_pending()

    assert held(busy, "kept")["kept"].position is not None


def test_a_ticket_in_the_topic_keeps_its_place_there(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    position = publish(campaign, "a", 1)
    flush(campaign)
    rebuild(campaign)

    assert held(campaign, "a")["a"].position == position


def test_a_rebuild_raises_the_epoch_in_both(busy: Campaign) -> None:
    rebuild(busy)
    busy.refresh_from_db()

    assert busy.epoch == campaign_store.describe(campaign_id=busy.pk, epoch=2).epoch == 2


def test_repeats_after_a_rebuild_get_the_same_ticket(busy: Campaign) -> None:
    flush(busy)
    rebuild(busy)
    busy.refresh_from_db()

    again = admit_user(campaign_id=busy.pk, epoch=busy.epoch, user_id="logged")
    assert again.outcome is Outcome.ALREADY_ADMITTED
    assert again.ticket is not None
    assert again.ticket.sequence == 3


@pytest.mark.parametrize("where", ["counter", "topic", "coupon", "failed event", "tickets"])
def test_the_next_sequence_is_above_the_highest_ever_seen(service: Service, where: str) -> None:
    campaign = service.campaign(100)
    keys = campaign_keys(campaign.pk)
    if where == "counter":
        admission_redis().hset(keys.campaign, "next_sequence", 51)
    elif where == "topic":
        publish(campaign, "x", 50)
    elif where == "coupon":
        insert_coupons(campaign, [("x", 50)])
    elif where == "failed event":
        values: dict[str, Any] = {"payload": b"", "topic": "t", "partition": 0, "offset": 0}
        FailEventHistory.objects.create(
            campaign=campaign, user_id="x", sequence=50, error_code="quantity-exceeded", **values
        )
    else:
        admission_redis().hset(keys.tickets, "x", 50)
    rebuild(campaign)
    campaign.refresh_from_db()

    assert admit(campaign, "new") == [51]


def test_consumed_messages_are_read_from_postgresql(service: Service) -> None:
    campaign = service.campaign()
    were_read(publish(campaign, "late", 9))  # the consumer made `not-admitted` of it
    consume(received(campaign, "late", 9))
    flush(campaign)
    rebuild(campaign)

    assert held(campaign, "late") == {}


def test_of_two_messages_of_a_user_the_later_admission_counts(service: Service) -> None:
    campaign = service.campaign()
    for sequence in (5, 8, 6):
        publish(campaign, "a", sequence)
    flush(campaign)
    rebuild(campaign)

    assert held(campaign, "a")["a"].sequence == 8


def test_the_coupon_overrules_what_redis_and_the_topic_say(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    publish(campaign, "a", 1)
    insert_coupons(campaign, [("a", 7)])
    rebuild(campaign)

    assert (held(campaign, "a")["a"].sequence, held(campaign, "a")["a"].pending) == (7, False)


def test_settings_are_those_of_postgresql(service: Service) -> None:
    campaign = service.campaign(5)
    Campaign.objects.update(quantity=7, state="paused", revision=9)
    flush(campaign)
    rebuild(campaign)

    found = campaign_store.describe(campaign_id=campaign.pk, epoch=2).settings
    assert (found.quantity, found.state, found.revision) == (7, "paused", 9)


@pytest.mark.parametrize("rebuilds", [1, 2, 3])
def test_a_late_message_is_excluded_from_later_rebuilds(service: Service, rebuilds: int) -> None:
    """Its place was given to somebody else: taking it in again would put one user too many inside.

    Each rebuild notes other ends: what was late for the first lies before those of the second.
    """
    campaign = service.campaign(1)
    admit(campaign, "lost")
    admission_redis().flushall()
    rebuild(campaign)
    publish_late(campaign, "lost", 1, epoch=1)
    campaign.refresh_from_db()
    admit(campaign, "winner")
    publish_late(campaign, "winner", 1, epoch=2)

    for _ in range(rebuilds):
        admission_redis().flushall()
        rebuild(campaign)

    assert set(held(campaign, "lost", "winner")) == {"winner"}


def test_a_message_landing_before_a_rebuild_is_included(service: Service) -> None:
    campaign = service.campaign(2)
    admit(campaign, "a")
    publish_late(campaign, "a", 1, epoch=1)
    admission_redis().flushall()
    rebuild(campaign)
    admission_redis().flushall()

    rebuild(campaign)

    assert set(held(campaign, "a")) == {"a"}


def test_a_sequence_of_two_users_stays_with_the_coupon(busy: Campaign) -> None:
    """Else the other would be in a conflict for ever. It is published again as what it is now."""
    admission_redis().hset(campaign_keys(busy.pk).tickets, mapping={"kept": 1, "logged": 2})

    rebuild(busy)

    assert sequences(busy) == {"issued": 1, "failed": 2, "logged": 5, "kept": 6}
    assert set(pending_users(busy)[:2]) == {"logged", "kept"}


def test_a_count_that_is_wrong_is_right_after_a_rebuild(busy: Campaign) -> None:
    Coupon.objects.filter(campaign=busy).delete()
    Campaign.objects.update(issued_count=10)

    rebuild(busy)

    busy.refresh_from_db()
    assert busy.issued_count == 0


def test_more_tickets_than_the_quantity_need_an_operator(busy: Campaign) -> None:
    """The rebuild goes through all the same: who is in must not wait for it."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE coupons_coupon DISABLE TRIGGER coupon_count_issued")
        insert_coupons(busy, [(f"x{number}", 100 + number) for number in range(10)])
        cursor.execute("ALTER TABLE coupons_coupon ENABLE TRIGGER coupon_count_issued")

    rebuild(busy)

    busy.refresh_from_db()
    assert (busy.issued_count, busy.epoch) == (1, 2)
    assert not stale_campaigns()


def test_the_whole_topic_brings_back_what_postgresql_has_lost(busy: Campaign) -> None:
    """All of Redis and the rows of what the group had read are gone: an older copy of the database."""
    passed = publish(busy, "read", 5)
    were_read(passed)
    flush(busy)

    rebuild(busy)
    assert held(busy, "read") == {}, "without being asked to, a rebuild trusts that what was read has a row"

    rebuild(busy, whole_topic=True)
    assert held(busy, "read")["read"].sequence == 5
    assert relay_pending() is not None
    assert held(busy, "read")["read"].position not in (None, passed), "it is published again"


def test_the_whole_topic_does_not_bring_back_refused_tickets(busy: Campaign, settings: LazySettings) -> None:
    were_read(position := publish(busy, "forged", 9))
    [payload] = [each.payload for each in read_topic() if each.position == position]
    consume(Received(settings.TOPIC, *position, payload, sign(payload)))

    rebuild(busy, whole_topic=True)

    assert held(busy, "forged") == {}


def test_an_older_postgresql_is_rebuilt_above_the_epoch_of_redis(busy: Campaign) -> None:
    """Its epoch would be given a second time, and processes and messages that know the first one would take it so."""
    rebuild(busy)
    rebuild(busy)
    assert stale_campaigns() == []
    Campaign.objects.update(epoch=1)

    assert stale_campaigns() == [busy.pk]
    rebuild(busy)

    busy.refresh_from_db()
    assert busy.epoch == 4
    assert stale_campaigns() == []
    assert sequences(busy) == {"issued": 1, "failed": 2, "logged": 3, "kept": 4}
