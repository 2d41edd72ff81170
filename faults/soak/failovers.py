"""Makes another server the primary. Each function returns the function that ends the fault."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from uuid import UUID

from django.db import connection

from coupons.admission.scripts import admission_redis
from coupons.models import Coupon
from faults.links import server_ports
from faults.proxy import LOOPBACK, Proxy
from faults.soak.deployment import Deployment
from faults.soak.retrying import retry_until_true
from tests.support.replica import Replica, hand_over


def hand_redis_over(link: Proxy) -> Callable[[], object]:
    """Hands over to a replica, as planned, and back at the end. The way to Redis turns for new connections alone, so
    each process has to leave the old primary by itself."""
    primary_port = server_ports("redis")[0]
    replica = Replica(primary_port, direct=True)
    with ExitStack() as closing:
        closing.enter_context(replica)
        link.redirect_new_to(LOOPBACK, replica.port)
        hand_over(admission_redis(), replica.port)
        whole = closing.pop_all()

    def undo() -> None:
        with whole:
            link.redirect_new_to(LOOPBACK, primary_port)
            hand_over(replica.redis, primary_port)

    return undo


def lose_primary_of_postgresql(deployment: Deployment, verb: str, campaign_ids: Sequence[UUID]) -> Callable[[], object]:
    """Stops the primary by this verb of bin/stack. At the end the standby takes over, and the old primary follows it.

    WAL is one log, so the standby that has the newest commit has them all: looking at coupons is enough.
    """
    committed = _coupons(campaign_ids)
    deployment.postgres.wait_until_in_step()
    deployment.stack(verb, "postgres")

    def undo() -> None:
        deployment.postgres.promote()
        if lost := committed - _coupons(campaign_ids):
            deployment.unexplained.append(f"a promotion lost {len(lost)} of {len(committed)} committed coupons")
        deployment.postgres.follow()

    return undo


def _coupons(campaign_ids: Sequence[UUID]) -> set[tuple[int, datetime]]:
    """All coupons with their time of issue: one that is written again after a loss has another."""
    connection.close()
    [coupons] = retry_until_true(
        lambda: [set(Coupon.objects.filter(campaign__in=campaign_ids).values_list("pk", "issued_at"))]
    )
    return coupons
