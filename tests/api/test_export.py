"""All coupons of a campaign as CSV: who gets what, the exact cells, and what is kept of it."""

import csv
import io
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from coupons.auth.api_keys import create_api_key
from coupons.models import AuditEntry, Campaign, Coupon, Redemption, Scope
from coupons.redemption import redeem
from coupons.redemption.export import BYTE_ORDER_MARK, COLUMNS
from coupons.runtime.clock import database_now
from tests.support.http import Api, assert_problem
from tests.support.issuer import Issuer
from tests.support.service import Service
from tests.support.tickets import admit, insert_coupons, issue, ticket

pytestmark = pytest.mark.usefixtures("long_timeouts")


def campaign_of(service: Service, *users: str, **terms: Any) -> Campaign:
    campaign = service.campaign(100)
    for user, sequence in zip(users, admit(campaign, *users), strict=True):
        issue(ticket(campaign, user, sequence))
    if terms:
        Campaign.objects.filter(pk=campaign.pk).update(**terms)
    return campaign


def download(api: Api, campaign: Campaign, query: str = "") -> list[dict[str, str]]:
    answer = api.get(f"campaigns/{campaign.pk}/coupons.csv{query}")
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    return rows_of(answer.getvalue())


def rows_of(data: bytes) -> list[dict[str, str]]:
    assert data.startswith(BYTE_ORDER_MARK)
    reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    rows = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS
    return rows


def redeem_for(coupon: Coupon, order_ref: str, *, hold_sec: int | None = None) -> Any:
    return redeem.redeem(
        code=coupon.code,
        order_ref=order_ref,
        user_id=None,
        hold_sec=hold_sec,
        actor="test",
        may_touch=lambda campaign_id: True,
    )


def key_with(*scopes: Scope, campaigns: Sequence[UUID] = ()) -> Api:
    _, secret = create_api_key(name="x", scopes=list(scopes), campaign_ids=campaigns, actor="test")
    return Api(f"Bearer {secret}")


def test_each_coupon_has_its_line_with_status_and_order(api: Api, service: Service) -> None:
    campaign = campaign_of(service, "a", "b", "c", "d", "e", valid_days=3)
    coupons = {coupon.user_id: coupon for coupon in Coupon.objects.all()}
    redeem_for(coupons["b"], "order 1")
    redeem_for(coupons["c"], "order 2", hold_sec=600)
    redeem_for(coupons["d"], "order 3", hold_sec=600)
    Redemption.objects.filter(coupon=coupons["d"]).update(hold_until=database_now())
    redeem.revoke_coupon(code=coupons["e"].code, reason="fraud", actor="test", may_touch=lambda campaign_id: True)

    rows = download(api, campaign)

    assert [(row["sequence"], row["user_id"], row["status"], row["order_ref"]) for row in rows] == [
        ("1", "a", "unused", ""),
        ("2", "b", "redeemed", "order 1"),
        ("3", "c", "held", "order 2"),
        ("4", "d", "unused", ""),
        ("5", "e", "revoked", ""),
    ]
    for row in rows:
        coupon = coupons[row["user_id"]]
        assert row["code"] == coupon.code
        assert row["issued_at"] == coupon.issued_at.isoformat(timespec="microseconds")
        assert row["valid_until"] == (coupon.issued_at + timedelta(days=3)).isoformat(timespec="microseconds")
    redeemed = Redemption.objects.get(order_ref="order 1").redeemed_at
    assert redeemed is not None
    assert [row["redeemed_at"] for row in rows] == ["", redeemed.isoformat(timespec="microseconds"), "", "", ""]


def test_the_list_s_status_is_the_export_s_and_the_check_s(api: Api, service: Service) -> None:
    """One rule, told three ways."""
    campaign = campaign_of(service, *"abcd")
    coupons = list(Coupon.objects.order_by("sequence"))
    redeem_for(coupons[1], "1")
    redeem_for(coupons[2], "2", hold_sec=600)
    Campaign.objects.filter(pk=campaign.pk).update(valid_until=database_now())

    exported = {row["user_id"]: row["status"] for row in download(api, campaign)}
    for coupon in coupons:
        checked = api.post("coupons/check", {"code": coupon.code}).json()["status"]
        (listed,) = api.get(f"users/{coupon.user_id}/coupons").json()["results"]
        assert exported[coupon.user_id] == listed["status"] == checked
    assert exported == {"a": "expired", "b": "redeemed", "c": "held", "d": "expired"}


@pytest.mark.parametrize(
    "user", ["=1+1", "+82-10", "-7", "@cmd", "'quoted", "\N{FULLWIDTH EQUALS SIGN}1", " =1+1", "\t=1", "\n=1"]
)
def test_no_cell_runs_and_each_can_be_had_back(api: Api, service: Service, user: str) -> None:
    """Some of these can be order references alone."""
    campaign = service.campaign(10)
    insert_coupons(campaign, [(user, 1)])
    redeem_for(Coupon.objects.get(), user)

    (row,) = download(api, campaign)

    for cell in (row["user_id"], row["order_ref"]):
        assert cell.startswith("'")
        assert cell.removeprefix("'") == user


