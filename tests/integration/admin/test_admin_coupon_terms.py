"""How long coupons are good and what the shop says of them, on a campaign's page; and the counts of its coupons."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from coupons.campaigns import lifecycle
from coupons.campaigns.lifecycle import create_campaign
from coupons.models import Campaign, Coupon
from coupons.redemption.redeem import revoke_coupon
from coupons.runtime.clock import database_now
from tests.support.coupons import coupon_in, use
from tests.support.operators import OPERATE, VIEW, campaign_page, form_on, history_of, messages_of, sign_in, text_of
from tests.support.service import Service

ADD = reverse("admin:coupons_campaign_add")
NEW_YEAR = datetime(2031, 1, 1, tzinfo=UTC)
UNTIL = {"valid_until_0": "2031-01-01", "valid_until_1": "00:00:00"}


@pytest.fixture
def operator(transactional_db: None) -> Client:
    return sign_in(*OPERATE)


def campaign_with(**terms: Any) -> Campaign:
    return create_campaign(name="test", quantity=10, actor="test", **terms)


def save(client: Client, campaign: Campaign, **typed: Any) -> Any:
    shown = form_on(client.get(campaign_page(campaign)), **{"reason": "it was wrong", "_save": "Save", **typed})
    return client.post(campaign_page(campaign), shown, follow=True)


def errors_of(page: Any) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = page.context["adminform"].form.errors
    return errors


# --- the form ------------------------------------------------------------------------------------------------


def test_a_new_campaign_has_the_terms_that_were_typed(operator: Client) -> None:
    typed = {"valid_from_0": "2030-06-01", "valid_from_1": "10:00", **UNTIL, "metadata": '{"value": 5000}'}

    operator.post(ADD, form_on(operator.get(ADD), name="x", quantity="1", reason="spring", **typed))

    campaign = Campaign.objects.get()
    assert (campaign.valid_from, campaign.valid_until) == (datetime(2030, 6, 1, 10, tzinfo=UTC), NEW_YEAR)
    assert (campaign.valid_days, campaign.metadata) == (None, {"value": 5000})


def test_terms_are_changed_and_the_history_has_both_values(operator: Client) -> None:
    campaign = campaign_with(valid_days=30, metadata={"value": 1})

    save(operator, campaign, valid_days="60", metadata='{"value": 2}')

    assert history_of(campaign) == [
        'Changed valid_days from 30 to 60, metadata from {"value": 1} to {"value": 2}: it was wrong'
    ]


def test_a_save_without_edits_changes_nothing(operator: Client) -> None:
    campaign = campaign_with(valid_from=database_now(), valid_days=30, metadata={"a": [1.5, "é\u202e👩\u200d👧"]})
    before = Campaign.objects.values().get()

    page = save(operator, campaign)

    assert messages_of(page)[0].startswith("success")
    assert (Campaign.objects.values().get(), history_of(campaign)) == (before, [])


@pytest.mark.parametrize(
    ("typed", "field", "words"),
    [
        ({**UNTIL, "valid_days": "30"}, "valid_days", "Give either an end for all coupons, or days for each"),
        ({**UNTIL, "valid_from_0": "2031-01-02", "valid_from_1": "0:00"}, "valid_until", "later than its beginning"),
        ({"valid_until_0": "2020-01-01", "valid_until_1": "0:00"}, "valid_until", "later than opens_at"),
        ({"valid_until_0": "2020-01-01"}, "valid_until", "Enter a valid time"),
        ({"valid_days": "0"}, "valid_days", "greater than or equal to 1"),
        ({"valid_days": "36501"}, "valid_days", "less than or equal to 36500"),
        ({"metadata": '{"value": 5000'}, "metadata", "This is no JSON: Expecting ',' delimiter (line 1, column 15)."),
        ({"metadata": "[1]"}, "metadata", "it must be a JSON object"),
        ({"metadata": '{"a": NaN}'}, "metadata", "it holds something that JSON cannot"),
        ({"metadata": '{"a": "\\u0000"}'}, "metadata", "it must not hold the character U+0000"),
        ({"metadata": '{"a": "\\ud800"}'}, "metadata", "it holds something that JSON cannot"),
        ({"metadata": json.dumps({"a": "x" * 4_096})}, "metadata", "it has 4,105 bytes, and may have 4,096"),
        ({"metadata": "[" * 30_000}, "metadata", "nested too deeply"),
        ({"metadata": '{"a": ' + "9" * 5_000 + "}"}, "metadata", "a number that is too long"),
        ({"metadata": " " * 40_000 + "{x"}, "metadata", "This is no JSON"),
        ({"metadata": "{" + "x" * 40_000}, "metadata", "longer than 32,768 characters"),
    ],
)
def test_a_wrong_value_is_an_error_of_its_field(operator: Client, typed: Any, field: str, words: str) -> None:
    page = operator.post(ADD, form_on(operator.get(ADD), name="x", quantity="1", reason="x", **typed))

    found = errors_of(page)
    assert list(found) == [field]
    assert words in found[field][0]
    assert not Campaign.objects.exists()


def test_a_refused_page_shows_the_json_as_it_was_typed(operator: Client) -> None:
    page = operator.post(ADD, form_on(operator.get(ADD), name="x", quantity="1", reason="x", metadata='{"a": 1,}'))

    assert form_on(page)["metadata"] == ['{"a": 1,}']


@pytest.mark.parametrize("depth", [50, 900, 2_000])
def test_deep_nesting_is_stored_or_refused_and_no_error_page(operator: Client, depth: int) -> None:
    deep = '{"a":' + "[" * depth + "]" * depth + "}"

    page = operator.post(ADD, form_on(operator.get(ADD), name="x", quantity="1", reason="x", metadata=deep))

    if page.status_code == 200:
        assert list(errors_of(page)) == ["metadata"]
    else:
        assert operator.get(campaign_page(Campaign.objects.get())).status_code == 200


def test_the_zone_stands_beside_each_time(operator: Client) -> None:
    text = text_of(operator.get(ADD))

    for words in ("In UTC. Leave empty for coupons that can", "In UTC. Leave this and the days empty"):
        assert words in text


# --- once it has opened ----------------------------------------------------------------------------------------


def test_coupons_never_become_good_for_shorter(service: Service) -> None:
    campaign, operator = service.campaign(valid_days=30), sign_in(*OPERATE)
    assert "Coupons may only become valid for longer." in text_of(operator.get(campaign_page(campaign)))

    page = save(operator, campaign, valid_days="29")

    assert "may only become more" in errors_of(page)["valid_days"][0]
    assert Campaign.objects.get().valid_days == 30


def test_a_closed_campaign_offers_its_coupons_terms_only(service: Service) -> None:
    campaign, operator = service.campaign(10, valid_days=30), sign_in(*OPERATE)
    lifecycle.close_campaign(campaign_id=campaign.pk, actor="test")

    shown = form_on(operator.get(campaign_page(campaign)))
    page = save(operator, campaign, valid_days="60", metadata='{"value": 1}', quantity="999", name="other")

    assert not {"name", "quantity", "opens_at_0", "closes_at_0"} & set(shown)
    assert messages_of(page)[0].startswith("success")
    changed = Campaign.objects.get()
    assert (changed.valid_days, changed.metadata) == (60, {"value": 1})
    assert (changed.name, changed.quantity, changed.state) == ("test", 10, "closed")
    assert "Name: test Quantity: 10" in text_of(operator.get(campaign_page(campaign)))


def test_a_form_from_before_the_close_saves_nothing(service: Service) -> None:
    campaign, operator = service.campaign(10), sign_in(*OPERATE)
    shown = form_on(operator.get(campaign_page(campaign)), quantity="20", reason="x", _save="Save")
    lifecycle.close_campaign(campaign_id=campaign.pk, actor="test")

    page = operator.post(campaign_page(campaign), shown)

    assert "This campaign was changed after you opened this page" in text_of(page)
    assert Campaign.objects.get().quantity == 10


# --- the panel -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({}, "Coupons are good from when they are issued, without an end."),
        ({"valid_days": 1_000}, "from when they are issued, for 1,000 times 24 hours after each was issued."),
        ({"valid_until": NEW_YEAR}, "from when they are issued, until 2031-01-01 00:00:00 (UTC)."),
        ({"valid_from": NEW_YEAR}, "from 2031-01-01 00:00:00 (UTC), without an end."),
    ],
)
def test_the_page_says_how_long_coupons_are_good(transactional_db: None, terms: Any, words: str) -> None:
    assert words in text_of(sign_in(*VIEW).get(campaign_page(campaign_with(**terms))))


def coupons_of_each_status(campaign: Campaign) -> None:
    coupons = [coupon_in(campaign, f"u{number}", number) for number in range(1, 11)]
    for number, coupon in enumerate(coupons[:4]):
        use(coupon, str(number), hold_sec=600 if number == 0 else None)
    for coupon in coupons[4:6]:
        revoke_coupon(code=coupon.code, reason="x", actor="test", may_touch=lambda _: True)
    expired = [coupon.pk for coupon in coupons[:2] + coupons[6:7]]
    Coupon.objects.filter(pk__in=expired).update(issued_at=database_now() - timedelta(days=31))


def test_the_page_counts_coupons_by_status(operator: Client) -> None:
    campaign = campaign_with(valid_days=30)
    coupons_of_each_status(campaign)
    coupons_of_each_status(campaign_with())

    page = operator.get(campaign_page(campaign))

    assert "Unused 3 Held 1 Redeemed 3 Revoked 2 Expired 1" in text_of(page)
    assert sum(page.context["coupons"].counts.values()) == Campaign.objects.get(pk=campaign.pk).issued_count == 10


def test_many_coupons_are_counted_when_somebody_asks(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coupons.admin.campaign_coupons.COUNTED_AT_ONCE", 9)
    campaign = campaign_with()
    coupons_of_each_status(campaign)

    with CaptureQueriesContext(connection) as queries:
        page = operator.get(campaign_page(campaign))
    assert "Count the coupons by status (two seconds for a million)" in text_of(page)
    assert not [each for each in queries if "coupons_redemption" in each["sql"]]

    asked = operator.get(f"{campaign_page(campaign)}?count=coupons")
    assert "Unused 4 Held 1 Redeemed 3 Revoked 2 Expired 0" in text_of(asked)


def test_a_count_that_takes_too_long_says_so(operator: Client) -> None:
    campaign = campaign_with()
    coupons_of_each_status(campaign)
    other = connection.copy()
    with connection.cursor() as cursor, other.cursor() as locking:
        locking.execute("BEGIN")
        locking.execute("LOCK TABLE coupons_couponevent")
        cursor.execute("SET statement_timeout = '500ms'")
        page = operator.get(f"{campaign_page(campaign)}?count=coupons")
        locking.execute("ROLLBACK")
    other.close()

    assert f"“manage.py reconcile_campaigns {campaign.pk}” counts them." in text_of(page)
