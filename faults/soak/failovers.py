"""Makes another server the primary. Each function returns the function that ends the fault."""

from collections.abc import Callable
from contextlib import ExitStack

from coupons.admission.scripts import admission_redis
from faults.links import server_ports
from faults.proxy import LOOPBACK, Proxy
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
