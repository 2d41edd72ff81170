"""Row 35: a virtual machine is paused in the middle of an answer. By its own clock no time has passed meanwhile."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import urllib3

from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import close_campaign
from coupons.models import Campaign, Coupon
from coupons.runtime.failpoints import WEB_ACKNOWLEDGED, WEB_ADMITTED, WEB_CONFIRMED, WEB_PRODUCED
from tests.support.matrix import Row
from tests.support.patience import patience
from tests.support.promises import apply_all, assert_history_holds, assert_kept
from tests.support.service import HEADERS, Service
from tests.support.topic import ticket_holders
from tests.support.waiting import wait_until

QUANTITY, WINNER = 20, "winner"
# A deadline that is still far away when the process goes on, as on a machine whose monotonic clock stood still with it.
# Everybody else counts on the usual second.
CLOCK_STANDS_STILL = {"COUPON_WEB_WORKERS": "1", **patience(accept_ms=30_000, delivery_ms=30_000)}


@pytest.mark.parametrize("point", [WEB_ADMITTED, WEB_PRODUCED, WEB_ACKNOWLEDGED, WEB_CONFIRMED])
def test_answers_of_a_paused_machine_are_kept_or_503(service: Service, point: str) -> None:
    """Redis is emptied and rebuilt meanwhile, and all places that it has left are given to others."""
    service.consumer("--solo")
    keeper = service.keeper()
    service.web(**CLOCK_STANDS_STILL)
    paused_address = service.url
    service.web(COUPON_FAILPOINTS="")
    campaign, beside = service.campaign(QUANTITY), service.campaign(20_000)
    crowd = service.crowd(beside, addresses=[service.url])
    row = Row(35, crowd, name=point.removeprefix("web."))
    crowd.goes_on("before", users=30)

    service.arm(point, "stop")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(apply, paused_address, campaign, WINNER)
        service.wait_for(point)
        with row.fault(f"web: stopped at {point}, its clock too; redis: FLUSHALL, rebuilt; all places given, closed"):
            admission_redis().flushall()
            wait_until(lambda: keeper.output.count("rebuild.done") == 2, what=lambda: keeper.output)
            promises = apply_all(campaign, range(QUANTITY - len(ticket_holders(campaign))))
            close_campaign(campaign_id=campaign.pk, actor="test")
            service.resume(point)
            told = answer.result(60)
    row.goes_on(users=30)

    assert_history_holds(crowd, campaigns=[beside])
    assert_kept(campaign, promises)
    has_coupon = Coupon.objects.filter(campaign=campaign, user_id=WINNER).exists()
    assert has_coupon == (point in (WEB_ACKNOWLEDGED, WEB_CONFIRMED)), "the rebuild found his message if Kafka had it"
    assert told.status == (202 if point == WEB_CONFIRMED else 503), told.data
    repeated = apply(paused_address, campaign, WINNER)
    assert repeated.status == (200 if has_coupon else 410), repeated.data
    row.write()


def apply(address: str, campaign: Campaign, user_id: str) -> urllib3.BaseHTTPResponse:
    url = f"{address}/api/v1/campaigns/{campaign.pk}/apply"
    return urllib3.request("POST", url, json={"user_id": user_id}, headers=HEADERS, timeout=60, retries=False)