def test_texts_with_commas_quotes_and_lines_come_back_as_they_were(api: Api, service: Service) -> None:
    campaign = campaign_of(service, "a", "b")
    odd = 'x,"y"\r\nz; 한글 \N{PARTY POPPER}'
    redeem_for(Coupon.objects.get(user_id="a"), odd)

    rows = download(api, campaign)

    assert [row["order_ref"] for row in rows] == [odd, ""]


def test_status_and_since_choose(api: Api, service: Service) -> None:
    campaign = campaign_of(service, "old", "new")
    old, new = Coupon.objects.order_by("sequence")
    Coupon.objects.filter(pk=old.pk).update(issued_at=new.issued_at - timedelta(days=1))
    redeem_for(new, "1")
    since = new.issued_at.isoformat().replace("+", "%2B")

    assert [row["user_id"] for row in download(api, campaign, "?status=unused")] == ["old"]
    assert [row["user_id"] for row in download(api, campaign, f"?since={since}")] == ["new"]
    assert download(api, campaign, f"?since={since}&status=unused") == []
    for query, field in (
        ("?status=used", "status"),
        ("?status=unused&status=held", "status"),
        ("?since=yesterday", "since"),
        ("?since=2026-12-01T10:00:00", "since"),
        ("?since=", "since"),
    ):
        problem = assert_problem(api.get(f"campaigns/{campaign.pk}/coupons.csv{query}"), 400, "invalid")
        assert set(problem["errors"]) == {field}


def test_codes_are_for_who_may_redeem(service: Service) -> None:
    campaign = campaign_of(service, "a")
    code = Coupon.objects.get().code

    both, reads, redeems = key_with(Scope.READ, Scope.REDEEM), key_with(Scope.READ), key_with(Scope.REDEEM)
    path = f"campaigns/{campaign.pk}/coupons.csv"

    assert [row["code"] for row in download(both, campaign)] == [code]
    assert [row["code"] for row in download(reads, campaign)] == [""]
    assert_problem(redeems.get(path), 403, "forbidden")
    assert_problem(Api("").get(path), 401, "unauthenticated")


def test_a_key_of_certain_campaigns_sees_no_other(service: Service) -> None:
    mine, other = campaign_of(service, "a"), campaign_of(service, "b")
    api = key_with(Scope.READ, campaigns=[mine.pk])

    assert len(download(api, mine)) == 1
    assert_problem(api.get(f"campaigns/{other.pk}/coupons.csv"), 404, "not-found")
    assert_problem(api.get("campaigns/nowhere/coupons.csv"), 404, "not-found")
    assert AuditEntry.objects.filter(what__startswith="Exported").count() == 1


def test_a_user_exports_nothing(service: Service, issuer: Issuer) -> None:
    campaign = campaign_of(service, "42")

    answer = Api(f"Bearer {issuer.token('42')}").get(f"campaigns/{campaign.pk}/coupons.csv")

    assert_problem(answer, 403, "forbidden")


def test_the_audit_has_one_row_before_the_first_byte(api: Api, service: Service) -> None:
    campaign = campaign_of(service, "a")
    answer = api.get(f"campaigns/{campaign.pk}/coupons.csv?status=unused")

    entry = AuditEntry.objects.get(what__startswith="Exported")
    assert (entry.kind, entry.object_id) == ("coupons.campaign", str(campaign.pk))
    assert entry.actor.startswith("api:key-")
    assert entry.what == "Exported the coupons, with codes, status unused"
    rows_of(answer.getvalue())
    assert AuditEntry.objects.filter(what__startswith="Exported").count() == 1


def test_head_exports_nothing(api: Api, service: Service) -> None:
    campaign = campaign_of(service, "a")
    answer = api.request("HEAD", f"campaigns/{campaign.pk}/coupons.csv")

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert not AuditEntry.objects.filter(what__startswith="Exported").exists()


def test_options_names_the_methods(api: Api, service: Service) -> None:
    answer = api.request("OPTIONS", f"campaigns/{service.campaign().pk}/coupons.csv")

    assert (answer.status_code, answer["Allow"]) == (200, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize("accept", ["text/csv", "application/json", "*/*", "text/html"])
def test_whatever_is_accepted_gets_the_file(api: Api, service: Service, accept: str) -> None:
    campaign = campaign_of(service, "a")
    answer = api.get(f"campaigns/{campaign.pk}/coupons.csv", accept=accept)

    assert len(rows_of(answer.getvalue())) == 1


def sessions() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s AND pid <> pg_backend_pid()", ["%_django_curs_%"]
        )
        return int(cursor.fetchone()[0])


def test_an_answer_that_nobody_reads_ends_its_session(api: Api, service: Service) -> None:
    """Django closes the answer when the client has gone, before its first chunk too."""
    campaign = campaign_of(service, "a")
    answer = api.get(f"campaigns/{campaign.pk}/coupons.csv")
    assert sessions() == 1

    answer.close()

    assert sessions() == 0
