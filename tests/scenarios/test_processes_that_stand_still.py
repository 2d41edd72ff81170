"""A process that stops in the middle of its work (SIGSTOP, a host that hangs) holds nobody up, and harms nobody later.

A dead one is easy: its sessions end. This one keeps them, and goes on when somebody else has done its work.
"""

from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import change_campaign
from coupons.models import FailEventHistory
from coupons.runtime.failpoints import CONSUMER_INSERTED, REBUILD_BUILT
from tests.support.promises import apply_all, assert_kept, issued
from tests.support.service import Service
from tests.support.waiting import wait_until

SOON = {"COUPON_DB_STATEMENT_TIMEOUT_MS": "1000"}  # twice as long for what an idle session holds


def test_a_paused_rebuilder_is_replaced_and_does_no_harm(service: Service) -> None:
    """Its new state was ready to be swapped in."""
    keepers = [service.keeper(**SOON), service.keeper(**SOON)]
    campaign = service.campaign(100)
    promises = apply_all(campaign, range(20))

    service.arm(REBUILD_BUILT, "stop")
    admission_redis().flushall()
    stopped = next(keeper for keeper in keepers if keeper.pid == service.wait_for(REBUILD_BUILT))
    other = next(keeper for keeper in keepers if keeper is not stopped)
    other.says("rebuild.done")
    promises |= apply_all(campaign, range(20, 40))
    service.resume(REBUILD_BUILT)
    stopped.says("the rebuild was not swapped in (NOT_THE_REBUILDER)")

    assert apply_all(campaign, range(20)).items() <= promises.items(), "the same places as before"
    service.consumer("--solo")
    assert_kept(campaign, promises)


def test_a_consumer_paused_before_its_commit_blocks_nothing(service: Service) -> None:
    """Its transaction holds the campaign's row. It goes on when another consumer has written its batch."""
    stopped = service.consumer("--solo", **SOON)
    campaign = service.campaign(100)
    service.arm(CONSUMER_INSERTED, "stop")
    promises = apply_all(campaign, range(20))
    assert service.wait_for(CONSUMER_INSERTED) == stopped.pid

    change_campaign(campaign_id=campaign.pk, changes={"quantity": 120}, actor="test")
    service.consumer("--solo", **SOON)
    wait_until(lambda: issued(campaign) == 20, what="another consumer does its work")
    service.resume(CONSUMER_INSERTED)

    promises |= apply_all(campaign, range(20, 40))
    assert_kept(campaign, promises)
    assert not FailEventHistory.objects.exists()
    assert stopped.stop() == 0
