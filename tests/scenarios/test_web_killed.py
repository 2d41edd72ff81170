"""A web process dies by SIGKILL in the middle of a request: who was not answered lost nothing by it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import urllib3

from coupons.admission import gate
from coupons.failpoints import WEB_ACKNOWLEDGED, WEB_ADMITTED, WEB_PRODUCED
from coupons.messaging.topics import partition_lags
from coupons.models import Campaign, Coupon
from tests.support.promises import Promises, assert_kept
from tests.support.service import Service
from tests.support.waiting import wait_until

RELAY_SOON = {"COUPON_RELAY_AFTER_MS": "2500", "COUPON_DELIVERY_TIMEOUT_MS": "1000"}


@pytest.mark.parametrize("point", [WEB_ADMITTED, WEB_ACKNOWLEDGED])
def test_killed_after_redis_admitted_a_user_nobody_answered_him_and_he_gets_his_coupon(
    service: Service, point: str
) -> None:
    """Row 1: between Redis and Kafka. And with the message in Kafka, one step before the answer."""
    web = service.web(COUPON_WEB_WORKERS="1")
    campaign = service.campaign(100)
    promises = apply_until_answered(service, campaign, range(10))
    service.arm(point, "kill")

    assert answer(service, campaign, "unanswered") is None

    assert service.has_happened(point)
    assert admitted(campaign) == 11
    assert in_the_topic() == (10 if point == WEB_ADMITTED else 11)
    promises |= apply_until_answered(service, campaign, range(10, 20))
    assert sorted(promises.values()) == [*range(1, 11), *range(12, 22)], "his place is kept"
    service.consumer("--solo")
    service.keeper(**RELAY_SOON)
    assert_kept(campaign, promises)
    assert Coupon.objects.get(campaign=campaign, user_id="unanswered").sequence == 11
    again = service.apply(campaign, "unanswered")
    assert (again.status, again.json()["sequence"]) == (200, 11)
    assert web.exit_code is None, "the server started a new worker"


def test_killed_with_messages_in_the_producers_queue_the_relay_publishes_them(service: Service) -> None:
    """Row 2: eight users wait; none of their messages has left the process."""
    service.web(COUPON_WEB_WORKERS="1", COUPON_WEB_THREADS="8", COUPON_PRODUCER_LINGER_MS="100")
    campaign = service.campaign(100)
    promises = apply_until_answered(service, campaign, range(5))
    service.stack("pause", "kafka")
    service.arm(WEB_PRODUCED, "kill@8")
    users = [f"unanswered-{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda user: answer(service, campaign, user), users)) == [None] * 8
    service.stack("resume", "kafka")

    assert service.has_happened(WEB_PRODUCED)
    assert admitted(campaign) == 13
    assert in_the_topic() == 5, "what was in the queue died with the process"
    promises |= apply_until_answered(service, campaign, range(5, 10))
    service.consumer("--solo")
    keeper = service.keeper(**RELAY_SOON)
    assert_kept(campaign, promises)
    keeper.says("8 published again")
    issued = dict(Coupon.objects.filter(campaign=campaign).values_list("user_id", "sequence"))
    assert {issued[user] for user in users} == set(range(6, 14))


def test_the_workers_of_a_server_that_was_killed_end_and_leave_its_port(service: Service) -> None:
    web = service.web()
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


def apply_until_answered(service: Service, campaign: Campaign, users: range) -> Promises:
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


def admitted(campaign: Campaign) -> int:
    return gate.describe(campaign_id=campaign.pk, epoch=1).admitted


def in_the_topic() -> int:
    return sum(lag.end for lag in partition_lags().values())
