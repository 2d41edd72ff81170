"""Exports over HTTP from a real web server: at most a few at once, none for a client that has gone, none half."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import urllib3
from django.db import connection

from coupons.models import Campaign
from harness import unlimited_waits
from tests.support.raw_http import connect, head
from tests.support.service import HEADERS, Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import hold, wait_until

ROWS = 200_000  # far more than fit into the buffers between the two
FILL = """
INSERT INTO coupons_coupon (campaign_id, user_id, sequence, code)
SELECT %s, 'user-' || n, n, md5(%s::text || n) FROM generate_series(1, %s) AS n
"""
CURSORS = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%_django_curs_%' AND pid <> pg_backend_pid()"


@pytest.fixture
def campaign(service: Service) -> Campaign:
    campaign = service.campaign(ROWS)
    with unlimited_waits(), connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(FILL, [campaign.pk, campaign.pk, ROWS])
    connection.close()
    return campaign


def path_of(campaign: Campaign) -> str:
    return f"/api/v1/campaigns/{campaign.pk}/coupons.csv"


def cursors() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(CURSORS)
        return [pid for (pid,) in cursor.fetchall()]


@contextmanager
def reader(service: Service, campaign: Campaign) -> Iterator[socket.socket]:
    """A client that has read the beginning of an export, and reads no further."""
    with connect(service.url) as client:
        client.sendall(head("GET", path_of(campaign)))
        begun = b""
        while b"sequence,user_id" not in begun:
            begun += client.recv(1_000)
        assert begun.startswith(b"HTTP/1.1 200")
        yield client


def test_a_client_that_goes_frees_thread_and_connection(service: Service, campaign: Campaign) -> None:
    web = service.web(**LONG_TIMEOUTS)
    for _ in range(3):  # more than there are places
        with reader(service, campaign):
            assert len(cursors()) == 1
        wait_until(lambda: not cursors(), within_sec=10, what="the export's session has ended")
    web.says("export.left", times=3)


def test_exports_beyond_the_places_are_told_so_and_short_requests_go_on(service: Service, campaign: Campaign) -> None:
    service.web(**LONG_TIMEOUTS, COUPON_WEB_THREADS="2")
    with ExitStack() as readers:
        for _ in range(2):
            readers.enter_context(reader(service, campaign))
        refused = urllib3.request("GET", f"{service.url}{path_of(campaign)}", headers=HEADERS, retries=False)

        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        assert refused.json()["code"] == "unavailable"
        assert "Other exports are being sent" in refused.json()["detail"]
        assert len(cursors()) == 2
        hold(1, lambda: service.ticket(campaign, "user-7").status == 200, "tickets are answered meanwhile")
        assert service.get("/admin/login/").status == 200

    wait_until(lambda: not cursors(), within_sec=10, what="both sessions have ended")
    again = urllib3.request("GET", f"{service.url}{path_of(campaign)}", headers=HEADERS, retries=False)
    assert again.status == 200
    assert again.data.count(b"\r\n") == ROWS + 1


def test_an_export_that_breaks_off_does_not_look_complete(service: Service, campaign: Campaign) -> None:
    web = service.web(**LONG_TIMEOUTS)
    with reader(service, campaign) as client:
        (pid,) = cursors()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
        client.settimeout(20)
        last = b""
        while piece := client.recv(1 << 20):
            last = (last + piece)[-5:]

    assert last != b"0\r\n\r\n", "the end of a chunked answer"
    web.says("export.broken_off")
    assert "Traceback" not in web.output
