"""Runs of the retry command that meet each other, or die."""

import signal

from django.db.models import Count

from coupons.failpoints import RETRY_ISSUED
from coupons.models import Campaign, Coupon, EventStatus, FailAttempt, FailCode, FailEventHistory
from tests.support.promises import apply_all, assert_kept
from tests.support.service import Service
from tests.support.waiting import wait_until

FAILED = 600
DUE_AT_ONCE = {"COUPON_RETRY_BASE_DELAY_SEC": "0", "COUPON_RETRY_LEASE_SEC": "5"}


def test_a_run_killed_midway_and_two_at_once_issue_each_coupon_once(service: Service) -> None:
    campaign = service.campaign(1_000)
    promises = apply_all(campaign, range(FAILED + 1))
    Campaign.objects.filter(pk=campaign.pk).update(quantity=1)  # the database refuses all but one
    consumer = service.consumer("--solo", **DUE_AT_ONCE)
    wait_until(lambda: with_status(EventStatus.FAIL) == FAILED, what="all the others are failed events")
    assert_kept(campaign, {}, failed=FAILED)
    consumer.stop()
    Campaign.objects.filter(pk=campaign.pk).update(quantity=1_000)

    service.arm(RETRY_ISSUED, "kill@150")
    killed = service.run("retry_failed_coupons", **DUE_AT_ONCE)
    assert killed.exit_code == -signal.SIGKILL
    assert with_status(EventStatus.SUCCESS) == 149
    assert with_status(EventStatus.PROCESSING) == 51, "what it had claimed, and the one whose coupon was rolled back"

    runs = [service.manage("retry_failed_coupons", **DUE_AT_ONCE) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    assert all("0 failed again, 0 taken over" in run.output for run in runs), [run.output for run in runs]
    wait_until(
        lambda: (
            service.run("retry_failed_coupons", **DUE_AT_ONCE).exit_code == 0
            and with_status(EventStatus.SUCCESS) == FAILED
        ),
        what="the lease of the killed run is over, and its rows are taken up",
    )

    assert_kept(campaign, promises)
    assert FailEventHistory.objects.count() == FAILED, "retrying never adds a row"
    assert with_status(EventStatus.PROCESSING) == 0
    tries = FailAttempt.objects.filter(error_code="").values("event").annotate(times=Count("pk"))
    assert {row["times"] for row in tries} == {1}, "each became SUCCESS once"


def test_a_retry_that_fails_again_says_why_and_adds_no_row(service: Service) -> None:
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
    assert_kept(campaign, {}, failed=2)


def with_status(status: EventStatus) -> int:
    return FailEventHistory.objects.filter(event_status=status).count()
