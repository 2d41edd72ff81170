"""PostgreSQL is down or hangs: the apply path asks it nothing."""

from uuid import uuid4

import urllib3

from coupons.models import Campaign
from tests.support.promises import assert_kept
from tests.support.service import Service
from tests.support.timeouts import web_timeouts
from tests.support.waiting import wait_until


def test_users_are_admitted_while_postgresql_hangs_or_is_down(service: Service) -> None:
    consumer = service.manage("run_coupon_consumer", "--solo")
    service.web(**web_timeouts(accept_ms=4_000, redis_ms=3_000))
    consumer.says("consumer.assigned")
    campaign = service.campaign(50)
    never_opened = service.campaign(5, opened=False)
    assert service.apply(never_opened, "1").status == 409
    promises = admit_five(service, campaign, "before")

    service.stack("pause", "postgres")
    promises |= admit_five(service, campaign, "hanging")
    service.stack("resume", "postgres")
    service.stack("kill", "postgres")
    promises |= admit_five(service, campaign, "down")

    again = service.apply(campaign, "down-1")
    assert (again.status, again.json()["sequence"]) == (200, promises["down-1"])
    assert service.apply(never_opened, "1").status == 409, "what was known of a draft is known still"
    assert problem(service.apply(Campaign(pk=uuid4()), "1")) == (503, "unavailable")
    assert service.ticket(campaign, "down-1").json() == {"status": "pending", "sequence": promises["down-1"]}
    assert problem(service.ticket(campaign, "nobody")) == (503, "unavailable")

    service.stack("start", "postgres")
    assert problem(wait_until(lambda: answered_again(service))) == (404, "not-found")
    assert_kept(campaign, promises)
    assert "consumer.revoked" not in consumer.output


def admit_five(service: Service, campaign: Campaign, name: str) -> dict[str, int]:
    users = [f"{name}-{number}" for number in range(5)]
    answers = {user: service.apply(campaign, user) for user in users}
    assert {answer.status for answer in answers.values()} == {202}
    return {user: answer.json()["sequence"] for user, answer in answers.items()}


def problem(answer: urllib3.BaseHTTPResponse) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


def answered_again(service: Service) -> urllib3.BaseHTTPResponse | None:
    answer = service.apply(Campaign(pk=uuid4()), "1")
    return answer if answer.status != 503 else None
