"""Retries: FAIL -> PROCESSING -> SUCCESS or back, by several runs at once, and never a new failed event."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.utils import timezone

from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import change_campaign
from coupons.errors import GateUnavailable, OperatorError
from coupons.issuing.failed_events import give_up_events
from coupons.issuing.retry import RetryReport, retry_due_events, retry_events_now
from coupons.models import Campaign, Coupon, EventStatus, FailAttempt, FailEventHistory
from faults.ledgers import reconcile
from tests.support.service import Service
from tests.support.tickets import admit, consume, insert_coupons, issued_users, received

NOW = timezone.now


@pytest.fixture
def refused(service: Service, settings: LazySettings) -> Campaign:
    """A campaign of 3 whose users a, b, c are in; somebody's row in the table leaves no room for c. Due at once."""
    settings.RETRY_BASE_DELAY_SEC = 0
    campaign = service.campaign(3)
    admit(campaign, "a", "b", "c")
    insert_coupons(campaign, [("thief", 99)])
    consume(*(received(campaign, user, number, offset=number) for number, user in enumerate("abc", 1)))
    return campaign


def raise_quantity(campaign: Campaign) -> None:
    """What an operator does about it."""
    change_campaign(campaign_id=campaign.pk, changes={"quantity": 4}, actor="test")


def event(**values: Any) -> FailEventHistory:
    if values:
        FailEventHistory.objects.update(**values)
    return FailEventHistory.objects.get()


def run(limit: int = 1_000) -> RetryReport:
    return retry_due_events(limit=limit, actor="test")


def test_an_event_that_can_be_issued_now_becomes_success(refused: Campaign) -> None:
    raise_quantity(refused)

    assert run() == RetryReport(succeeded=1)
    assert issued_users(refused)["c"] == 3
    assert event().event_status == EventStatus.SUCCESS
    assert event().next_attempt_at is None


def test_a_success_is_kept_as_an_attempt_without_an_error(refused: Campaign) -> None:
    raise_quantity(refused)
    run()

    attempt = FailAttempt.objects.get()
    assert (attempt.actor, attempt.error_code, attempt.event_id) == ("test", "", event().pk)
    assert attempt.started_at <= attempt.finished_at + timedelta(seconds=1)


def test_failing_again_keeps_what_it_said_and_waits_longer(refused: Campaign, settings: LazySettings) -> None:
    settings.RETRY_BASE_DELAY_SEC = 60

    assert run() == RetryReport(failed=1)
    found = event()
    assert (found.event_status, found.attempts) == (EventStatus.FAIL, 1)
    assert found.next_attempt_at is not None
    assert 60 <= (found.next_attempt_at - found.updated_at).total_seconds() <= 120
    assert "campaign_issued_within_quantity" in FailAttempt.objects.get().error_message


def test_what_is_not_due_yet_is_left_alone(refused: Campaign) -> None:
    event(next_attempt_at=NOW() + timedelta(hours=1))

    assert run() == RetryReport()


def test_after_the_last_attempt_it_waits_for_an_operator(refused: Campaign, settings: LazySettings) -> None:
    settings.RETRY_MAX_ATTEMPTS = 3

    assert run() == RetryReport(failed=3)
    assert event().attempts == 3
    assert event().next_attempt_at is None
    assert FailAttempt.objects.count() == 3


def test_an_operator_may_retry_it_after_the_last_attempt(refused: Campaign, settings: LazySettings) -> None:
    settings.RETRY_MAX_ATTEMPTS = 1
    run()
    raise_quantity(refused)

    assert retry_events_now(event_ids=[event().pk], actor="kim") == RetryReport(succeeded=1)
    assert FailAttempt.objects.last().actor == "kim"  # type: ignore[union-attr]


def test_retrying_adds_no_failed_event(refused: Campaign, settings: LazySettings) -> None:
    settings.RETRY_MAX_ATTEMPTS = 4
    run()

    assert FailEventHistory.objects.count() == 1


def test_the_ledger_closes_before_and_after(refused: Campaign) -> None:
    Coupon.objects.filter(user_id="thief").delete()
    Campaign.objects.update(issued_count=2)
    [before] = reconcile()
    run()
    [after] = reconcile()

    assert (before.closes, before.issued, before.failed) == (True, 2, 1)
    assert (after.closes, after.issued, after.failed) == (True, 3, 0)


def test_two_runs_at_once_issue_once(refused: Campaign) -> None:
    raise_quantity(refused)

    def one_run(_: int) -> RetryReport:
        try:
            return run()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(one_run, range(4)))

    assert sum(report.succeeded for report in reports) == 1
    assert FailAttempt.objects.count() == 1
    assert issued_users(refused)["c"] == 3


