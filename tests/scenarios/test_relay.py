"""Tickets that never reached the topic: the keeper publishes them, and they are issued."""

from coupons.messaging.topics import partition_lags
from coupons.models import FailEventHistory
from tests.support.gate import admit_user
from tests.support.promises import apply_all, assert_kept
from tests.support.service import Service
from tests.support.tickets import held
from tests.support.waiting import hold, wait_until

# What a promise may take, short: the relay waits longer than that before it takes a ticket for unpublished.
SOON = {"COUPON_ACCEPT_TIMEOUT_MS": "600", "COUPON_DELIVERY_TIMEOUT_MS": "1000"}


def test_tickets_admitted_and_never_published_are_relayed_and_issued(service: Service) -> None:
    """As if every web process had been killed between the script and the produce."""
    campaign = service.campaign(100)
    unpublished = {}
    for user in map(str, range(30)):
        ticket = admit_user(campaign_id=campaign.pk, epoch=campaign.epoch, user_id=user).ticket
        assert ticket is not None
        unpublished[user] = ticket.sequence

    service.consumer("--solo")
    service.keeper(**SOON)

    assert_kept(campaign, unpublished)
    assert not FailEventHistory.objects.exists()


def test_messages_waiting_for_a_slow_consumer_are_not_repeated(service: Service) -> None:
    campaign = service.campaign(100)
    service.keeper(**SOON)
    promises = apply_all(campaign, range(30))
    wait_until(lambda: all(one.on_its_way for one in held(campaign, *promises).values()), what="all are marked")
    accepted = published()  # at least one each; who repeats, or whose mark came late, has two

    hold(4.5, lambda: published() == accepted, "none more, however long they wait")

    service.consumer("--solo")
    assert_kept(campaign, promises)


def published() -> int:
    return sum(lag.end for lag in partition_lags().values())
