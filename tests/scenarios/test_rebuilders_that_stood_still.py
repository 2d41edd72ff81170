"""Row 34: a rebuilder stops between two of its steps, another one does its work, and then the first one goes on."""

import pytest

from coupons.admission.scripts import admission_redis
from coupons.models import Campaign
from coupons.runtime import failpoints
from tests.support.matrix import Row
from tests.support.process import Process
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS
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


@pytest.mark.parametrize("steps", [STEPS[:3], STEPS[3:]], ids=["until the topic is read", "from then on"])
def test_what_a_paused_rebuilder_writes_is_refused(service: Service, steps: list[str]) -> None:
    """It knows ends of the topic, an epoch and a state that are no longer so. Then Redis is lost once more."""
    keepers = [service.manage("run_keeper", "--interval-ms", "300", **SOON) for _ in range(2)]
    service.web(**LONG_TIMEOUTS)
    service.consumer("--solo")
    for keeper in keepers:
        keeper.says("keeper: one round")
    row = Row.begin(service, 34, name=steps[0])

    for step in steps:
        with row.fault(f"a keeper: SIGSTOP at {step}, SIGCONT after another has rebuilt; Redis lost before and after"):
            rebuilds = {keeper.pid: keeper.has_said("rebuild.done") for keeper in keepers}
            stopped, other = lose_redis_and_stop(service, step, keepers)
            refused = stopped.has_said("keeper.waiting step=rebuild")
            if step != failpoints.REBUILD_SWAPPED:
                other.says("rebuild.done", times=rebuilds[other.pid] + 1)
            row.crowd.wait_for_promises("by the other keeper's state", users=30)
            before = noted(row.campaign)
            service.resume(step)
            if step != failpoints.REBUILD_SWAPPED:
                stopped.says("keeper.waiting step=rebuild", times=refused + 1)
            row.crowd.wait_for_promises("when the first one goes on", users=30)
            assert before.items() <= noted(row.campaign).items(), f"what the other one noted stays, {step}"
            admission_redis().flushall()
        row.wait_for_promises(users=30)

    row.holds()
    row.write()


def lose_redis_and_stop(service: Service, step: str, keepers: list[Process]) -> tuple[Process, Process]:
    """The keeper that stopped at this step, and the other one."""
    service.arm(step, "stop")
    admission_redis().flushall()
    pid = service.wait_for(step)
    stopped, other = sorted(keepers, key=lambda keeper: keeper.pid != pid)
    return stopped, other


def noted(campaign: Campaign) -> dict[str, object]:
    """Where each rebuild found the topic's ends."""
    wait_until(lambda: Campaign.objects.get(pk=campaign.pk).log_ends, what="a rebuild has noted the ends")
    return dict(Campaign.objects.get(pk=campaign.pk).log_ends)
