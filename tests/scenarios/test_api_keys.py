"""API keys in running web processes: revoked within seconds, and good while PostgreSQL is down."""

import pytest
import urllib3

from coupons.auth.api_keys import create_api_key, revoke_api_key
from coupons.models import ApiKey, Campaign, Scope
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until

WITHIN_SEC = 20.0
"""A revocation takes two seconds; the rest is for a machine that stands still."""


@pytest.fixture
def campaign(service: Service) -> Campaign:
    return service.campaign(50)


def a_key() -> tuple[ApiKey, str]:
    return create_api_key(name="shop", scopes=Scope.values, actor="test")


def apply(service: Service, campaign: Campaign, key: str, user_id: str = "1") -> urllib3.BaseHTTPResponse:
    url = f"{service.url}/api/v1/campaigns/{campaign.pk}/apply"
    headers = {"Authorization": f"Bearer {key}"}
    return urllib3.request("POST", url, json={"user_id": user_id}, headers=headers, retries=False, timeout=10)


def wait_for(status: int, service: Service, campaign: Campaign, key: str) -> None:
    """Ten answers in a row, which come from both worker processes."""
    wait_until(
        lambda: all(apply(service, campaign, key).status == status for _ in range(10)),
        within_sec=WITHIN_SEC,
        what=f"{status} from every process",
    )


def test_a_key_is_good_and_then_revoked_within_seconds(service: Service, campaign: Campaign) -> None:
    service.web(**LONG_TIMEOUTS)
    row, key = a_key()
    wait_until(lambda: apply(service, campaign, key).status == 202, within_sec=WITHIN_SEC, what="the key is known")

    revoke_api_key(prefix=row.prefix, actor="test", reason="stolen")

    wait_for(401, service, campaign, key)


def test_a_known_key_applies_while_postgresql_is_down(service: Service, campaign: Campaign) -> None:
    revoked, stolen = a_key()
    _, key = a_key()
    revoke_api_key(prefix=revoked.prefix, actor="test", reason="stolen")
    service.web(**LONG_TIMEOUTS)
    assert apply(service, campaign, key).status == 202
    wait_for(200, service, campaign, key)

    service.stack("kill", "postgres")

    for number in range(10):
        assert apply(service, campaign, key, f"user-{number}").status == 202
        assert apply(service, campaign, stolen, "thief").status == 401


def test_a_process_that_starts_without_postgresql_cannot_tell_about_keys(service: Service, campaign: Campaign) -> None:
    _, key = a_key()
    service.stack("stop", "postgres")
    service.web(**LONG_TIMEOUTS)

    assert apply(service, campaign, key).status == 503
    assert apply(service, campaign, "wrong").status == 401
    assert apply(service, campaign, "test-key", user_id="a b").status == 400, "a key of COUPON_API_KEYS is let in"

    service.stack("start", "postgres")
    wait_until(lambda: apply(service, campaign, key).status == 202, within_sec=60, what="the key is known")
