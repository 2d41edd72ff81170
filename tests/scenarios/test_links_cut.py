"""Row 26: the link to a server is cut, and comes back. Every process of the service goes through a proxy."""

import pytest

from coupons.models import Campaign
from faults.proxy import Direction
from tests.support.promises import Promises, assert_kept, issued
from tests.support.service import Service
from tests.support.waiting import hold, wait_until


@pytest.mark.parametrize(("part", "code"), [("redis", "unavailable"), ("kafka", "unconfirmed")])
def test_without_the_link_to_redis_or_kafka_nobody_is_promised_anything_and_then_it_goes_on(
    service: Service, part: str, code: str
) -> None:
    proxy = service.proxy(part)
    service.everything()
    campaign = service.campaign(100)
    promises = apply_until_promised(service, campaign, range(10))
    wait_until(lambda: issued(campaign) == 10)
    assert proxy.accepted >= 3, "web, consumer and keeper"

    proxy.blackhole()
    for user in range(10, 13):
        answer = service.apply(campaign, str(user))
        assert (answer.status, answer.json()["code"]) == (503, code)
    assert proxy.swallowed_bytes[Direction.REQUESTS] > 0
    proxy.let_pass()

    promises |= apply_until_promised(service, campaign, range(10, 20))
    assert sorted(promises.values()) == list(range(1, 21))
    assert_kept(campaign, promises, within_sec=60)


def test_without_the_link_to_postgresql_users_are_admitted_and_their_coupons_come_later(service: Service) -> None:
    proxy = service.proxy("postgres")
    _, consumer, _ = service.everything()
    campaign = service.campaign(100)
    promises = apply_until_promised(service, campaign, range(10))
    wait_until(lambda: issued(campaign) == 10)
    assert proxy.accepted >= 3, "web, consumer and keeper"

    proxy.blackhole()
    for user in range(10, 20):
        answer = service.apply(campaign, str(user))
        assert answer.status == 202
        promises[str(user)] = answer.json()["sequence"]
    wait_until(lambda: proxy.swallowed_bytes[Direction.REQUESTS] > 0, what="somebody asks it")
    hold(1.0, lambda: issued(campaign) == 10, "nothing is issued meanwhile")
    proxy.let_pass()

    assert_kept(campaign, promises, within_sec=60)
    assert consumer.stop() == 0


def apply_until_promised(service: Service, campaign: Campaign, users: range) -> Promises:
    def promised(user: str) -> int | None:
        answer = service.apply(campaign, user)
        return int(answer.json()["sequence"]) if answer.status in (200, 202) else None

    return {str(user): wait_until(lambda user=user: promised(str(user)), within_sec=40) for user in users}  # type: ignore[misc]
