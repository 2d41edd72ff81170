"""Row 35: a virtual machine is paused in the middle of an answer. By its own clock no time has passed meanwhile."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import urllib3

from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import close_campaign
from coupons.models import Campaign, Coupon
from coupons.runtime.failpoints import WEB_ACKNOWLEDGED, WEB_ADMITTED, WEB_CONFIRMED, WEB_PRODUCED
from tests.support.matrix import Row
from tests.support.promises import Promises, apply_all, assert_history_holds, assert_kept
from tests.support.service import HEADERS, Service
from tests.support.timeouts import web_timeouts
from tests.support.topic import ticket_holders

QUANTITY, WINNER = 20, "winner"
# A deadline that is still far away when the process goes on, as on a machine whose monotonic clock stood still with it.
# Everybody else counts on the usual second.
CLOCK_STANDS_STILL = web_timeouts(accept_ms=30_000, delivery_ms=30_000)


@pytest.mark.parametrize(
    "points", [(WEB_ADMITTED, WEB_PRODUCED), (WEB_ACKNOWLEDGED, WEB_CONFIRMED)], ids=["not yet acknowledged", "then"]
)
def test_answers_of_a_paused_machine_are_kept_or_503(service: Service, points: tuple[str, ...]) -> None:
    """Redis is emptied and rebuilt meanwhile, and all places that it has left are given to others."""
    service.manage("run_coupon_consumer", "--solo")
    keeper = service.keeper()
    service.web(**CLOCK_STANDS_STILL)
    paused_address = service.url
    service.web(COUPON_FAILPOINTS="")
    beside = service.campaign(20_000)
    row = Row(35, service.crowd(beside, addresses=[service.url]), name=points[0].removeprefix("web."))
    row.crowd.wait_for_promises("before", users=30)
    ended: list[tuple[str, Campaign, Promises, urllib3.BaseHTTPResponse]] = []

    for point in points:
        campaign = service.campaign(QUANTITY)
        service.arm(point, "stop")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(apply, paused_address, campaign, WINNER)
            service.wait_for(point)
            with row.fault(f"web: stopped at {point}, its clock too; FLUSHALL, rebuilt; all places given, closed"):
                rebuilds = keeper.has_said("rebuild.done") + Campaign.objects.count()
                admission_redis().flushall()
                keeper.says("rebuild.done", times=rebuilds)
                promises = apply_all(campaign, range(QUANTITY - len(ticket_holders(campaign))))
                close_campaign(campaign_id=campaign.pk, actor="test")
                service.resume(point)
                ended.append((point, campaign, promises, answer.result(60)))
        row.wait_for_promises(users=30)

    assert_history_holds(row.crowd, campaigns=[beside])
    for point, campaign, promises, told in ended:
        assert_kept(campaign, promises)
        has_coupon = Coupon.objects.filter(campaign=campaign, user_id=WINNER).exists()
        assert has_coupon == (point in (WEB_ACKNOWLEDGED, WEB_CONFIRMED)), f"found if Kafka had his message, {point}"
        assert told.status == (202 if point == WEB_CONFIRMED else 503), (point, told.data)
        repeated = apply(paused_address, campaign, WINNER)
        assert repeated.status == (200 if has_coupon else 410), (point, repeated.data)
    row.write()


def apply(address: str, campaign: Campaign, user_id: str) -> urllib3.BaseHTTPResponse:
    url = f"{address}/api/v1/campaigns/{campaign.pk}/apply"
    return urllib3.request("POST", url, json={"user_id": user_id}, headers=HEADERS, timeout=60, retries=False)
