"""A coupon's page: its whole life, who sees the code, and its two actions, which refuse in words."""

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from coupons.models import AuditEntry, Campaign, Coupon, CouponEvent, Redemption
from coupons.redemption.redeem import return_redemption, revoke_coupon
from coupons.runtime.clock import database_now
from tests.support.coupons import coupon_in, kinds, new_coupon, use
from tests.support.operators import (
    COUPONS,
    VIEW,
    form_on,
    history_of,
    messages_of,
    press,
    run_action,
    sign_in,
    text_of,
)

pytestmark = pytest.mark.usefixtures("transactional_db")

MAY = (*VIEW, "see_code", "revoke_coupon", "return_redemption", "view_auditentry")


@pytest.fixture
def operator(transactional_db: None) -> Client:
    return sign_in(*MAY)


def page_of(coupon: Coupon) -> str:
    return reverse("admin:coupons_coupon_change", args=[coupon.pk])


def confirmed(client: Client, coupon: Coupon, action: str, reason: str = "because") -> Any:
    """Press the button, and submit the page that asks."""
    asked = press(client, coupon, action)
    return client.post(page_of(coupon), form_on(asked, "confirmed", reason=reason), follow=True)


# --- shown ---------------------------------------------------------------------------------------------------


def test_a_page_tells_a_coupon_s_whole_life_in_order(operator: Client) -> None:
    coupon = new_coupon()
    first = use(coupon)
    return_redemption(redemption_id=first.pk, reason="cancelled <b>", actor="api:shop", may_touch=lambda _: True)
    use(coupon, "1002", hold_sec=60)

    text = text_of(operator.get(page_of(coupon)))

    life = text.partition(" Life At Who What Order Why ")[2]
    steps = ["issued", "api:shop redeemed 1001", "api:shop returned 1001 cancelled <b>", "api:shop held 1002"]
    places = [life.index(step) for step in steps]
    assert places == sorted(places)
    uses = text.partition(" Order State Made Held until Redeemed Ended ")[2].partition(" Life ")[0]
    assert uses.index("1001 returned") < uses.index("1002 held")
    assert "All times are in UTC." in text


@pytest.mark.parametrize("status", ["unused", "held", "redeemed", "revoked", "expired"])
def test_the_status_is_shown_on_page_and_list(operator: Client, status: str) -> None:
    ends = database_now() + timedelta(days=-1 if status == "expired" else 1)
    coupon = new_coupon(opens_at=database_now() - timedelta(days=3), valid_until=ends)
    if status in ("held", "redeemed"):
        use(coupon, hold_sec=60 if status == "held" else None)
    if status == "revoked":
        revoke_coupon(code=coupon.code, reason="fraud", actor="test", may_touch=lambda _: True)

    for page in (operator.get(page_of(coupon)), operator.get(reverse(COUPONS))):
        assert f">{status}</span>" in page.content.decode()
    expected = {"revoked": [], "held": ["return", "revoke"], "redeemed": ["return", "revoke"]}.get(status, ["revoke"])
    assert [name.partition("_")[0] for name in operator.get(page_of(coupon)).context["buttons"]] == expected


def test_a_hold_that_ended_by_the_clock_is_no_hold(operator: Client) -> None:
    coupon = new_coupon()
    use(coupon, hold_sec=60)
    Redemption.objects.update(hold_until=database_now())

    page = operator.get(page_of(coupon))

    assert "hold ended" in text_of(page)
    assert list(page.context["buttons"]) == ["revoke_coupons"]


def test_validity_counts_from_the_issue_where_it_is_in_days(operator: Client) -> None:
    coupon = new_coupon(valid_days=30)
    Coupon.objects.filter(pk=coupon.pk).update(issued_at="2026-01-01T10:00Z")

    text = text_of(operator.get(page_of(coupon)))

    assert "Valid from (UTC): when it was issued Valid until (UTC): 2026-01-31 10:00:00 " in text
    assert "Valid until (UTC): no end " in text_of(operator.get(page_of(new_coupon())))


