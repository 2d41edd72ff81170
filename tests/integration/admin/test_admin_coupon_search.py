"""The coupons' search field: by user, by order, and by a code as people type it, which stands in no address."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from coupons.models import Coupon
from tests.support.coupons import coupon_in, new_coupon, use
from tests.support.operators import COUPONS, VIEW, form_on, messages_of, sign_in, text_of

pytestmark = pytest.mark.usefixtures("transactional_db")

LIST = reverse(COUPONS)
NOTHING = "error: Nothing was found: no user has exactly this id, and no order exactly this reference"


@pytest.fixture
def operator(transactional_db: None) -> Client:
    return sign_in(*VIEW, "see_code")


def search(client: Client, term: str, where: str = LIST) -> Any:
    """Type it into the list's field, as a browser sends it."""
    return client.post(where, form_on(client.get(where), "search", search=term), follow=True)


def listed(page: Any) -> list[str]:
    return [str(coupon) for coupon in page.context["cl"].result_list]


@pytest.mark.parametrize("how", ["stored", "lower case", "no hyphens", "blanks", "letters for digits", "dashes"])
def test_a_code_as_people_type_it_leads_to_the_coupon(operator: Client, how: str) -> None:
    coupon = new_coupon()
    typed = {
        "stored": coupon.code,
        "lower case": coupon.code.lower(),
        "no hyphens": coupon.code.replace("-", ""),
        "blanks": f" {coupon.code.replace('-', ' ')} ",
        "letters for digits": coupon.code.replace("0", "o").replace("1", "l"),
        "dashes": coupon.code.replace("-", "\N{EN DASH}"),
    }[how]

    page = search(operator, typed)

    assert page.redirect_chain == [(reverse("admin:coupons_coupon_change", args=[coupon.pk]), 302)]
    assert coupon.code in text_of(page)


def test_a_code_of_26_letters_is_found_too(operator: Client) -> None:
    coupon = coupon_in(new_coupon().campaign, "7", 7, code="3I5WCIMBPTHYQVRN47MENX547I")

    assert search(operator, "3i5wcimbpthyqvrn47menx547i").context["original"] == coupon


@pytest.mark.attack(
    "a search by code without the right", "an auditor types a coupon's code, and puts it in an address", "not found"
)
def test_who_may_not_see_codes_cannot_search_by_code(transactional_db: None) -> None:
    coupon, auditor = new_coupon(), sign_in(*VIEW)

    real, other = search(auditor, coupon.code), search(auditor, "0000-0000-0000-0000")

    assert messages_of(real) == messages_of(other) == [f"{NOTHING}. You may not search by code."]
    assert [where for where, _ in real.redirect_chain] == [LIST]
    assert listed(auditor.get(LIST, {"q": coupon.code})) == []
    assert "as people type it" not in text_of(auditor.get(LIST))


def test_nobody_searches_by_a_code_in_an_address(operator: Client) -> None:
    assert listed(operator.get(LIST, {"q": new_coupon().code})) == []


@pytest.mark.parametrize("term", ["4242-4242-4242-4242", "3I5WCIMBPTHYQVRN47MENX547I", "x\0", "x" * 5000, "%s '"])
def test_what_is_not_found_stands_in_no_address_and_no_message(operator: Client, term: str) -> None:
    """It may be a code with a typing error."""
    page = search(operator, term)

    assert page.redirect_chain == [(LIST, 302)]
    (message,) = messages_of(page)
    assert message.startswith(NOTHING)
    assert term not in page.content.decode()


def test_a_typing_error_is_explained(operator: Client) -> None:
    code = new_coupon().code
    wrong = ("2" if code[0] != "2" else "3") + code[1:]

    (message,) = messages_of(search(operator, wrong))

    assert message == f"{NOTHING}. As a code: A letter or digit is wrong, or two have changed places."


def test_a_user_is_found_by_the_whole_id_only(operator: Client) -> None:
    new_coupon("42")
    new_coupon("4")

    page = search(operator, " 4 ")

    assert listed(page) == ["4 #1"]
    assert page.redirect_chain == [(f"{LIST}?q=4", 302)]
    assert form_on(page, "search")["search"] == ["4"]


def test_an_order_finds_all_its_coupons(operator: Client) -> None:
    for user in ("42", "43", "44"):
        use(new_coupon(user), "1001" if user != "44" else "10011")

    assert sorted(listed(search(operator, "1001"))) == ["42 #1", "43 #1"]


def test_a_search_keeps_the_filter_and_leaves_the_page(operator: Client) -> None:
    coupon = new_coupon()
    new_coupon()

    page = search(operator, "42", f"{LIST}?campaign__id__exact={coupon.campaign_id}&q=x")

    assert listed(page) == ["42 #1"]
    assert Coupon.objects.count() == 2


def test_an_empty_search_shows_all(operator: Client) -> None:
    new_coupon()

    page = search(operator, "  ", f"{LIST}?q=x")

    assert page.redirect_chain == [(LIST, 302)]
    assert (listed(page), messages_of(page)) == (["42 #1"], [])


def test_a_search_needs_the_right_to_see_coupons_and_the_csrf_token(transactional_db: None) -> None:
    stranger = sign_in("view_campaign")
    assert stranger.post(LIST, {"search": "42"}).status_code == 403
    operator = sign_in(*VIEW, name="other")
    operator.handler.enforce_csrf_checks = True
    assert operator.post(LIST, {"search": "42"}).status_code == 403


def test_a_search_after_the_log_out_leads_to_the_log_in(operator: Client) -> None:
    coupon = new_coupon()
    form = form_on(operator.get(LIST), "search", search=coupon.code)
    del operator.cookies["sessionid"]

    page = operator.post(LIST, form, follow=True)

    assert messages_of(page) == ["error: Nothing was done: you were logged out."]
    assert page.redirect_chain == [(f"{reverse('admin:login')}?next={LIST}", 302)]
