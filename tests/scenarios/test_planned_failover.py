"""Row 39: a replica takes over as planned, and the old primary stays up as its replica. Whoever is connected to the old
one leaves it by himself."""

from coupons.admission.scripts import admission_redis
from faults.links import server_ports
from faults.proxy import LOOPBACK
from faults.visits import Habits
from tests.support.matrix import Row
from tests.support.promises import assert_history_holds
from tests.support.replica import Replica, hand_over
from tests.support.service import Service


def test_no_process_stays_with_a_demoted_primary(service: Service) -> None:
    """The way to Redis turns for new connections alone, as a DNS name or a balancer does."""
    primary_port = server_ports("redis")[0]
    link = service.proxy("redis")
    _, _, keeper = service.everything()
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=Habits(users_per_sec=60))
    row = Row(39, crowd)

    with Replica(primary_port, direct=True) as replica:
        crowd.wait_for_promises("before", users=30)
        with row.fault("redis: FAILOVER TO its replica, connections to the old primary stay up"):
            link.redirect_new_to(LOOPBACK, replica.port)
            hand_over(admission_redis(), replica.port)
            keeper.says("rebuild.done")
        row.wait_for_promises(users=60, within_sec=10)
        assert service.get("/readyz").json()["parts"]["redis"] == "ok"

        with row.fault("redis: FAILOVER back again"):
            link.redirect_new_to(LOOPBACK, primary_port)
            hand_over(replica.redis, primary_port)
            keeper.says("rebuild.done", times=2)
        row.wait_for_promises(users=60, within_sec=10)

        assert_history_holds(crowd, campaigns=[campaign])
    row.write()
