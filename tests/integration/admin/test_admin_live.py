"""What the campaigns' pages say of Redis, and the lists on a big table: bounded counts, served by an index."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from coupons.admin import live_state
from coupons.admin.live_state import RedisState
from coupons.admission import campaign_store, scripts
from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.campaigns import lifecycle
from coupons.models import Campaign
from tests.support.gate import admit_user
from tests.support.operators import CAMPAIGNS, COUPONS, EVENTS, JOBS, VIEW, sign_in, text_of
from tests.support.service import Service


def seen(campaign: Campaign) -> live_state.LiveState:
    return live_state.read_live_states([Campaign.objects.get(pk=campaign.pk)])[campaign.pk]


def issue(campaign: Campaign, count: int) -> None:
    """That many coupons, in one statement."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO coupons_coupon (campaign_id, user_id, sequence, code)"
            " SELECT %s, 'u' || n, n, upper(md5(%s || n)) FROM generate_series(1, %s) AS n",
            [campaign.pk, str(campaign.pk), count],
        )


def test_a_draft_is_not_loaded_and_has_all_coupons(service: Service) -> None:
    found = seen(service.campaign(10, opened=False))

    assert (found.redis, found.admitted, found.remaining) == (RedisState.NOT_LOADED, 0, 10)


def test_an_open_campaign_is_current_with_redis_s_counts(service: Service) -> None:
    campaign = service.campaign(10)
    admit_user(campaign_id=campaign.pk, epoch=1, user_id="a")

    found = seen(campaign)

    assert (found.redis, found.admitted, found.pending, found.remaining) == (RedisState.CURRENT, 1, 1, 9)


def test_a_wiped_redis_shows_its_reason_and_no_count(service: Service) -> None:
    campaign = service.campaign(10)
    admission_redis().delete(*campaign_keys(campaign.pk))

    found = seen(campaign)

    assert (found.redis, found.admitted, found.remaining) == (RedisState.STALE, None, None)
    assert "missing" in found.explanation


def test_a_change_missing_in_redis_shows_as_not_pushed(service: Service) -> None:
    campaign = service.campaign(10)
    Campaign.objects.filter(pk=campaign.pk).update(revision=9)

    found = seen(campaign)

    assert found.redis == RedisState.NOT_PUSHED
    assert "until the keeper has sent the new ones to Redis" in found.explanation


def test_a_lower_quantity_that_is_not_decided_is_told(service: Service) -> None:
    campaign = service.campaign(10)
    campaign_store.lower(campaign_id=campaign.pk, epoch=1, revision=campaign.revision + 1, quantity=5)

    found = seen(campaign)

    assert found.redis == RedisState.NOT_PUSHED
    assert "A lower quantity is being saved, or could not be saved" in found.explanation


def test_a_closed_campaign_that_left_redis_is_no_alarm(service: Service) -> None:
    campaign = service.campaign(10)
    lifecycle.close_campaign(campaign_id=campaign.pk, actor="test")
    admission_redis().delete(*campaign_keys(campaign.pk))

    assert (seen(campaign).redis, seen(campaign).kind) == (RedisState.UNLOADED, "plain")


def test_the_list_asks_a_redis_that_hangs_only_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    campaigns = [service.campaign() for _ in range(5)]
    asked: list[str] = []
    real = scripts.try_each

    def try_each(name: str, calls: Sequence[tuple[Sequence[str], Sequence[str | int]]]) -> Any:
        asked.append(name)
        return real(name, calls)

    monkeypatch.setattr(scripts, "try_each", try_each)
    service.stack("pause", "redis")

    found = live_state.read_live_states(campaigns)

    assert {each.redis for each in found.values()} == {RedisState.SILENT}
    assert asked == ["describe"]


def test_ten_campaigns_cost_as_many_queries_as_one(service: Service) -> None:
    client = sign_in(*VIEW)
    counts = []
    for _ in range(2):
        for _ in range(5):
            service.campaign()
        with CaptureQueriesContext(connection) as queries:
            client.get(reverse(CAMPAIGNS))
        counts.append(len(queries))

    assert counts[0] == counts[1]


@pytest.mark.parametrize("query", ["", "?q=u7", "?campaign__id__exact={campaign}", "?status=all", "?status=success"])
@pytest.mark.parametrize("page", [COUPONS, EVENTS, CAMPAIGNS, JOBS])
def test_no_page_counts_without_a_limit(service: Service, page: str, query: str) -> None:
    campaign = service.campaign(opened=False)
    client = sign_in(*VIEW)

    with CaptureQueriesContext(connection) as queries:
        client.get(reverse(page) + query.format(campaign=campaign.pk), follow=True)

    counts = [each["sql"] for each in queries if re.search(r"\bcount\(", each["sql"], re.IGNORECASE)]
    assert all("LIMIT 10001" in sql for sql in counts), counts


def test_a_big_list_says_that_there_are_more(service: Service) -> None:
    issue(service.campaign(20_000, opened=False), 10_050)
    page = sign_in(*VIEW).get(reverse(COUPONS))

    assert "The first 10,000 coupons; there are more. Search or filter to find others." in text_of(page)
    assert page.context["cl"].paginator.num_pages == 100


def test_coupons_of_one_campaign_come_newest_first_by_index(service: Service) -> None:
    campaign = service.campaign(1_000, opened=False)
    issue(campaign, 3)

    page = sign_in(*VIEW).get(reverse(COUPONS), {"campaign__id__exact": str(campaign.pk)})

    assert [coupon.sequence for coupon in page.context["cl"].result_list] == [3, 2, 1]
    assert 'ORDER BY "coupons_coupon"."campaign_id" ASC, "coupons_coupon"."sequence" DESC' in str(
        page.context["cl"].queryset.query
    )


@pytest.mark.parametrize("query", ["?user_id__icontains=a", "?campaign__name=x", "?code__startswith=A"])
def test_an_address_cannot_filter_by_what_no_index_serves(service: Service, query: str) -> None:
    assert sign_in(*VIEW).get(reverse(COUPONS) + query).status_code == 400


def test_an_address_cannot_sort_a_big_table_by_another_column(service: Service) -> None:
    page = sign_in(*VIEW).get(reverse(COUPONS), {"o": "2"})

    assert str(page.context["cl"].queryset.query).endswith('ORDER BY "coupons_coupon"."id" DESC')
