"""A closed campaign leaves Redis for good once every ticket has its row. Nothing brings it back; nothing is lost."""

from datetime import timedelta

import pytest
from django.db import IntegrityError
from django.db.models.functions import Now

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import close_campaign
from coupons.errors import OperatorError, StateStale
from coupons.issuing.retry import retry_events_now
from coupons.models import AuditEntry, Campaign, Coupon, EventStatus, FailCode, FailEventHistory
from coupons.reconciliation.unload import UnloadReport, unload_campaigns
from coupons.recovery import rebuild as rebuild_module
from coupons.recovery.locks import Work, work_lock
from coupons.recovery.stale import stale_campaigns
from tests.integration.recovery.test_keeper import a_keeper, make_stale
from tests.support import failed_events
from tests.support.commands import run
from tests.support.service import Service
from tests.support.settled import settled_campaign
from tests.support.tickets import admit, consume, rebuild, received

pytestmark = pytest.mark.usefixtures("no_promise_is_open")


def unload(*campaigns: Campaign) -> UnloadReport:
    """Without the wait for other processes' caches."""
    ids = [campaign.pk for campaign in campaigns]
    return unload_campaigns(campaign_ids=ids, actor="kim", reason="over", sleep=lambda seconds: None)


def keys_of(campaign: Campaign) -> list[bytes]:
    return list(admission_redis().scan_iter(f"coupon:{{{campaign.pk}}}*"))


def test_an_unloaded_campaign_has_no_key_and_stays_so(service: Service) -> None:
    campaign, other = settled_campaign(service), service.campaign(10)
    admit(other, "a")

    assert [each.pk for each in unload(campaign).unloaded] == [campaign.pk]

    assert keys_of(campaign) == []
    before = Campaign.objects.get(pk=campaign.pk)
    assert before.epoch == campaign.epoch + 1
    assert a_keeper().round()
    assert run("rebuild_admission", "--all").code == 0
    assert run("rebuild_admission", campaign.pk).code == 1
    assert keys_of(campaign) == []
    assert keys_of(other)
    assert Campaign.objects.get(pk=campaign.pk).epoch == before.epoch
    entry = AuditEntry.objects.get(what="Unloaded from Redis")
    assert (entry.actor, entry.object_id, entry.reason) == ("kim", str(campaign.pk), "over")


def test_the_ledger_says_that_it_is_unloaded(service: Service) -> None:
    campaign = settled_campaign(service)
    unload(campaign)
    ran = run("reconcile_campaigns")

    assert ran.code == 0
    assert "tickets 3 = issued 2 + failed 1 + pending 0 (quantity 10): closes, by the rows of PostgreSQL" in ran.out


@pytest.mark.parametrize("whole", [True, False], ids=["flushed", "restarted"])
def test_a_loss_of_redis_leaves_it_unloaded(service: Service, whole: bool) -> None:
    campaign, other = settled_campaign(service), service.campaign(10)
    unload(campaign)
    admission_redis().flushall() if whole else make_stale(other)
    Campaign.objects.update(updated_at=Now() - timedelta(minutes=5))

    assert a_keeper().round()

    assert keys_of(campaign) == []
    assert stale_campaigns() == []


def test_what_still_needs_redis_is_refused_with_the_reason(service: Service) -> None:
    opened, pending, waiting, stale = (
        service.campaign(10),
        service.campaign(10),
        *(settled_campaign(service) for _ in range(2)),
    )
    admit(pending, "a")
    close_campaign(campaign_id=pending.pk, actor="test")
    failed_events.failed(7, campaign=waiting, error_code=FailCode.NOT_ADMITTED, user_id="x", sequence=9)
    make_stale(stale)
    report = unload(opened, pending, waiting, stale)

    assert report.unloaded == []
    assert "it is open; close it first" in report.refused[opened.pk]
    assert "1 tickets are pending" in report.refused[pending.pk]
    assert "1 failed events wait" in report.refused[waiting.pk]
    assert "Redis's state of it is not current" in report.refused[stale.pk]
    assert not Campaign.objects.filter(unloaded_at__isnull=False).exists()
    assert all(keys_of(campaign) for campaign in (opened, pending, waiting, stale))


