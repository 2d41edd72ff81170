"""GET .../tickets/{user}: what became of an application."""

from uuid import uuid4

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.issuing.failed_events import give_up_events
from coupons.issuing.retry import retry_events_now
from coupons.models import Campaign, Coupon, EventStatus, FailEventHistory
from tests.support.http import Api, assert_problem, json_of
from tests.support.promises import apply_all
from tests.support.service import Service
from tests.support.waiting import wait_until


def test_a_ticket_is_pending_and_then_issued_with_its_code(api: Api, service: Service) -> None:
    campaign = service.campaign(10)
    api.apply(campaign)
    assert json_of(api.ticket(campaign)) == {"status": "pending", "sequence": 1}

    service.consumer("--solo")
    document = wait_until(lambda: (found := json_of(api.ticket(campaign)))["status"] == "issued" and found)

    coupon = Coupon.objects.get(campaign=campaign, user_id="42")
    assert document == {
        "status": "issued",
        "sequence": 1,
        "code": coupon.code,
        "issued_at": coupon.issued_at.isoformat(),
        "valid_from": None,
        "valid_until": None,
        "coupon_status": "unused",
    }
    assert api.apply(campaign).status_code == 200, "a repeat after the issue keeps its place"


def test_a_failed_ticket_is_pending_until_it_is_given_up(api: Api, service: Service) -> None:
    campaign = service.campaign(10)
    apply_all(campaign, ["1", "2"])
    Campaign.objects.filter(pk=campaign.pk).update(quantity=1)  # the database will refuse one of the two
    service.consumer("--solo")
    event = wait_until(lambda: FailEventHistory.objects.filter(campaign=campaign).first(), what="a failed event")

    assert json_of(api.ticket(campaign, event.user_id)) == {"status": "pending", "sequence": event.sequence}
    give_up_events(event_ids=[event.pk], actor="test", reason="the test says so")
    assert json_of(api.ticket(campaign, event.user_id)) == {"status": "failed", "sequence": event.sequence}

    Campaign.objects.filter(pk=campaign.pk).update(quantity=10)
    retry_events_now(event_ids=[event.pk], actor="test")
    event.refresh_from_db()
    assert event.event_status == EventStatus.FAIL, "what is given up is not retried"


def test_a_user_who_never_applied_has_no_ticket(api: Api, service: Service) -> None:
    campaign = service.campaign(10)

    for user_id in ("nobody", "a" * 129, "a%20b", "%00"):
        assert_problem(api.ticket(campaign, user_id), 404, "not-found")
    assert_problem(api.ticket(uuid4()), 404, "not-found")
    assert_problem(api.ticket("not-a-uuid"), 404, "not-found")
    assert_problem(api.ticket(service.campaign(10, opened=False)), 404, "not-found")


def test_a_state_that_is_not_current_is_503_not_404(api: Api, service: Service) -> None:
    campaign = service.campaign(10)
    admission_redis().delete(campaign_keys(campaign.pk).tickets, campaign_keys(campaign.pk).campaign)

    assert_problem(api.ticket(campaign, "nobody"), 503, "unavailable")
