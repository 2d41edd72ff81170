"""Coupons and scheduled jobs in the admin, and who sees what."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from coupons.campaigns.lifecycle import create_campaign
from coupons.management.job_runs import record_run
from coupons.models import Coupon, JobRun
from tests.support.operators import (
    CAMPAIGNS,
    COUPONS,
    EVENTS,
    JOBS,
    OPERATE,
    VIEW,
    campaign_page,
    messages_of,
    sign_in,
    text_of,
)

pytestmark = pytest.mark.django_db

PAGES = [CAMPAIGNS, COUPONS, EVENTS, JOBS]


@pytest.fixture
def coupons() -> list[Coupon]:
    """The same three users in two campaigns."""
    made = []
    for name in ("first", "second"):
        campaign = create_campaign(name=name, quantity=10, actor="test")
        for number, user in enumerate(["42", "4", "a+b@example.test"], start=1):
            code = f"CODE{name.upper()}{number}"
            made.append(Coupon.objects.create(campaign=campaign, user_id=user, sequence=number, code=code))
    return made


def listed(client: Client, **query: str) -> list[str]:
    page = client.get(reverse(COUPONS), query)
    return [coupon.code for coupon in page.context["cl"].result_list]


def test_coupons_are_found_by_the_whole_user_id_only(coupons: list[Coupon]) -> None:
    assert listed(sign_in(*VIEW), q=" 4 ") == ["CODESECOND2", "CODEFIRST2"]


def test_the_campaign_filter_keeps_the_search(coupons: list[Coupon]) -> None:
    assert listed(sign_in(*VIEW), q="42", campaign__id__exact=str(coupons[0].campaign_id)) == ["CODEFIRST1"]


def test_the_campaign_filter_offers_ten_campaigns_and_a_field() -> None:
    for number in range(12):
        create_campaign(name=f"campaign {number}", quantity=1, actor="test")

    page = sign_in(*VIEW).get(reverse(COUPONS))

    offered = [name for _, name in page.context["cl"].filter_specs[0].lookup_choices]
    assert offered == [f"campaign {number}" for number in range(11, 1, -1)]
    assert 'name="campaign__id__exact"' in page.content.decode()


def test_an_invalid_campaign_id_shows_the_whole_list(coupons: list[Coupon]) -> None:
    page = sign_in(*VIEW).get(reverse(COUPONS), {"campaign__id__exact": "none"}, follow=True)

    assert page.redirect_chain
    assert len(page.context["cl"].result_list) == len(coupons)


def test_nobody_adds_changes_or_deletes_a_coupon(admin_client: Client, coupons: list[Coupon]) -> None:
    change = reverse("admin:coupons_coupon_change", args=[coupons[0].pk])

    assert admin_client.get(change).status_code == 200
    assert admin_client.post(change, {"user_id": "thief"}).status_code == 403
    assert admin_client.get(reverse("admin:coupons_coupon_add")).status_code == 403
    assert admin_client.post(reverse("admin:coupons_coupon_delete", args=[coupons[0].pk])).status_code == 403


def test_a_job_that_never_ran_is_an_alarm() -> None:
    shown = text_of(sign_in(*VIEW).get(reverse(JOBS)))

    assert "retry_failed_coupons has never run." in shown
    assert "tidy_holds has never run." in shown


def test_a_recent_job_shows_its_result_without_alarm() -> None:
    record_run("retry_failed_coupons", lambda: "3 succeeded")
    record_run("tidy_holds", lambda: "7 ended")
    page = sign_in(*VIEW).get(reverse(JOBS))

    assert messages_of(page) == []
    assert "3 succeeded" in text_of(page)
    assert "7 ended" in text_of(page)


def test_a_failed_job_is_an_alarm_on_failed_events_too() -> None:
    def fail() -> None:
        raise RuntimeError("no database")

    with pytest.raises(RuntimeError):
        record_run("retry_failed_coupons", fail)
    client = sign_in(*VIEW)

    assert "The last run of retry_failed_coupons failed." in text_of(client.get(reverse(EVENTS)))
    assert "RuntimeError: no database" in text_of(client.get(reverse(JOBS)))


def test_a_job_that_has_not_run_for_long_alarms() -> None:
    ago = timezone.now() - timedelta(minutes=11)
    JobRun.objects.create(name="retry_failed_coupons", started_at=ago, finished_at=ago, succeeded=True)

    assert "retry_failed_coupons last ran 11 minutes ago." in text_of(sign_in(*VIEW).get(reverse(JOBS)))


def test_a_run_that_was_killed_is_an_alarm() -> None:
    JobRun.objects.create(name="retry_failed_coupons", started_at=timezone.now() - timedelta(hours=3))

    assert "started 3 hours ago and has not finished" in text_of(sign_in(*VIEW).get(reverse(JOBS)))


@pytest.mark.parametrize("page", PAGES)
def test_a_superuser_sees_every_page(admin_client: Client, page: str) -> None:
    assert admin_client.get(reverse(page)).status_code == 200


@pytest.mark.parametrize("page", PAGES)
def test_staff_without_rights_sees_none_of_them(page: str) -> None:
    client = sign_in()

    assert client.get(reverse(page)).status_code == 403
    assert "Campaigns" not in text_of(client.get(reverse("admin:index"))).replace("Campaigns, coupons and", "")


@pytest.mark.parametrize("page", PAGES)
def test_who_is_not_logged_in_is_asked_to(client: Client, page: str) -> None:
    answer = client.get(reverse(page))

    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(reverse("admin:login"))


@pytest.mark.parametrize("page", PAGES)
def test_a_user_without_staff_status_is_refused_whatever_the_rights(client: Client, page: str) -> None:
    client.force_login(User.objects.create_user("outsider", is_superuser=True))

    assert client.get(reverse(page)).status_code == 302


def test_no_page_holds_inline_script_or_style() -> None:
    client = sign_in(*OPERATE)
    campaign = create_campaign(name="x", quantity=1, actor="test")

    for page in [*map(reverse, PAGES), campaign_page(campaign)]:
        html = client.get(page).content.decode()
        assert not re.findall(r"<style|<script(?![^>]* src=)| style=| on[a-z]+=\"", html)
