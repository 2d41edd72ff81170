"""Row 36: the wall clock of a host steps an hour ahead, then two back: no answer is 503 for it."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from coupons.admission.scripts import admission_redis
from coupons.models import Campaign
from faults.visits import Habits
from tests.support import faketime
from tests.support.group import assert_membership_kept
from tests.support.held_tickets import assert_only_promised_or
from tests.support.matrix import Row
from tests.support.promises import apply_all, assert_kept, issued
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until

AHEAD_SEC, BEHIND_SEC = 3_600.0, -3_600.0  # from the true time


def test_a_stepping_host_clock_stops_nothing(service: Service, tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    web, _, keeper = service.everything(**faketime.environment(clock), **LONG_TIMEOUTS)
    row = Row.begin(service, 36, habits=Habits(users_per_sec=60), users=60)

    with row.fault("the host of web, keeper and consumer: its wall clock 1 h ahead, then 2 h back"):
        faketime.step(clock, AHEAD_SEC)
        row.crowd.wait_for_promises("ahead", users=120)
        faketime.step(clock, BEHIND_SEC)
        row.crowd.wait_for_promises("behind", users=180)
    assert_only_promised_or(row.crowd)
    with row.fault("redis: FLUSHALL, rebuilt by a keeper whose clock has stepped back"):
        admission_redis().flushall()
        keeper.says("rebuild.done")
    row.wait_for_promises(users=60)

    row.holds()
    assert web.stop() == 0
    row.write()


def test_an_idle_consumer_survives_a_clock_step_back(service: Service, tmp_path: Path) -> None:
    """All waits of its Kafka client are under way at that moment. The group's session time-out is 6 s here."""
    clock = tmp_path / "clock"
    consumer = service.consumer("--solo", **faketime.environment(clock))
    campaign = service.campaign(100)
    promises = apply_all(campaign, range(5))
    wait_until(lambda: issued(campaign) == 5, what="it has nothing to do")

    faketime.step(clock, BEHIND_SEC)
    later = time.monotonic() + 8
    wait_until(lambda: time.monotonic() > later, what="its session would have ended")
    promises |= apply_all(campaign, range(5, 10))
    assert_kept(campaign, promises)
    assert_membership_kept(consumer)
    assert consumer.stop() == 0


def test_a_campaign_opened_by_a_fast_clock_admits_at_once(service: Service, tmp_path: Path) -> None:
    """It opens "now", and closes in half an hour, by the servers' clocks."""
    clock = tmp_path / "clock"
    host = faketime.environment(clock)
    faketime.step(clock, AHEAD_SEC)
    closes_at = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()

    made = service.run("create_campaign", "--name", "n", "--quantity", "10", "--closes-at", closes_at, "--open", **host)

    assert made.exit_code == 0, made.output
    assert len(apply_all(Campaign.objects.get(), range(10))) == 10
