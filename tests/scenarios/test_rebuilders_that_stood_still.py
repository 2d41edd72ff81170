"""Row 34: a rebuilder stops between two of its steps, another one does its work, and then the first one goes on."""

import pytest

from coupons.admission.scripts import admission_redis
from coupons.models import Campaign
from coupons.runtime import failpoints
from faults.visits import Habits
from tests.support.matrix import Row
from tests.support.patience import PATIENT
from tests.support.promises import assert_history_holds
from tests.support.service import Service
from tests.support.waiting import wait_until

SOON = {"COUPON_DB_STATEMENT_TIMEOUT_MS": "1000"}  # twice as long for what an idle session holds
STEPS = [
    failpoints.REBUILD_BEGUN,
    failpoints.REBUILD_EPOCH_RAISED,
    failpoints.REBUILD_ENDS_ASKED,
    failpoints.REBUILD_LOG_READ,
    failpoints.REBUILD_BUILT,
    failpoints.REBUILD_SWAPPED,
]


@pytest.mark.parametrize("step", STEPS)
def test_what_a_rebuilder_that_stood_still_writes_is_refused(service: Service, step: str) -> None:
    """It knows ends of the topic, an epoch and a state that are no longer so. Then Redis is lost once more."""
    service.web(**PATIENT)
    service.consumer("--solo")
    keepers = [service.keeper(**SOON), service.keeper(**SOON)]
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=Habits(users_per_sec=60))
    row = Row(34, crowd, name=step)
    crowd.wait_for_promises("before", users=30)

    with row.fault(f"a keeper: SIGSTOP at {step}, SIGCONT when another one has rebuilt; Redis lost before and after"):
        service.arm(step, "stop")
        admission_redis().flushall()
        stopped = next(keeper for keeper in keepers if keeper.pid == service.wait_for(step))
        other = next(keeper for keeper in keepers if keeper is not stopped)
        if step != failpoints.REBUILD_SWAPPED:
            other.says("rebuild.done")
        crowd.wait_for_promises("by the other keeper's state", users=30)
        before = noted(campaign)
        service.resume(step)
        if step != failpoints.REBUILD_SWAPPED:
            stopped.says("keeper.waiting step=rebuild")
        crowd.wait_for_promises("when the first one goes on", users=30)
        assert before.items() <= noted(campaign).items(), "what the other one noted stays"
        admission_redis().flushall()
    row.wait_for_promises(users=30)

    assert_history_holds(crowd, campaigns=[campaign])
    row.write()


def noted(campaign: Campaign) -> dict[str, object]:
    """Where each rebuild found the topic's ends."""
    wait_until(lambda: Campaign.objects.get(pk=campaign.pk).log_ends, what="a rebuild has noted the ends")
    return dict(Campaign.objects.get(pk=campaign.pk).log_ends)
