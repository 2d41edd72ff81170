"""Rows 1 and 2: a web process dies by SIGKILL in the middle of requests: who was not answered lost nothing by it."""

import json
import re
from collections import Counter
from collections.abc import Iterable

import urllib3

from coupons.messaging.log import LoggedMessage
from coupons.models import Campaign, Coupon
from coupons.runtime.failpoints import WEB_ACKNOWLEDGED, WEB_ADMITTED, WEB_PRODUCED
from faults.crowd import Crowd
from faults.history import NO_ANSWER, read_history
from faults.proxy import Direction
from faults.soak.expected_exits import ExpectedExits
from faults.visits import Habits
from tests.support.matrix import BOTH_WAYS, Row
from tests.support.process import Process
from tests.support.promises import Promises, assert_history_holds, assert_kept
from tests.support.service import Service
from tests.support.timeouts import RELAY_SOON, web_timeouts
from tests.support.topic import pending_holders, published_users, read_topic, ticket_holders, unread
from tests.support.waiting import wait_until

# Nobody repeats, comes back or asks twice at once: who passes a point is new, and if he got no answer, only the relay
# brings his coupon. (A winner who comes back to the other worker before his coupon is written is published once more.)
NOBODY_REPEATS = Habits(users_per_sec=60, give_up_after_sec=0.0, repeat_share=0.0, duplicate_share=0.0)


@BOTH_WAYS
def test_an_unanswered_admitted_user_gets_the_coupon(service: Service) -> None:
    """Killed between Redis and Kafka. And with the message in Kafka, one step before the answer."""
    consumer = service.manage("run_coupon_consumer", "--solo")
    web = service.web(COUPON_WEB_WORKERS="2")
    consumer.says("consumer.assigned")
    row = Row.begin(service, 1, habits=NOBODY_REPEATS)
    for deaths, point in enumerate((WEB_ADMITTED, WEB_ACKNOWLEDGED), start=1):
        with row.fault(f"web: SIGKILL to a worker at {point}"):
            service.arm(point, "kill@5")
            service.wait_for(point)
            wait_until(lambda deaths=deaths: workers_started(web) == 2 + deaths, what="another worker")  # type: ignore[misc]
        row.wait_for_promises(users=30)
    row.crowd.stop()

    wait_until(lambda: unread() == 0, what="all that was published is read")
    silent = unanswered(row.crowd)
    assert silent & pending_holders(row.campaign) - published_users(), "one's place is kept, and he has no message"
    assert silent & published_users() - pending_holders(row.campaign), "another's message was enough"
    assert_relayed(service, row.crowd, row.campaign)
    assert web.exit_code is None
    row.write()


@BOTH_WAYS
def test_the_relay_publishes_what_a_killed_producer_had_queued(service: Service) -> None:
    """What eight users' messages were sent to swallows them, so the only copies are in the queue."""
    consumer = service.manage("run_coupon_consumer", "--solo")  # by itself: only the web process loses its link
    link = service.proxy("kafka")
    # The eighth message is due long before the first five are given up, after which nobody would be published.
    web = service.web(COUPON_WEB_WORKERS="1", **web_timeouts(accept_ms=3_000))
    consumer.says("consumer.assigned")
    row = Row.begin(service, 2, habits=NOBODY_REPEATS)
    with row.fault("web: SIGKILL to a worker with 8 messages in its queue"):
        link.blackhole(Direction.REQUESTS)
        service.arm(WEB_PRODUCED, "kill@8")
        service.wait_for(WEB_PRODUCED)
        link.let_pass()
        wait_until(lambda: workers_started(web) == 2, what="the server starts another worker")
    row.wait_for_promises(users=30)
    row.crowd.stop()

    wait_until(lambda: unread() == 0, what="all that was published is read")
    lost = pending_holders(row.campaign) - published_users()
    # Of the eight some may have been on the wire when the link went silent.
    assert len(lost & unanswered(row.crowd)) >= 4, (
        "what was in the queue died with the process, and its users heard nothing"
    )
    assert_relayed(service, row.crowd, row.campaign)
    row.write()


