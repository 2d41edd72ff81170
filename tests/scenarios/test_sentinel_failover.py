"""Rows 39 and 10 with Sentinels, which the processes ask for the primary: one failover that is planned, and one of a
primary that hangs."""

import signal

import pytest

from coupons.admission.scripts import admission_redis
from faults.links import server_ports
from faults.visits import Habits
from tests.support.held_tickets import assert_only_promised_or
from tests.support.matrix import Row
from tests.support.promises import assert_history_holds
from tests.support.replica import Replica, follows, promote
from tests.support.sentinels import Sentinels
from tests.support.service import Service


@pytest.mark.system
def test_the_sentinels_lead_everybody_to_the_primary(service: Service) -> None:
    primary_port = server_ports("redis")[0]
    with Replica(primary_port, direct=True) as replica, Sentinels(primary_port) as sentinels:
        _, _, keeper = service.everything(REDIS_URL=sentinels.url)
        campaign = service.campaign(20_000)
        crowd = service.crowd(campaign, habits=Habits(users_per_sec=60, max_wait_sec=0.5))
        crowd.wait_for_promises("before", users=30)
        planned = Row(39, crowd, name="Sentinel")
        with planned.fault("redis: SENTINEL FAILOVER, the old primary stays up as a replica"):
            sentinels.fail_over()
            keeper.says("rebuild.done")
        assert sentinels.primary_port() == replica.port
        planned.wait_for_promises(users=60, within_sec=10)

        follows(admission_redis())
        with planned.fault("redis: SIGSTOP of the primary, the Sentinels promote the other one"):
            replica.signal(signal.SIGSTOP)
            sentinels.wait_for_another_primary(than=replica.port)
            keeper.says("rebuild.done", times=2)
        assert sentinels.primary_port() == primary_port
        planned.wait_for_promises(users=60, within_sec=10)

        replica.signal(signal.SIGCONT)
        assert_history_holds(crowd, campaigns=[campaign])
        assert_only_promised_or(crowd, "unavailable", "unconfirmed")
    promote(admission_redis())
    planned.write()
