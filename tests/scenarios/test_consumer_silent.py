"""A consumer whose Kafka client is silent for good, while messages wait for it and no error says so."""

import sys

import pytest

from consumers.management.commands.run_coupon_consumer import EXIT_DEFECT
from coupons.models import Coupon, FailEventHistory
from tests.support.matrix import MANY
from tests.support.process import Process
from tests.support.service import Service
from tests.support.topic import unread
from tests.support.waiting import hold, wait_until


def silent_consumer(service: Service, kind: str) -> Process:
    return service.start("consumer", [sys.executable, "-m", "tests.support.silent_consumer", kind])


@pytest.mark.parametrize("kind", ["paused", "absent"])
def test_it_ends_for_another_one_to_take_over(service: Service, kind: str) -> None:
    service.web()
    campaign = service.campaign(20)
    crowd = service.crowd(campaign)
    crowd.wait_for_promises("nobody reads", users=20)

    silent = silent_consumer(service, kind)
    silent.says("consumer.silent")
    assert silent.wait() == EXIT_DEFECT
    assert unread() > 0

    service.consumer("--solo")
    wait_until(lambda: Coupon.objects.filter(campaign=campaign).count() == 20, what="all are issued")
    assert not FailEventHistory.objects.exists()


def test_one_that_has_nothing_to_read_stays(service: Service) -> None:
    """More workers than partitions, and a topic that is read: the silence has its reasons."""
    consumer = service.consumer("--solo")
    service.web()
    crowd = service.crowd(service.campaign(20))
    crowd.wait_for_promises("somebody reads", users=20)
    wait_until(lambda: unread() == 0, what="all are read")

    silent = silent_consumer(service, "absent")
    silent.says("coupon consumer, pid")
    hold(4, lambda: silent.exit_code is None, "it stays")

    assert "consumer.silence_not_checked" not in silent.output
    assert silent.stop() == 0
    assert consumer.stop() == 0


def test_one_whose_messages_another_holds_stays(service: Service) -> None:
    """The other reads slowly: what it holds is no business of this one."""
    service.web()
    service.crowd(service.campaign(20_000), habits=MANY).wait_for_promises("nobody reads", users=60)
    slow = service.consumer("--solo", "--max-rate", "1")

    silent = silent_consumer(service, "absent")
    silent.says("coupon consumer, pid")
    hold(4, lambda: silent.exit_code is None, "it stays")

    assert unread() > 0
    assert "consumer.silence_not_checked" not in silent.output
    assert silent.stop() == 0
    assert slow.stop() == 0
