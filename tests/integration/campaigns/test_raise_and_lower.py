"""A quantity is raised in PostgreSQL first, and lowered when both have it; what happens when one of them is away."""

import logging
from collections.abc import Callable
from threading import Thread

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction

from coupons.admission import campaign_store
from coupons.admission.gate import Outcome
from coupons.admission.scripts import admission_redis
from coupons.campaigns import redis_sync
from coupons.campaigns.lifecycle import change_campaign, open_campaign, pause_campaign
from coupons.campaigns.redis_sync import is_in_sync, push_again, settings_of
from coupons.errors import GateUnavailable, OperatorError, PushDidNotArrive
from coupons.models import Campaign
from coupons.runtime.failpoints import PUSH_LOWERED
from tests.support.gate import admit_user, in_redis
from tests.support.service import Service
from tests.support.tickets import admit, rebuild
from tests.support.waiting import wait_until


def change_quantity(campaign: Campaign, quantity: int) -> Campaign:
    return change_campaign(campaign_id=campaign.pk, changes={"quantity": quantity}, actor="test")


def lower_in_redis_only(campaign: Campaign, quantity: int) -> None:
    """What a half-done lower of an older version left, or a PostgreSQL that is an older copy: Redis is ahead."""
    campaign.quantity = quantity
    campaign.revision += 1
    campaign_store.push(campaign_id=campaign.pk, epoch=campaign.epoch, settings=settings_of(campaign))
    campaign.refresh_from_db()


def test_a_raise_is_in_both_when_it_returns(service: Service) -> None:
    campaign = service.campaign(1)
    admit(campaign, "a")
    change_quantity(campaign, 2)

    assert Campaign.objects.get().quantity == in_redis(campaign).quantity == 2
    assert admit(campaign, "b") == [2]


def test_a_raise_without_redis_is_saved_and_reported(service: Service) -> None:
    campaign = service.campaign(1)
    service.stack("pause", "redis")

    with pytest.raises(PushDidNotArrive, match=r"Saved, but Redis has not heard of it yet .*The keeper pushes it"):
        change_quantity(campaign, 2)
    assert Campaign.objects.get().quantity == 2

    service.stack("resume", "redis")
    push_again(campaign.pk)
    assert in_redis(campaign).quantity == 2


def test_while_redis_is_away_a_lower_changes_nothing(service: Service) -> None:
    campaign = service.campaign(10)
    service.stack("pause", "redis")

    with pytest.raises(GateUnavailable):
        change_quantity(campaign, 5)
    assert Campaign.objects.get().quantity == 10


def test_a_lower_is_in_both_when_it_returns(service: Service) -> None:
    campaign = service.campaign(10)
    change_quantity(campaign, 5)

    assert Campaign.objects.get().quantity == in_redis(campaign).quantity == 5


def test_a_lower_below_the_admitted_is_refused(service: Service) -> None:
    campaign = service.campaign(10)
    admit(campaign, "a", "b", "c")

    with pytest.raises(OperatorError, match=r"3 users are already in.*The least possible now is 3"):
        change_quantity(campaign, 2)
    assert Campaign.objects.get().quantity == in_redis(campaign).quantity == 10


def test_a_lower_to_those_who_are_in_is_sold_out(service: Service) -> None:
    campaign = service.campaign(10)
    admit(campaign, "a", "b")
    change_quantity(campaign, 2)

    assert admit_user(campaign_id=campaign.pk, epoch=1, user_id="c").outcome is Outcome.SOLD_OUT


def synced(campaign: Campaign) -> bool:
    campaign.refresh_from_db()
    return is_in_sync(campaign, campaign_store.describe(campaign_id=campaign.pk, epoch=campaign.epoch))


def outcome_of(campaign: Campaign, user_id: str) -> Outcome:
    return admit_user(campaign_id=campaign.pk, epoch=campaign.epoch, user_id=user_id).outcome


