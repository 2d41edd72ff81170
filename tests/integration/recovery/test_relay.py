"""The relay publishes what is pending and not on its way, and nothing else."""

import pytest
from django.conf import LazySettings
from django.db import connections

from coupons.admission.scripts import admission_redis
from coupons.admission.ticket_store import mark_published
from coupons.messaging import topics
from coupons.messaging.log import read_log
from coupons.messaging.messages import decode
from coupons.messaging.positions import Position
from coupons.recovery.locks import Work, work_lock
from coupons.recovery.relay import RelayReport, relay_pending
from tests.support.service import Service
from tests.support.tickets import (
    admit,
    consume,
    held,
    insert_coupons,
    issue,
    messages_in_topic,
    pending_users,
    publish_and_mark,
    received,
    ticket,
    were_read,
)
from tests.support.waiting import wait_until


@pytest.fixture
def at_once(settings: LazySettings) -> None:
    """Whatever is pending is old enough."""
    settings.RELAY_AFTER_MS = 0


@pytest.mark.usefixtures("at_once")
def test_tickets_that_were_never_published_are_published(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a", "b", "c")

    assert relay_pending() == RelayReport(published=3)
    assert messages_in_topic() == 3
    assert all(each.position for each in held(campaign, "a", "b", "c").values())


def test_tickets_before_a_clock_step_back_are_published(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a", "b")
    admission_redis().zincrby(f"coupon:{{{campaign.pk}}}:pending", 3_600_000, "a")

    assert relay_pending() == RelayReport(published=1)
    assert held(campaign, "a")["a"].position


@pytest.mark.usefixtures("at_once")
def test_they_are_published_in_the_order_of_admission(service: Service, settings: LazySettings) -> None:
    settings.TOPIC = f"{settings.TOPIC}_one"
    settings.TOPIC_PARTITIONS = 1
    topics.create_topic()
    wait_until(lambda: topics.partition_count() == 1, what="the topic")
    campaign = service.campaign(50)
    users = [f"u{number}" for number in range(50)]
    admit(campaign, *users)
    relay_pending()

    messages = read_log({0: (0, 50)})
    assert [decode(each.payload).user_id for each in messages] == users


def test_tickets_younger_than_the_relay_age_are_left_alone(service: Service) -> None:
    admit(service.campaign(), "a")

    assert relay_pending() == RelayReport()
    assert messages_in_topic() == 0


@pytest.mark.usefixtures("at_once")
def test_what_waits_in_the_topic_is_left_alone_however_long(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    publish_and_mark(campaign, "a", 1)

    assert relay_pending() == RelayReport()
    assert messages_in_topic() == 1


@pytest.mark.usefixtures("at_once")
def test_a_ticket_behind_the_offset_is_published_again(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    passed = publish_and_mark(campaign, "a", 1)
    were_read(passed)

    assert relay_pending() == RelayReport(published=1)
    again = held(campaign, "a")["a"].position
    assert again is not None
    assert again != passed, "a new message, in whichever partition"
    assert again.offset < topics.partition_lags()[again.partition].end


@pytest.mark.usefixtures("at_once")
def test_a_republished_ticket_waiting_in_the_topic_is_left_alone(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    were_read(publish_and_mark(campaign, "a", 1))
    relay_pending()

    assert relay_pending() == RelayReport()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("position", [Position(0, 7), Position(99, 0)], ids=["beyond the end", "no such partition"])
def test_a_ticket_beyond_the_log_end_is_published_again(service: Service, position: Position) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    mark_published(campaign_id=campaign.pk, epoch=1, positions={("a", 1): position})

    assert relay_pending() == RelayReport(published=1)
    assert messages_in_topic() == 1


@pytest.mark.usefixtures("at_once")
def test_a_ticket_whose_coupon_exists_is_settled_and_not_published(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    issue(ticket(campaign, "a", 1))

    assert relay_pending() == RelayReport(settled=1)
    assert messages_in_topic() == 0
    assert pending_users(campaign) == []


@pytest.mark.usefixtures("at_once")
def test_a_ticket_whose_failed_event_exists_is_settled_too(service: Service) -> None:
    campaign = service.campaign(1)
    admit(campaign, "a")
    insert_coupons(campaign, [("thief", 9)])
    consume(received(campaign, "a", 1))
    admission_redis().zadd(f"coupon:{{{campaign.pk}}}:pending", {"a": 1})
    admission_redis().hincrby(f"coupon:{{{campaign.pk}}}:campaign", "settled", -1)

    assert relay_pending() == RelayReport(settled=1)


@pytest.mark.usefixtures("at_once")
def test_a_coupon_of_another_sequence_settles_nothing(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    insert_coupons(campaign, [("a", 9)])

    assert relay_pending() == RelayReport(published=1)


@pytest.mark.usefixtures("at_once")
def test_only_the_named_campaigns_are_relayed(service: Service) -> None:
    first, second = service.campaign(), service.campaign()
    admit(first, "a")
    admit(second, "a")

    assert relay_pending(campaign_ids=[first.pk]) == RelayReport(published=1)
    assert not held(second, "a")["a"].on_its_way


@pytest.mark.usefixtures("at_once")
def test_a_stale_campaign_does_not_hold_up_the_others(service: Service) -> None:
    good, stale = service.campaign(), service.campaign()
    admit(good, "a")
    admission_redis().hset(f"coupon:{{{stale.pk}}}:campaign", "run_id", "0")

    assert relay_pending() == RelayReport(published=1)


@pytest.mark.usefixtures("at_once")
def test_two_relays_at_once_are_one(service: Service) -> None:
    admit(service.campaign(), "a")
    other = connections.create_connection("default")
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, %s)", [0x636F7570, Work.RELAY])
    try:
        assert relay_pending() is None
        with work_lock(Work.REBUILD) as mine:
            assert mine, "a rebuild may go on meanwhile"
    finally:
        other.close()
    wait_until(lambda: relay_pending() == RelayReport(published=1), what="its turn")


@pytest.mark.usefixtures("at_once")
def test_with_nothing_pending_it_does_nothing(service: Service) -> None:
    service.campaign()

    assert relay_pending() == RelayReport()