def test_a_ledger_that_does_not_close_is_refused(service: Service) -> None:
    campaign = settled_campaign(service)
    Coupon.objects.filter(campaign=campaign, user_id="a").delete()
    report = unload(campaign)

    assert "its ledger does not close (lost" in report.refused[campaign.pk]
    assert keys_of(campaign)


def test_late_messages_of_an_unloaded_campaign_mint_nothing(service: Service) -> None:
    """Delivered again: a duplicate, and what was given up; and one that nobody was promised."""
    campaign = settled_campaign(service)
    unload(campaign)
    handled = consume(
        received(campaign, "a", 1, offset=11, epoch=1),
        received(campaign, "gone", 3, offset=12, epoch=1),
        received(campaign, "late", 4, offset=13, epoch=1),
    )

    assert (handled.done, handled.duplicates, handled.failed) == (0, 2, 1)
    assert Coupon.objects.filter(campaign=campaign).count() == 2
    event = FailEventHistory.objects.get(user_id="late")
    assert event.error_code == FailCode.NOT_ADMITTED
    assert str(retry_events_now(event_ids=[event.pk], actor="kim")).startswith("0 succeeded, 1 failed again")
    event.refresh_from_db()
    assert event.event_status == EventStatus.FAIL


def test_an_unload_waits_for_no_rebuild(service: Service) -> None:
    campaign = settled_campaign(service)
    with work_lock(Work.REBUILD) as acquired:
        assert acquired
        with pytest.raises(OperatorError, match="A rebuild is at work"):
            unload(campaign)

    assert keys_of(campaign)


@pytest.mark.parametrize("step", ["begin_rebuild", "finish_rebuild"])
def test_a_rebuilder_that_stood_still_brings_no_key_back(
    service: Service, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """It has lost its lock, the campaign was made current by another one and unloaded, and it goes on at this step."""
    campaign = settled_campaign(service)
    real = getattr(rebuild_module, step)

    def unloaded_meanwhile(*arguments: object, **more: object) -> object:
        monkeypatch.undo()
        monkeypatch.setattr("coupons.reconciliation.unload.work_lock", lambda work: work_lock(Work.RELAY))
        if step == "finish_rebuild":
            rebuild_without_lock(campaign)
        assert unload(campaign).refused == {}
        return real(*arguments, **more)

    def rebuild_without_lock(campaign: Campaign) -> None:
        monkeypatch.setattr(rebuild_module, "work_lock", lambda work: work_lock(Work.RELAY))
        rebuild(campaign)

    monkeypatch.setattr(rebuild_module, step, unloaded_meanwhile)
    with pytest.raises(StateStale):
        rebuild(campaign)

    names = campaign_keys(campaign.pk)
    assert not admission_redis().exists(*names)
    assert a_keeper().round()
    assert not admission_redis().exists(*names)


def test_a_killed_unload_is_ended_by_the_next_one(service: Service) -> None:
    campaign = settled_campaign(service)

    def killed(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unload_campaigns(campaign_ids=[campaign.pk], actor="kim", sleep=killed)
    assert keys_of(campaign)
    assert a_keeper().round(), "nobody asks for them"

    assert unload(campaign).refused == {}
    assert keys_of(campaign) == []
    assert AuditEntry.objects.filter(what="Unloaded from Redis").count() == 1


def test_the_command_unloads_by_age(service: Service) -> None:
    old, young = settled_campaign(service), settled_campaign(service)
    Campaign.objects.filter(pk=old.pk).update(closed_at=Now() - timedelta(days=31))

    assert run("unload_campaign").code == 1
    assert run("unload_campaign", old.pk, "--older-than", "30").code == 1
    ran = run("unload_campaign", "--older-than", "30")

    assert (ran.code, ran.out) == (0, f"Campaign {old.pk} (test) is unloaded.\n")
    assert keys_of(old) == []
    assert keys_of(young)
    assert "No campaign that Redis has" in run("unload_campaign", "--older-than", "30").out


def test_postgresql_refuses_to_unload_what_is_not_closed(service: Service) -> None:
    campaign = service.campaign(10)
    with pytest.raises(IntegrityError, match="campaign_unloaded_is_closed"):
        Campaign.objects.filter(pk=campaign.pk).update(unloaded_at=Now())