def test_a_killed_run_s_row_is_taken_after_its_lease(refused: Campaign) -> None:
    raise_quantity(refused)
    event(event_status=EventStatus.PROCESSING, attempts=1, next_attempt_at=NOW() + timedelta(minutes=10))
    before = run()
    event(next_attempt_at=NOW() - timedelta(seconds=1))

    assert before == RetryReport()
    assert run() == RetryReport(succeeded=1)
    assert event().attempts == 2


def test_a_run_whose_row_was_taken_over_meanwhile_writes_nothing(refused: Campaign) -> None:
    raise_quantity(refused)

    class TakeOver:
        """Another run takes the row up, as it may when this one's lease has ended."""

        def __call__(self, execute, sql, params, many, context):  # type: ignore[no-untyped-def]
            if 'AS "a" FROM "coupons_faileventhistory"' in sql:
                FailEventHistory.objects.update(attempts=7)
            return execute(sql, params, many, context)

    with connection.execute_wrapper(TakeOver()):
        assert run() == RetryReport(lost=1)
    assert "c" not in issued_users(refused)
    assert not FailAttempt.objects.exists()


def test_without_redis_the_row_is_returned_and_no_attempt_counted(service: Service, refused: Campaign) -> None:
    before = event()
    service.stack("pause", "redis")

    with pytest.raises(GateUnavailable):
        run()
    after = event()
    assert (after.event_status, after.attempts, after.next_attempt_at) == (EventStatus.FAIL, 0, before.next_attempt_at)
    assert not FailAttempt.objects.exists()


def test_a_ticket_not_held_is_never_retried_automatically(service: Service) -> None:
    consume(received(service.campaign(), "forged", 1))

    assert event().next_attempt_at is None
    assert run() == RetryReport()


def test_an_operator_retry_of_a_ticket_not_held_issues_nothing(service: Service) -> None:
    consume(received(service.campaign(), "forged", 1))

    assert retry_events_now(event_ids=[event().pk], actor="kim") == RetryReport(failed=1)
    assert event().error_code == "not-admitted"
    assert not Coupon.objects.exists()


def test_a_message_without_a_ticket_fails_again(service: Service) -> None:
    consume(received("no-campaign", "a", 1))
    retry_events_now(event_ids=[event().pk], actor="kim")

    assert "names no ticket" in FailAttempt.objects.get().error_message


def test_a_ticket_that_was_issued_meanwhile_is_a_success(refused: Campaign) -> None:
    raise_quantity(refused)
    consume(received(refused, "c", 3, offset=50))

    assert run() == RetryReport(succeeded=1)
    assert Coupon.objects.filter(user_id="c").count() == 1


def test_a_run_takes_no_more_rows_than_its_limit(service: Service, settings: LazySettings) -> None:
    settings.RETRY_BASE_DELAY_SEC = 0
    settings.RETRY_MAX_ATTEMPTS = 1
    campaign = service.campaign(5)
    users = [f"u{number}" for number in range(5)]
    admit(campaign, *users)
    Campaign.objects.update(issued_count=5)
    consume(*(received(campaign, user, number, offset=number) for number, user in enumerate(users, 1)))

    assert run(limit=3) == RetryReport(failed=3)
    assert FailEventHistory.objects.filter(attempts=0).count() == 2


def test_one_failure_rolls_back_only_itself(refused: Campaign) -> None:
    admission_redis()
    change_campaign(campaign_id=refused.pk, changes={"quantity": 5}, actor="test")
    admit(refused, "d")
    Campaign.objects.update(issued_count=5)
    consume(received(refused, "d", 4, offset=60))
    Campaign.objects.update(issued_count=4)  # room for one of the two

    report = run(limit=2)

    assert report == RetryReport(succeeded=1, failed=1)
    assert Coupon.objects.filter(user_id__in="cd").count() == 1


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_giving_up_needs_a_reason(refused: Campaign, reason: str) -> None:
    with pytest.raises(OperatorError, match="reason: say why"):
        give_up_events(event_ids=[event().pk], actor="kim", reason=reason)
    assert event().given_up_at is None


def test_a_given_up_event_keeps_its_actor_and_reason(refused: Campaign) -> None:
    pk = event().pk

    assert give_up_events(event_ids=[pk], actor="kim", reason="refunded") == 1
    assert give_up_events(event_ids=[pk], actor="lee", reason="again") == 0
    found = event()
    assert (found.given_up_by, found.given_up_reason, found.next_attempt_at) == ("kim", "refunded", None)
    assert retry_events_now(event_ids=[pk], actor="kim") == RetryReport()


def test_what_succeeded_cannot_be_given_up(refused: Campaign) -> None:
    raise_quantity(refused)
    run()

    assert give_up_events(event_ids=[event().pk], actor="kim", reason="x") == 0
