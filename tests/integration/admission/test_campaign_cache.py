"""The campaign cache: what a process knows of the campaigns, and what it says while PostgreSQL does not answer."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from coupons.admission.campaign_cache import COMMIT_LAG_SEC, CampaignCache, CampaignCacheUnavailable
from coupons.admission.gate import Outcome
from coupons.api.accept import accept
from coupons.models import Campaign
from coupons.recovery.rebuild import rebuild_campaigns
from coupons.recovery.stale import SLACK_SEC
from coupons.runtime.clock import from_now
from tests.support.service import Service
from tests.support.timeouts import LONG_MS
from tests.support.waiting import hold, wait_until

pytestmark = pytest.mark.usefixtures("transactional_db")
LONG_SEC = LONG_MS / 1000


@pytest.fixture
def known(_clients: None, transactional_db: None, settings: LazySettings) -> Iterator[CampaignCache]:
    settings.API_DATABASE_TIMEOUT_MS = LONG_MS
    made = CampaignCache()
    yield made
    made.close()


def campaign(epoch: int = 1) -> Campaign:
    return Campaign.objects.create(name="x", quantity=1, opens_at=timezone.now(), epoch=epoch)


def lock_the_table() -> None:
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE coupons_campaign IN ACCESS EXCLUSIVE MODE")


@pytest.fixture
def rarely_refreshed(settings: LazySettings) -> None:
    settings.CAMPAIGN_CACHE_REFRESH_MS = 600_000


@pytest.mark.usefixtures("rarely_refreshed")
def test_an_unknown_campaign_is_looked_up_at_once(known: CampaignCache) -> None:
    old = campaign()
    known.look_up(old.pk, wait_sec=LONG_SEC)
    hold(1.0, lambda: known.look_up(old.pk, wait_sec=0) is not None, "the next refresh is ten minutes away")
    new = campaign(epoch=3)
    found = known.look_up(new.pk, wait_sec=LONG_SEC)

    assert found is not None
    assert (found.epoch, found.opens_at) == (3, new.opens_at)


def test_what_is_known_is_answered_without_asking(known: CampaignCache) -> None:
    new = campaign()
    known.look_up(new.pk, wait_sec=LONG_SEC)
    with transaction.atomic():
        lock_the_table()

        assert known.look_up(new.pk, wait_sec=0) is not None


def test_many_who_ask_at_once_all_get_the_answer(known: CampaignCache) -> None:
    new = campaign()
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda _: known.look_up(new.pk, wait_sec=LONG_SEC), range(64)))

    assert all(each is not None for each in found)


def test_a_missing_campaign_is_found_once_it_is_made(known: CampaignCache) -> None:
    missing = uuid4()
    assert known.look_up(missing, wait_sec=LONG_SEC) is None
    Campaign.objects.create(pk=missing, name="x", quantity=1, opens_at=timezone.now())

    assert known.look_up(missing, wait_sec=LONG_SEC) is not None


def test_a_risen_epoch_is_known_before_a_rebuild_goes_on(known: CampaignCache, settings: LazySettings) -> None:
    """By the first look that begins after the epoch rose. One begins each refresh, and a rebuild waits for longer."""
    new = campaign(epoch=1)
    known.look_up(new.pk, wait_sec=LONG_SEC)
    Campaign.objects.filter(pk=new.pk).update(epoch=F("epoch") + 1, updated_at=Now())

    known.ask(uuid4()).result(LONG_SEC)  # what the next look says
    found = known.look_up(new.pk, wait_sec=0)
    assert found is not None
    assert found.epoch == 2
    assert settings.CAMPAIGN_CACHE_REFRESH_MS / 1000 < SLACK_SEC


def test_late_commits_are_read_until_their_lag_has_passed(known: CampaignCache) -> None:
    """A transaction that commits late has an `updated_at` before the latest one; here it stays the same."""
    new = campaign(epoch=1)
    known.look_up(new.pk, wait_sec=LONG_SEC)
    Campaign.objects.filter(pk=new.pk).update(epoch=2)
    known.ask(uuid4()).result(LONG_SEC)  # what the next read says
    assert _epoch(known, new) == 2

    Campaign.objects.filter(pk=new.pk).update(epoch=3, updated_at=from_now(-4 * COMMIT_LAG_SEC))
    known.ask(uuid4()).result(LONG_SEC)

    assert _epoch(known, new) == 2, "ten thousand unchanged campaigns would be read again and again"


def test_an_outdated_epoch_is_replaced_at_once(known: CampaignCache) -> None:
    new = campaign(epoch=1)
    known.look_up(new.pk, wait_sec=LONG_SEC)
    Campaign.objects.filter(pk=new.pk).update(epoch=2, updated_at=Now())
    found = known.look_up(new.pk, wait_sec=LONG_SEC, newer_than=1)

    assert found is not None
    assert found.epoch == 2


def test_an_epoch_never_falls(known: CampaignCache) -> None:
    new = campaign(epoch=5)
    known.look_up(new.pk, wait_sec=LONG_SEC)
    Campaign.objects.filter(pk=new.pk).update(epoch=4, updated_at=Now())

    def still_5() -> bool:
        found = known.look_up(new.pk, wait_sec=LONG_SEC)
        return found is not None and found.epoch == 5

    hold(1.0, still_5, "epoch 5")


def test_while_postgresql_hangs_only_unknown_campaigns_raise(known: CampaignCache) -> None:
    new = campaign()
    known.look_up(new.pk, wait_sec=LONG_SEC)
    with transaction.atomic():
        lock_the_table()
        with pytest.raises(CampaignCacheUnavailable, match="did not answer in time"):
            known.look_up(uuid4(), wait_sec=0.1)
        assert known.look_up(new.pk, wait_sec=0) is not None


def test_while_postgresql_is_down_only_unknown_campaigns_raise(service: Service, known: CampaignCache) -> None:
    old = service.campaign()
    known.look_up(old.pk, wait_sec=LONG_SEC)
    connection.close()
    service.stack("kill", "postgres")

    with pytest.raises(CampaignCacheUnavailable):
        known.look_up(uuid4(), wait_sec=LONG_SEC)
    assert known.look_up(old.pk, wait_sec=0) is not None

    service.stack("start", "postgres")
    unknown = uuid4()
    wait_until(lambda: _misses(known, unknown), what="it asks again")


def _epoch(known: CampaignCache, campaign: Campaign) -> int | None:
    found = known.known(campaign.pk)
    return found.epoch if found is not None else None


def _misses(known: CampaignCache, campaign_id: object) -> bool:
    try:
        return known.look_up(campaign_id, wait_sec=LONG_SEC) is None  # type: ignore[arg-type]
    except CampaignCacheUnavailable:
        return False


def test_an_application_to_an_unknown_campaign_is_not_found(service: Service) -> None:
    assert accept(campaign_id=uuid4(), user_id="a", trace="") is None


@pytest.mark.usefixtures("long_timeouts")
def test_an_application_to_a_draft_is_too_early(service: Service) -> None:
    draft = service.campaign(opened=False)
    admission = accept(campaign_id=draft.pk, user_id="a", trace="")

    assert admission is not None
    assert admission.outcome is Outcome.NOT_OPEN


@pytest.mark.usefixtures("long_timeouts")
def test_an_application_after_a_rebuild_finds_the_new_epoch(service: Service) -> None:
    rebuilt = service.campaign()
    accept(campaign_id=rebuilt.pk, user_id="a", trace="")
    rebuild_campaigns(campaign_ids=[rebuilt.pk], sleep=lambda seconds: None)
    admission = accept(campaign_id=rebuilt.pk, user_id="b", trace="")

    assert admission is not None
    assert admission.outcome is Outcome.ADMITTED
