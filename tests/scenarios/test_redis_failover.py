"""Row 10: the primary hangs, a replica that lags takes over, and later it all goes back again."""

from coupons.admission.scripts import admission_redis
from coupons.models import Campaign, FailCode, FailEventHistory
from coupons.runtime.failpoints import REBUILD_BEGUN
from faults.crowd import Crowd
from faults.links import server_ports
from faults.proxy import LOOPBACK
from faults.visits import Habits
from tests.support.held_tickets import (
    assert_no_hole,
    assert_only_promised_or,
    closed_until_the_rebuild_goes_on,
    held_tickets,
)
from tests.support.matrix import MANY, Row
from tests.support.promises import Promises, assert_history_holds
from tests.support.replica import Replica, follow, promote
from tests.support.service import Service


def test_promises_survive_a_failover_to_a_lagging_replica(service: Service) -> None:
    """One web server stays with the old primary, as behind a cut network. Then that one is the primary once more, the
    same process with the same run_id as at the beginning."""
    primary_port = server_ports("redis")[0]
    consumer = service.manage(
        "run_coupon_consumer", "--solo"
    )  # through no proxy: it asks the old primary until it is restarted
    service.web()
    left_behind_addresses = list(service.addresses)
    service.proxy("redis")  # the way of all that are started from here on
    keeper = service.keeper()
    service.webs()
    consumer.says("consumer.assigned")
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, addresses=service.addresses[1:], habits=MANY)
    left_behind = service.crowd(campaign, addresses=left_behind_addresses, habits=Habits(users_per_sec=20))
    row = Row(10, crowd)

    with Replica(primary_port) as replica:
        left_behind.wait_for_promises("before", users=10)
        crowd.wait_for_promises("before", users=30)
        replica.link.hold()
        crowd.wait_for_promises("that the replica never hears of, issued or about to be", users=30)
        assert consumer.stop() == 0
        crowd.wait_for_promises("that are in the topic alone", users=30)

        service.arm(REBUILD_BEGUN, "stop")
        with row.fault("redis: SIGSTOP of the primary, REPLICAOF NO ONE on a replica that lags"):
            promised = fail_over(service, campaign, crowd, replica)
            closed_until_the_rebuild_goes_on(service, crowd)
            keeper.says("rebuild.done")
        row.wait_for_promises(users=30)
        assert promised.items() <= held_tickets(campaign, redis=replica.redis).items(), "the same tickets as before"

        before = left_behind.promised
        service.stack("resume", "redis")
        left_behind.wait_for_answers(503, "unavailable", times=20)
        assert left_behind.promised == before, "who comes back promises nothing"

        with row.fault("redis: SIGKILL of the new primary, REPLICAOF NO ONE on the old one"):
            fail_back(service, crowd, left_behind, replica)
            keeper.says("rebuild.done", times=2)
        row.wait_for_promises(users=30)
        left_behind.wait_for_promises("with the others", users=5)
    service.consumer("--solo")

    assert_history_holds(crowd, left_behind, campaigns=[campaign])
    assert promised.items() <= held_tickets(campaign).items()
    assert_no_hole(campaign, lossy=[crowd, left_behind])
    assert not FailEventHistory.objects.filter(error_code=FailCode.CONFLICT).exists()
    assert_only_promised_or(crowd, "unavailable", "unconfirmed")
    row.write()


def fail_back(service: Service, crowd: Crowd, left_behind: Crowd, replica: Replica) -> None:
    """To the old primary, once it holds what the new one holds; until the rebuild goes on, which makes it current."""
    before = left_behind.promised
    service.arm(REBUILD_BEGUN, "stop")
    follow(admission_redis(), replica.port)
    left_behind.wait_for_answers(503, "unavailable", times=5)
    assert left_behind.promised == before, "nor does a replica promise anything"
    replica.kill()
    promote(admission_redis())
    service.proxy("redis").redirect_to(LOOPBACK, server_ports("redis")[0])
    closed_until_the_rebuild_goes_on(service, crowd)


def fail_over(service: Service, campaign: Campaign, crowd: Crowd, replica: Replica) -> Promises:
    """From a primary that hangs. Returns what was promised until then, which is more than the replica knows."""
    service.stack("pause", "redis")
    crowd.wait_for_answers(503, "unavailable", times=5)
    promised = crowd.promises(campaign.pk)
    replica.promote()
    assert len(promised.keys() - held_tickets(campaign, redis=replica.redis).keys()) >= 40, "it lags"
    service.proxy("redis").redirect_to(LOOPBACK, replica.port)
    return promised
