"""COUPON_PATH_PREFIX: requests with the prefix and without it get the same answers, whose addresses all have it.

tests/scenarios/test_behind_nginx.py follows those addresses through a proxy.
"""

import json
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit
from wsgiref.util import setup_testing_defaults

import pytest
import urllib3

from coupons.models import Campaign
from tests.support.process import ROOT
from tests.support.service import HEADERS, Service
from tests.support.timeouts import LONG_TIMEOUTS

PREFIX = "/coupons"


@pytest.fixture
def campaign(service: Service) -> Campaign:
    service.webs(COUPON_PATH_PREFIX=PREFIX, **LONG_TIMEOUTS)
    return service.campaign(1)


def test_front_and_view_give_out_addresses_with_the_prefix(service: Service, campaign: Campaign) -> None:
    for address in service.addresses:
        for prefix in ("", PREFIX):
            won, lost = (apply(f"{address}{prefix}", campaign, user) for user in ("anna", "ben"))
            assert won["status_url"] == f"{PREFIX}/api/v1/campaigns/{campaign.pk}/tickets/anna"
            assert lost["type"] == f"{PREFIX}/api/docs/problems#sold-out"
            assert urllib3.request("GET", f"{address}{won['status_url']}", headers=HEADERS).status == 200


def test_probes_are_where_they_always_are(service: Service, campaign: Campaign) -> None:
    for address in service.addresses:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert urllib3.request("GET", f"{address}{path}").status == 200
            assert urllib3.request("GET", f"{address}{PREFIX}{path}").status == 200
        assert urllib3.request("GET", f"{address}/couponsx/healthz").status == 404


def test_a_wsgi_server_takes_the_prefix_off_too(service: Service) -> None:
    """Another server than bin/web, with Django alone."""
    environ: dict[str, Any] = {"PATH_INFO": f"{PREFIX}/api/nothing", "HTTP_HOST": "localhost"}
    setup_testing_defaults(environ)
    plain = {name: value for name, value in environ.items() if isinstance(value, str)}
    program = f"""
import io, sys
from couponsite.wsgi import application
body = application({plain} | {{"wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http"}},
                   lambda status, headers: print(status))
print(b"".join(body).decode())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**service.environment, "COUPON_PATH_PREFIX": PREFIX},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    status, body = done.stdout.split("\n", 1)
    assert (status, json.loads(body)["type"]) == ("404 Not Found", f"{PREFIX}/api/docs/problems#not-found"), done.stderr


def apply(address: str, campaign: Campaign, user: str) -> dict[str, Any]:
    assert urlsplit(address).hostname
    url = f"{address}/api/v1/campaigns/{campaign.pk}/apply"
    answer = urllib3.request("POST", url, json={"user_id": user}, headers=HEADERS, timeout=10)
    document: dict[str, Any] = answer.json()
    return document
