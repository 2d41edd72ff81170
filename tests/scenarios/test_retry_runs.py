"""Row 25: runs of the retry command that meet each other, or die."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection
from django.db.models import Count
from django.db.models.functions import Now

from coupons.models import Campaign, Coupon, EventStatus, FailAttempt, FailCode, FailEventHistory
from coupons.runtime.failpoints import RETRY_CLAIMED, RETRY_ISSUED
from tests.support.group import assert_admission_went_on
from tests.support.matrix import Row
from tests.support.promises import apply_all, assert_history_holds, assert_kept
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until

FAILED = 200
NOT_REFUSED = "[05]$"
DUE_AT_ONCE = {"COUPON_RETRY_BASE_DELAY_SEC": "0"}


def test_killed_and_parallel_runs_issue_each_coupon_once(service: Service) -> None:
    """PostgreSQL refuses most users' coupons for a while; then they are retried while new users come."""
    service.manage("run_coupon_consumer", "--solo", **DUE_AT_ONCE).says("consumer.assigned")
    service.web(**LONG_TIMEOUTS)
    row = Row.begin(service, 25)
    others = Coupon.objects.exclude(user_id__regex=NOT_REFUSED)
    with most_users_refused():
        wait_until(lambda: with_status(EventStatus.FAIL) >= FAILED, within_sec=30, what="enough failed events")
        before = others.count()
    wait_until(lambda: others.count() > before, what="and every batch that met the refusal is done")
    failed = FailEventHistory.objects.count()

    with row.fault("a retry run: SIGKILL in its 21st of 50 rows"):
        service.arm(RETRY_ISSUED, "kill@21")
        killed = service.run("retry_failed_coupons", "--limit", "50", **DUE_AT_ONCE)
        assert killed.exit_code == -signal.SIGKILL
        assert with_status(EventStatus.SUCCESS) == 20
        assert with_status(EventStatus.PROCESSING) == 1, "the row whose coupon was rolled back with it"
        for status in (EventStatus.PROCESSING, EventStatus.FAIL):
            wait_until(lambda status=status: is_told_rightly(service, row.campaign, status))  # type: ignore[misc]
    with row.fault("two retry runs at once, and one more that stops for longer than its lease"):
        service.arm(RETRY_CLAIMED, "stop")
        stopped = service.manage("retry_failed_coupons", "--limit", "30", **DUE_AT_ONCE)
        service.wait_for(RETRY_CLAIMED)
        runs = [service.manage("retry_failed_coupons", **DUE_AT_ONCE) for _ in range(2)]
        assert [run.wait(within_sec=120) for run in runs] == [0, 0]
        assert all("0 failed again, 0 taken over" in run.output for run in runs), [run.output for run in runs]
        # The leases of the killed run and of the one that stands still are over.
        FailEventHistory.objects.filter(event_status=EventStatus.PROCESSING).update(next_attempt_at=Now())
        assert service.run("retry_failed_coupons", **DUE_AT_ONCE).exit_code == 0
        assert with_status(EventStatus.SUCCESS) == failed
        service.resume(RETRY_CLAIMED)
        assert stopped.wait() == 0
    row.wait_for_promises(users=30)

    assert "0 succeeded, 0 failed again, 1 taken over by another run" in stopped.output
    assert_history_holds(row.crowd, campaigns=[row.campaign])
    assert FailEventHistory.objects.count() == failed, "retrying never adds a row"
    assert set(FailEventHistory.objects.values_list("event_status", flat=True)) == {EventStatus.SUCCESS}
    tries = FailAttempt.objects.filter(error_code="").values("event").annotate(times=Count("pk"))
    assert (len(tries), {row["times"] for row in tries}) == (failed, {1}), "each became SUCCESS once"
    assert_admission_went_on(row.crowd)
    row.write()


@contextmanager
def most_users_refused() -> Iterator[None]:
    """By the database, for a reason of its own."""
    with connection.cursor() as cursor:
        # However long a busy machine keeps a batch open: a constraint that stayed would spoil all tests that follow.
        cursor.execute("SET lock_timeout = 0; SET statement_timeout = 0")
        cursor.execute(
            "ALTER TABLE coupons_coupon ADD CONSTRAINT refused CHECK (user_id ~ %s) NOT VALID", [NOT_REFUSED]
        )
        try:
            yield
        finally:
            cursor.execute("ALTER TABLE coupons_coupon DROP CONSTRAINT refused")


def test_a_retry_that_fails_again_adds_no_row(service: Service) -> None:
    campaign = service.campaign(10)
    apply_all(campaign, range(3))
    Campaign.objects.filter(pk=campaign.pk).update(quantity=1)
    service.consumer("--solo", **DUE_AT_ONCE)
    wait_until(lambda: with_status(EventStatus.FAIL) == 2)

    service.run("retry_failed_coupons", COUPON_RETRY_BASE_DELAY_SEC="3600")

    assert Coupon.objects.count() == 1
    for event in FailEventHistory.objects.all():
        assert (event.event_status, event.error_code, event.attempts) == ("FAIL", FailCode.QUANTITY_EXCEEDED, 1)
        assert event.next_attempt_at is not None
        assert [attempt.error_code for attempt in event.tried.all()] == [FailCode.QUANTITY_EXCEEDED]
    Campaign.objects.filter(pk=campaign.pk).update(quantity=10)  # else the ledger finds 3 tickets for 1 coupon
    assert_kept(campaign, {}, failed=2)


def with_status(status: EventStatus) -> int:
    return FailEventHistory.objects.filter(event_status=status).count()


def is_told_rightly(service: Service, campaign: Campaign, status: EventStatus) -> bool:
    """Whether a user whose event has this status hears that the coupon is pending; or issued, if a second message of
    the same ticket has brought it meanwhile."""
    event = FailEventHistory.objects.filter(event_status=status).order_by("pk").first()
    assert event is not None
    answer = service.ticket(campaign, event.user_id)
    has_coupon = Coupon.objects.filter(campaign=campaign, user_id=event.user_id).exists()
    return (answer.status, answer.json().get("status")) == (200, "issued" if has_coupon else "pending")
