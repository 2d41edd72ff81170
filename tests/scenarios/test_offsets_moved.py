"""Rows 29 and 30: the group's offsets lie, or the log is not what it was, and then Redis is lost."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from coupons.admission.scripts import admission_redis
from coupons.messaging.topics import partition_lags
from coupons.models import Campaign, Coupon, PartitionOffset
from faults.visits import Habits
from tests.support.group import commit, committed
from tests.support.held_tickets import held_tickets
from tests.support.matrix import Row
from tests.support.promises import assert_history_holds
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.topic import published_users, unread
from tests.support.waiting import wait_until

FEW = Habits(users_per_sec=10)  # so few that a new log is not soon as long as the former one


def test_somebody_commits_past_unread_messages_and_then_redis_is_lost(service: Service) -> None:
    """The relay would heal it as long as Redis has the tickets; the rebuild has the topic alone."""
    _, consumer, keeper = service.everything(**LONG_TIMEOUTS)
    row = Row.begin(service, 29, users=60)
    assert consumer.stop() == 0
    assert keeper.stop() == 0
    row.crowd.wait_for_promises("while nobody reads", users=100)

    with row.fault("the group's offsets moved to the end of the topic past unread messages, then FLUSHALL"):
        assert unread() >= 100
        commit({number: lag.end for number, lag in partition_lags().items()})
        admission_redis().flushall()
        service.keeper()
    row.wait_for_promises(users=30)
    again = service.consumer("--solo")
    again.says("consumer.offset_was_moved")

    row.holds()
    row.write()


def test_a_consumer_begins_where_postgresql_says(service: Service) -> None:
    """Without the relay, and without a later message that would show the gap."""
    service.web(**LONG_TIMEOUTS)
    campaign = service.campaign(100)
    consumer = service.consumer("--solo")
    told = promised(service, campaign, range(10))
    wait_until(lambda: unread() == 0, what="all are read")
    assert consumer.stop() == 0
    told |= promised(service, campaign, range(10, 30))
    commit({number: lag.end for number, lag in partition_lags().items()})

    service.consumer("--solo")

    wait_until(lambda: set(coupons_of(campaign)) == told, within_sec=30, what="the skipped messages are read")


@pytest.mark.parametrize("later", [0, 40], ids=["no later message", "later messages"])
def test_a_running_consumer_goes_back_to_its_record(service: Service, later: int) -> None:
    """PostgreSQL is restored from an older copy: its record lies before the consumer's position."""
    service.web(**LONG_TIMEOUTS)
    campaign = service.campaign(100)
    service.consumer("--solo")
    told = promised(service, campaign, range(20))
    wait_until(lambda: set(coupons_of(campaign)) == told, within_sec=30, what="all are issued")
    Coupon.objects.all().delete()
    Campaign.objects.filter(pk=campaign.pk).update(issued_count=0)
    PartitionOffset.objects.update(next_offset=0)

    told |= promised(service, campaign, range(20, 20 + later))

    wait_until(lambda: set(coupons_of(campaign)) == told, within_sec=30, what="everybody has a coupon again")


def test_promises_survive_losing_the_log_and_then_redis(service: Service) -> None:
    """The former offsets lie beyond the new log's end; who was promised since is known to Redis and the log alone."""
    _, consumer, keeper = service.everything(**LONG_TIMEOUTS)
    campaign = service.campaign(20_000)
    many = service.crowd(campaign, habits=Habits(users_per_sec=150))
    many.wait_for_promises("before", users=300)
    wait_until(lambda: sum(committed().values()) > 200, what="much was read")
    assert consumer.stop() == 0
    many.wait_for_promises("while nobody reads", users=40)
    many.stop()
    crowd = service.crowd(campaign, habits=FEW)
    row = Row(30, crowd)
    crowd.wait_for_promises("while nobody reads", users=10)

    with row.fault("kafka: SIGKILL, the partitions' folders removed, started; FLUSHALL when that was noticed"):
        service.stack("kill", "kafka")
        lost = held_tickets(campaign)
        remove_logs(service)
        service.stack("start", "kafka")
        keeper.says("log.cut")
        crowd.wait_for_promises("in the new log", users=10)
        wait_until(lambda: lost.keys() <= set(published(campaign)), within_sec=60, what="they are published again")
        admission_redis().flushall()
    row.wait_for_promises(users=30)
    service.consumer("--solo")

    assert_history_holds(many, crowd, campaigns=[campaign])
    row.write()


def remove_logs(service: Service) -> None:
    """As a disk that was replaced."""
    for folder in (Path(os.environ["STACK_HOME"]) / "kafka" / "data").glob(f"{service.topic}-*"):
        shutil.rmtree(folder)


def promised(service: Service, campaign: Campaign, users: Iterable[int]) -> set[str]:
    def is_promised(user: str) -> bool:
        return service.apply(campaign, user).status in (200, 202)

    names = set(map(str, users))
    for user in sorted(names, key=int):
        wait_until(lambda user=user: is_promised(user), what=f"{user} is promised a coupon")  # type: ignore[misc]
    return names


def coupons_of(campaign: Campaign) -> dict[str, int]:
    return dict(campaign.coupons.values_list("user_id", "sequence"))


def published(campaign: Campaign) -> set[str]:
    """Whose place lies in the topic, or is a coupon."""
    return published_users() | set(coupons_of(campaign))
