"""Row 4: a web server forks its workers after it has made and used a producer; each of them uses another one."""

import re

from coupons.models import Campaign, FailEventHistory
from faults.visits import Habits
from harness import free_port
from tests.support.matrix import Row
from tests.support.process import Process
from tests.support.promises import assert_history_holds
from tests.support.service import PYTHON, Service
from tests.support.timeouts import web_timeouts
from tests.support.topic import published_users
from tests.support.waiting import wait_until


def test_forked_web_children_make_their_own_producer(service: Service) -> None:
    consumer = service.manage("run_coupon_consumer", "--solo")
    service.manage("run_keeper")
    campaign = service.campaign(20_000)
    web = preforking_web(service, campaign)
    consumer.says("consumer.assigned")
    crowd = service.crowd(campaign, habits=Habits(users_per_sec=60))
    row = Row(4, crowd)
    crowd.wait_for_promises("before", users=50)
    with row.fault("web: a child killed, and forked anew from the parent that has a producer"):
        service.kill(children(web)[0])
        wait_until(lambda: len(children(web)) == 3, what="another child serves")
    row.wait_for_promises(users=50)

    # One user applied in the parent before each fork, with the parent's producer, which the forks left alone.
    assert_history_holds(crowd, campaigns=[campaign], untracked=3)
    assert {"parent-1", "parent-2", "parent-3"} <= published_users()
    assert web.output.count("producer=its own") == 3
    assert web.stop() == 0
    assert not FailEventHistory.objects.exists()
    row.write()


def test_an_inherited_producer_never_hears_of_its_message(service: Service) -> None:
    """The twin: a child publishes with its parent's producer, and nothing comes of it. Then with one of its own."""
    program = service.start("twin", [PYTHON, "-c", TWIN])

    assert program.wait() == 0, program.output

    said = program.output.splitlines()
    assert said == ["the child with its parent's: nothing", "the child with its own: published", "parent: published"]
    assert published_users() == {"own", "parent"}


TWIN = """
import os
from concurrent.futures import TimeoutError
from uuid import uuid4
import django
django.setup()
from django.utils import timezone
from coupons.errors import LogUnavailable
from coupons.messaging.messages import Ticket
from coupons.messaging.producer import publisher

def tell(who, producer, user):
    assert producer.wait_until_ready(20)
    delivered = producer.publish(Ticket(uuid4(), user, 1, timezone.now(), "test"))
    try:
        outcome = "published" if delivered.result(4) else "unknown"
    except (TimeoutError, LogUnavailable):
        outcome = "nothing"
    print(f"{who}: {outcome}", flush=True)

parents = publisher()
assert parents.wait_until_ready(20)
child = os.fork()
if child == 0:
    tell("the child with its parent's", parents, "parents")
    tell("the child with its own", publisher(), "own")
    os._exit(0)
os.waitpid(child, 0)
tell("parent", parents, "parent")
"""


def preforking_web(service: Service, campaign: Campaign) -> Process:
    """All its children serve; its address is the service's from now on."""
    port = free_port()
    service.url = f"http://127.0.0.1:{port}"
    service.addresses.append(service.url)
    command = [PYTHON, "-m", "tests.support.prefork_server", str(port), str(campaign.pk)]
    web = service.start("prefork", command, **web_timeouts(accept_ms=2_000))
    wait_until(lambda: len(children(web)) == 2, within_sec=40, what=lambda: web.output)
    return web


def children(web: Process) -> list[int]:
    """The pids of all that ever served."""
    return [int(pid) for pid in re.findall(r"prefork\.child pid=(\d+)", web.output)]