def test_workers_of_a_killed_server_end_and_free_the_port(service: Service) -> None:
    web = service.web(COUPON_WEB_WORKERS="2")
    campaign = service.campaign(100)
    promises = apply_until_answered(service, campaign, range(5))
    workers = {pid: words for pid, words in service.left_over().items() if pid != web.pid}
    assert len(workers) >= 2, workers

    web.kill()

    wait_until(lambda: not workers.keys() & service.left_over().keys(), what=lambda: f"{service.left_over()}")
    assert answer(service, campaign, "6") is None, "nobody listens any more"
    assert web.output.count("web.parent_gone") == 2
    assert "web.not_finished" not in web.output
    service.consumer("--solo")
    assert_kept(campaign, promises)


def test_a_server_whose_workers_keep_dying_ends(
    service: Service,
) -> None:
    """granian takes it for a crash loop; the soak must know such an end when it has killed the workers itself."""
    web = service.web()
    killed: set[int] = set()

    def has_ended() -> bool:
        for pid in service.left_over().keys() - {web.pid} - killed:
            service.kill(pid)
            killed.add(pid)
        return web.exit_code is not None

    wait_until(has_ended, what=lambda: web.output)

    assert len(killed) >= 2
    ends = ExpectedExits()
    assert not ends.explain("web-1", web.wait(), lambda: web.output), "nobody has told it of the kills"
    ends.worker_killed("web-1")
    assert ends.explain("web-1", web.wait(), lambda: web.output)


def workers_started(web: Process) -> int:
    return web.output.count("Started worker-")


def unanswered(crowd: Crowd) -> set[str]:
    """Users who asked and never heard anything: no promise, no 503."""
    requests = [request for request in read_history(crowd.path).requests if request.was_sent]
    answered = {request.user_id for request in requests if request.status != NO_ANSWER}
    return {request.user_id for request in requests} - answered


def assert_relayed(service: Service, crowd: Crowd, campaign: Campaign) -> None:
    """All that is pending is published again, and nothing else; everybody in Redis has the coupon, promised or not."""
    tickets, stuck = ticket_holders(campaign), pending_holders(campaign)
    keeper = service.keeper(**RELAY_SOON)
    assert_history_holds(crowd, campaigns=[campaign])
    relayed = Counter(ticket["user_id"] for ticket in map(_content, read_topic()) if ticket["trace"] == "relay")
    assert relayed.keys() <= stuck
    assert stuck - relayed.keys() <= published_users(), "or his own message was late, and came after all"
    if not re.search(r"not acknowledged|keeper\.waiting", keeper.output):
        assert set(relayed.values()) <= {1}, "each once"
    issued = dict(Coupon.objects.filter(campaign=campaign).values_list("user_id", "sequence"))
    assert issued == tickets
    for user in sorted(unanswered(crowd) & issued.keys())[:10]:
        again = apply_until_answered(service, campaign, [user])
        assert again == {user: issued[user]}


def _content(message: LoggedMessage) -> dict[str, str]:
    return dict(json.loads(message.payload))


def apply_until_answered(service: Service, campaign: Campaign, users: Iterable[object]) -> Promises:
    """One after the other; a worker that is just being started answers nobody yet."""

    def promised(user: str) -> int | None:
        given = answer(service, campaign, user)
        if given is None or given.status == 503:
            return None
        assert given.status in (200, 202), given.data
        return int(given.json()["sequence"])

    return {str(user): wait_until(lambda user=user: promised(str(user))) for user in users}  # type: ignore[misc]


def answer(service: Service, campaign: Campaign, user: str) -> urllib3.BaseHTTPResponse | None:
    """None when the connection broke without one, or nobody listened."""
    try:
        return service.apply(campaign, user)
    except (urllib3.exceptions.ProtocolError, urllib3.exceptions.NewConnectionError):
        return None