def test_until_a_lower_is_committed_nobody_is_told_sold_out(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = service.campaign(10)
    admit(campaign, "a", "b")
    told: list[Outcome] = []
    monkeypatch.setattr(redis_sync, "failpoint", lambda point: told.append(outcome_of(campaign, point)))

    change_quantity(campaign, 2)

    assert told == [Outcome.PAUSED, Outcome.PAUSED], "before the commit, and after it until Redis has heard of it"
    assert outcome_of(campaign, "c") is Outcome.SOLD_OUT


def test_a_lower_that_postgresql_refuses_is_taken_back_at_once(service: Service) -> None:
    campaign = service.campaign(10)
    Campaign.objects.filter(pk=campaign.pk).update(issued_count=8)

    with pytest.raises(OperatorError, match="PostgreSQL refused"):
        change_quantity(campaign, 5)

    assert synced(campaign)
    assert in_redis(campaign).quantity == 10


def test_an_unanswered_lower_is_what_postgresql_says(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is lost after PostgreSQL has committed."""
    campaign = service.campaign(10)

    def lose_the_answer() -> None:
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(redis_sync, "failpoint", lambda point: transaction.on_commit(lose_the_answer))
    with pytest.raises(OperationalError):
        change_quantity(campaign, 5)

    assert synced(campaign)
    assert in_redis(campaign).quantity == campaign.quantity == 5


def test_the_keeper_waits_for_a_lower_that_is_under_way(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds Redis out of step before the commit; taken back then, users would get in above the lower quantity."""
    campaign = service.campaign(10)
    keeper = when_lowered(monkeypatch, lambda: push_again(campaign.pk))

    change_quantity(campaign, 5)
    keeper.join()

    assert synced(campaign)
    assert (campaign.quantity, campaign.revision) == (5, 2), "it had nothing to overrule"


def test_a_rebuild_during_a_lower_keeps_the_lower_quantity(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = service.campaign(10)
    admit(campaign, "a")
    rebuilder = when_lowered(monkeypatch, lambda: rebuild(campaign))

    with pytest.raises(PushDidNotArrive):
        change_quantity(campaign, 1)
    rebuilder.join()

    assert synced(campaign)
    assert (campaign.quantity, campaign.epoch) == (1, 2)
    assert outcome_of(campaign, "b") is Outcome.SOLD_OUT


def when_lowered(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> Thread:
    """Does this in a thread between the lowering in Redis and the commit, which comes when it waits for the row."""

    def run() -> None:
        do()
        connection.close()

    thread = Thread(target=run)

    def start_and_let_wait(point: str) -> None:
        if point == PUSH_LOWERED:
            thread.start()
            wait_until(lambda: waiting_sessions() == 1, what="it waits for the row")

    monkeypatch.setattr(redis_sync, "failpoint", start_and_let_wait)
    return thread


def waiting_sessions() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return int(cursor.fetchone()[0])


def test_the_next_push_undoes_a_half_done_lower(service: Service) -> None:
    campaign = service.campaign(10)
    lower_in_redis_only(campaign, 5)
    assert in_redis(campaign).quantity == 5

    assert push_again(campaign.pk)

    assert in_redis(campaign).quantity == Campaign.objects.get().quantity == 10
    assert in_redis(campaign).revision == Campaign.objects.get().revision


def test_a_lower_after_a_half_done_one_is_refused(service: Service) -> None:
    campaign = service.campaign(10)
    lower_in_redis_only(campaign, 5)

    with pytest.raises(OperatorError, match=r"Another change .* try again"):
        change_quantity(campaign, 7)
    assert Campaign.objects.get().quantity == 10


def test_a_push_of_what_redis_has_already_does_nothing(service: Service) -> None:
    campaign = service.campaign()

    assert not push_again(campaign.pk)
    assert Campaign.objects.get().revision == campaign.revision


def test_a_draft_is_never_pushed(service: Service) -> None:
    assert not push_again(service.campaign(opened=False).pk)


def test_a_pause_that_did_not_arrive_is_pushed_again(service: Service) -> None:
    campaign = service.campaign()
    service.stack("pause", "redis")
    with pytest.raises(PushDidNotArrive):
        pause_campaign(campaign_id=campaign.pk, actor="test")
    service.stack("resume", "redis")

    push_again(campaign.pk)

    assert admit_user(campaign_id=campaign.pk, epoch=1, user_id="a").outcome is Outcome.PAUSED


def test_an_opening_without_redis_is_stale_until_rebuilt(service: Service) -> None:
    campaign = service.campaign(opened=False)
    service.stack("pause", "redis")

    with pytest.raises(PushDidNotArrive, match="Opened, but Redis did not answer"):
        open_campaign(campaign_id=campaign.pk, actor="test")
    assert Campaign.objects.get().epoch == 1


def test_a_lost_state_is_not_loaded_a_second_time(service: Service) -> None:
    campaign = service.campaign()
    admission_redis().flushall()

    with pytest.raises(OperatorError, match="must be draft"):
        open_campaign(campaign_id=campaign.pk, actor="test")
    assert admission_redis().dbsize() == 0


def test_postgresql_itself_refuses_a_quantity_below_what_is_issued(service: Service) -> None:
    campaign = service.campaign(10)
    Campaign.objects.filter(pk=campaign.pk).update(issued_count=3)

    with pytest.raises(IntegrityError, match="campaign_issued_within_quantity"), transaction.atomic():
        Campaign.objects.filter(pk=campaign.pk).update(quantity=2)


def test_a_pause_arrives_after_a_half_done_lower(service: Service) -> None:
    campaign = service.campaign(10)
    lower_in_redis_only(campaign, 5)

    pause_campaign(campaign_id=campaign.pk, actor="test")

    assert (in_redis(campaign).state, in_redis(campaign).quantity) == ("paused", 10)


def test_a_change_missing_in_redis_is_logged_with_its_actor(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    campaign = service.campaign(1)
    service.stack("pause", "redis")

    with caplog.at_level(logging.INFO, logger="coupons.campaigns"), pytest.raises(PushDidNotArrive):
        change_campaign(campaign_id=campaign.pk, changes={"quantity": 2}, actor="kim")

    assert "actor=kim" in caplog.text