def test_a_long_life_is_cut_to_its_newest_part(operator: Client) -> None:
    coupon = new_coupon()
    made = use(coupon)
    CouponEvent.objects.bulk_create(
        CouponEvent(coupon=coupon, redemption=made, kind="redeemed", actor="api:shop", reason=f"no {number}")
        for number in range(250)
    )

    text = text_of(operator.get(page_of(coupon)))

    assert "The newest ones only; there are more." in text
    assert ("no 49 " in text, "no 50 " in text, "no 249 " in text) == (False, True, True)


def test_the_list_s_status_needs_no_query_for_each_row(operator: Client) -> None:
    campaign = new_coupon().campaign
    for number in range(2, 9):
        use(coupon_in(campaign, f"u{number}", number), str(number))

    with CaptureQueriesContext(connection) as queries:
        operator.get(reverse(COUPONS))

    reading = [each["sql"] for each in queries if "coupons_redemption" in each["sql"]]
    assert len(reading) == 1, "the count reads no redemptions either"


# --- revoke ----------------------------------------------------------------------------------------------------


def test_revoking_asks_and_names_the_coupon_and_is_audited(operator: Client) -> None:
    coupon = new_coupon()
    asked = press(operator, coupon, "revoke_coupons")
    assert "42 #1 test unused" in text_of(asked)
    assert kinds(coupon) == []
    assert "Give a reason" in text_of(operator.post(page_of(coupon), form_on(asked, reason=" ")))

    page = confirmed(operator, coupon, "revoke_coupons", "fraud")

    assert messages_of(page) == ["success: 42 #1 is revoked: no order can redeem it any more."]
    assert page.context["buttons"] == {}
    event = CouponEvent.objects.get()
    assert (event.kind, event.actor, event.reason) == ("revoked", "op", "fraud")
    assert history_of(coupon) == ["Revoked: fraud"]
    listed = operator.get(reverse("admin:coupons_auditentry_changelist"), {"q": str(coupon.pk)})
    assert "op Revoked coupon 42 #1 fraud" in text_of(listed)


def test_a_revoked_coupon_takes_the_hold_along(operator: Client) -> None:
    coupon = new_coupon()
    use(coupon, hold_sec=600)

    confirmed(operator, coupon, "revoke_coupons")

    assert kinds(coupon) == ["held", "returned", "revoked"]


def test_a_redeemed_coupon_is_not_revoked_and_the_page_says_what_to_do(operator: Client) -> None:
    coupon = new_coupon()
    use(coupon)

    asked = press(operator, coupon, "revoke_coupons")

    assert "A redeemed coupon cannot be revoked" in text_of(asked)
    assert "42 #1 test 1001 redeemed" in text_of(asked)
    assert 'name="confirmed"' not in asked.content.decode()


def test_a_redemption_between_page_and_button_refuses_in_words(operator: Client) -> None:
    coupon = new_coupon()
    asked = form_on(press(operator, coupon, "revoke_coupons"), reason="fraud")
    use(coupon)

    page = operator.post(page_of(coupon), asked, follow=True)

    assert messages_of(page) == ["error: 42 #1: Order 1001 has redeemed it. Return that redemption first."]
    assert (kinds(coupon), history_of(coupon)) == (["redeemed"], [])


def test_the_list_revokes_each_coupon_by_itself(operator: Client) -> None:
    free, redeemed = new_coupon(), new_coupon("43")
    use(redeemed)

    asked = run_action(operator, COUPONS, "revoke_coupons", free, redeemed)
    operator.post(reverse(COUPONS), form_on(asked, reason="fraud"))

    assert (kinds(free), kinds(redeemed)) == (["revoked"], ["redeemed"])


# --- return ----------------------------------------------------------------------------------------------------


def test_returning_names_the_order_and_is_audited(operator: Client) -> None:
    coupon = new_coupon()
    use(coupon)
    assert "42 #1 test 1001 redeemed" in text_of(press(operator, coupon, "return_redemptions"))

    page = confirmed(operator, coupon, "return_redemptions", "sent back")

    assert messages_of(page) == ["success: 42 #1: the redemption of order 1001 is returned. It can be redeemed again."]
    assert kinds(coupon) == ["redeemed", "returned"]
    assert history_of(coupon) == ["Returned the redemption of order 1001: sent back"]


