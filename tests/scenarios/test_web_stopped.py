"""Row 3: a web server is asked to end under load: what it has in hand is answered, what it has queued is sent."""

import signal
import socket
import time
from urllib.parse import urlsplit

from coupons.models import Campaign, FailEventHistory
from faults.crowd import Crowd
from faults.history import NO_ANSWER, Request, read_history
from faults.proxy import Direction
from faults.visits import Habits
from tests.support.matrix import BOTH_WAYS, Row
from tests.support.promises import assert_history_holds
from tests.support.service import Service
from tests.support.timeouts import web_timeouts
from tests.support.topic import published_users, ticket_holders
from tests.support.waiting import wait_until

LONG_SEC = 1.0
# More of them wait at a time than are to be refused: those who are come in one go, long before a delivery is given up.
IMPATIENT = Habits(users_per_sec=60, connections=40, give_up_after_sec=0.0, repeat_share=0.0)


@BOTH_WAYS
def test_a_stopping_web_server_answers_what_is_in_hand(service: Service) -> None:
    """Its users wait for Kafka's answers, which are held until nobody new is taken; the other server goes on."""
    consumer = service.manage("run_coupon_consumer", "--solo")
    # Of the view each who waits has a thread; nobody is to be refused for want of one.
    long = {**web_timeouts(accept_ms=8_000, redis_ms=3_000), "COUPON_WEB_THREADS": "64"}
    service.web(**long)
    link = service.proxy("kafka")  # the way of the second server alone
    leaving = service.web(**long)
    address = service.url
    consumer.says("consumer.assigned")
    habits = Habits(users_per_sec=100, duplicate_share=0.0, request_timeout_sec=12)
    row = Row.begin(service, 3, name="in-hand", habits=habits, users=50)
    with row.fault("web: SIGTERM to one of two servers, its users waiting for Kafka's answers"):
        link.hold(Direction.ANSWERS)
        in_hand = wait_until(lambda: waiting_for_long(row.campaign, row.crowd, at_least=6), what="some wait")
        asked_at = time.monotonic()
        leaving.signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(address), what="no new users are taken")
        refused_at = time.monotonic()
        link.let_pass()
        assert leaving.wait() == 0
    row.wait_for_promises(users=50)  # at the other server

    assert_history_holds(row.crowd, campaigns=[row.campaign])
    mine = [request for request in read_history(row.crowd.path).requests if request.address == address]
    told = [request for request in mine if request.user_id in in_hand and request.start < asked_at < request.end]
    assert len([request for request in told if request.end > refused_at]) >= 3
    assert all(request.promises for request in told), [request for request in told if not request.promises]
    assert not [request for request in mine if request.start > refused_at and is_answered(request)]
    assert "Traceback" not in leaving.output
    assert {status for status, _ in row.crowd.answers} <= {200, 202, NO_ANSWER}, row.crowd.answers
    row.write()


@BOTH_WAYS
def test_queued_messages_are_sent_before_the_server_ends(service: Service) -> None:
    """Told 503, their users have left. Kafka's link swallows all; it is back after the server has been asked to end."""
    link = service.proxy("kafka")
    # Of the view each who waits has a thread: enough are published before the first ones are given up.
    long = {**web_timeouts(accept_ms=4_000, redis_ms=1_000, delivery_ms=14_000), "COUPON_WEB_THREADS": "64"}
    web = service.web(**long)
    row = Row.begin(service, 3, name="flush", habits=IMPATIENT)
    with row.fault("web: SIGTERM with messages in its queue that nobody waits for"):
        link.blackhole(Direction.REQUESTS)
        queued = wait_until(lambda: unpublished(row.campaign, at_least=20), what="20 messages are in the queue")
        assert (503, "unconfirmed") not in row.crowd.answers, (
            "too late: the breaker may have kept some out of the queue"
        )
        row.crowd.wait_for_answers(503, "unconfirmed", times=20)
        web.signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(service.url), what="no new users are taken")
        link.let_pass()
        assert web.wait() == 0
        assert queued <= published_users(), "no relay runs: the server itself has sent them"
        service.web(**long)
    row.wait_for_promises(users=30)

    service.consumer("--solo")
    service.keeper()  # for those who came while nobody waited for Kafka any more
    assert_history_holds(row.crowd, campaigns=[row.campaign])
    assert "producer.closed_with_messages" not in web.output
    assert "Traceback" not in web.output
    assert not FailEventHistory.objects.exists()
    row.write()


def waiting_for_long(campaign: Campaign, crowd: Crowd, *, at_least: int) -> set[str] | None:
    """Users who have a place, so a server has their request in hand, and get no answer; not those whom the other server
    is about to answer."""
    found = set(ticket_holders(campaign))
    time.sleep(LONG_SEC)
    found -= crowd.promises(campaign.pk).keys()
    return found if len(found) >= at_least else None


def unpublished(campaign: Campaign, *, at_least: int) -> set[str] | None:
    """Users who have a place, and no message in the topic."""
    found = ticket_holders(campaign).keys() - published_users()
    return found if len(found) >= at_least else None


def is_answered(request: Request) -> bool:
    return request.was_sent and request.status != NO_ANSWER


def refuses_connections(address: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(address).port or 0)) != 0
