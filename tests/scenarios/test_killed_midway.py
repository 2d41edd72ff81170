"""Who changes or rebuilds a campaign is killed in the middle of it: another process finishes what was begun."""

import signal

from coupons.admission.scripts import admission_redis
from coupons.models import FailEventHistory
from coupons.runtime.failpoints import PUSH_COMMITTED, REBUILD_BUILT
from tests.support.promises import apply_all, assert_kept, issued
from tests.support.service import Service
from tests.support.waiting import wait_until


def test_the_keeper_finishes_a_command_killed_before_redis(service: Service) -> None:
    campaign = service.campaign(100)
    promises = apply_all(campaign, range(10))
    service.arm(PUSH_COMMITTED, "kill")
    assert service.run("pause_campaign", str(campaign.pk)).exit_code == -signal.SIGKILL
    promises |= apply_all(campaign, range(10, 12))  # Redis has not heard of it

    keeper = service.keeper()
    keeper.says("campaign.pushed_again")
    assert service.run("resume_campaign", str(campaign.pk)).exit_code == 0
    promises |= apply_all(campaign, range(12, 20))

    assert service.run("close_campaign", str(campaign.pk)).exit_code == 0
    assert issued(campaign) == 0, "closed while all are pending"
    service.consumer("--solo")
    assert_kept(campaign, promises)


def test_the_next_rebuild_follows_a_killed_one(service: Service) -> None:
    """With its new state ready to be swapped in."""
    campaign = service.campaign(100)
    promises = apply_all(campaign, range(10))
    service.arm(REBUILD_BUILT, "kill")
    admission_redis().flushall()
    rebuilder = service.keeper()
    wait_until(lambda: rebuilder.exit_code is not None, what="it is killed")

    service.keeper().says("rebuild.done")
    promises |= apply_all(campaign, range(15))
    service.consumer("--solo")

    assert_kept(campaign, promises)
    assert not FailEventHistory.objects.exists()