def test_a_return_takes_only_the_redemption_that_its_page_named(operator: Client) -> None:
    """Another order may have redeemed the coupon since."""
    coupon = new_coupon()
    first = use(coupon)
    asked = form_on(press(operator, coupon, "return_redemptions"), reason="sent back")
    return_redemption(redemption_id=first.pk, reason="x", actor="api:shop", may_touch=lambda _: True)
    use(coupon, "1002")

    page = operator.post(page_of(coupon), asked, follow=True)

    assert messages_of(page) == ["info: 42 #1: order 1001 had returned it before. Nothing was done."]
    assert Redemption.objects.get(order_ref="1002").state == "redeemed"


@pytest.mark.parametrize("named", [[], ["x"], ["00000000-0000-0000-0000-000000000000"]])
def test_a_return_that_names_no_redemption_of_the_coupon_does_nothing(operator: Client, named: list[str]) -> None:
    coupon = new_coupon()
    use(coupon)
    asked = form_on(press(operator, coupon, "return_redemptions"), reason="x", redemption=named)

    page = operator.post(page_of(coupon), asked, follow=True)

    assert "Nothing was done: no redemption was named." in messages_of(page)[0]
    assert kinds(coupon) == ["redeemed"]


def test_a_return_of_an_expired_coupon_says_so(operator: Client) -> None:
    coupon = new_coupon(valid_until=database_now() + timedelta(days=1))
    use(coupon)
    asked = form_on(press(operator, coupon, "return_redemptions"), reason="x")
    Campaign.objects.update(opens_at=database_now() - timedelta(days=2), valid_until=database_now())

    page = operator.post(page_of(coupon), asked, follow=True)

    assert "It has expired, so no order can redeem it." in messages_of(page)[0]


# --- twice, and who may ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["revoke_coupons", "return_redemptions"])
def test_a_confirmation_sent_twice_acts_once(operator: Client, action: str) -> None:
    coupon = new_coupon()
    if action == "return_redemptions":
        use(coupon)
    asked = form_on(press(operator, coupon, action), reason="x")

    pages = [operator.post(page_of(coupon), asked, follow=True) for _ in range(2)]

    assert len(history_of(coupon)) == 1
    assert messages_of(pages[1])[-1] == "info: This form had been sent before, so nothing was done again."


@pytest.mark.parametrize("right", ["revoke_coupon", "return_redemption", "view_coupon"])
def test_each_right_opens_its_own_button(right: str) -> None:
    coupon = new_coupon()
    use(coupon, hold_sec=600)
    client = sign_in(right)

    page = client.get(page_of(coupon))

    buttons = {"revoke_coupon": ["revoke_coupons"], "return_redemption": ["return_redemptions"], "view_coupon": []}
    assert list(page.context["buttons"]) == buttons[right]
    for action in {"revoke_coupons", "return_redemptions"} - set(buttons[right]):
        assert press(client, coupon, action).status_code == 403
    assert kinds(coupon) == ["held"]


@pytest.mark.attack(
    "a code where it does not belong", "each page, message, log line and audit text after an act on a coupon", "none"
)
def test_no_log_audit_message_or_other_page_has_the_code(operator: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    coupon = new_coupon()
    use(coupon)

    pages = [
        press(operator, coupon, "return_redemptions"),
        confirmed(operator, coupon, "return_redemptions"),
        press(operator, coupon, "revoke_coupons"),
        confirmed(operator, coupon, "revoke_coupons"),
    ]

    assert len(history_of(coupon)) == 2
    assert coupon.code not in f"{list(AuditEntry.objects.values())}{list(CouponEvent.objects.values())}{coupon}"
    own_lines = [each.getMessage() for each in caplog.records if each.name != "django.db.backends"]
    assert coupon.code not in "".join(own_lines)
    for page in pages:
        assert not [text for text in messages_of(page) if coupon.code in text]
        assert not [where for where, _ in page.redirect_chain if coupon.code in where]
    auditor = sign_in(*VIEW, name="auditor")
    for where in (page_of(coupon), reverse("admin:coupons_coupon_history", args=[coupon.pk]), reverse(COUPONS)):
        assert coupon.code[:-4] not in auditor.get(where).content.decode()
