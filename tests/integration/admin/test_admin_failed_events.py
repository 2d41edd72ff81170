"""Failed events in the admin: readable, retried, given up with a reason, and never edited."""

from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from coupons.models import Campaign, Coupon, EventStatus, FailAttempt, FailCode, FailEventHistory
from tests.support.failed_events import failed, held
from tests.support.operators import (
    EVENTS,
    OPERATE,
    VIEW,
    confirm,
    event_page,
    history_of,
    messages_of,
    press,
    run_action,
    sign_in,
    text_of,
)
from tests.support.service import Service


def succeeded(offset: int) -> FailEventHistory:
    campaign = Campaign.objects.create(name="test", quantity=9, opens_at=timezone.now())
    coupon = Coupon.objects.create(campaign=campaign, user_id="u", sequence=1, code=f"{offset}")
    ticket: dict[str, Any] = {"campaign": campaign, "user_id": coupon.user_id, "sequence": coupon.sequence}
    return failed(offset, event_status=EventStatus.SUCCESS, **ticket)


def listed(client: Client, **query: Any) -> list[FailEventHistory]:
    return list(client.get(reverse(EVENTS), query).context["cl"].result_list)


def test_the_list_shows_the_open_ones_first_of_all(db: None) -> None:
    waiting, _ = failed(1), succeeded(2)
    given_up = failed(3, given_up_at=timezone.now(), given_up_by="op", given_up_reason="refunded")

    page = sign_in(*VIEW).get(reverse(EVENTS))

    assert list(page.context["cl"].result_list) == [given_up, waiting]
    assert succeeded not in page.context["cl"].result_list
    assert "FAIL, given up" in text_of(page)
    assert "FAIL, needs a decision" in text_of(page)


@pytest.mark.parametrize("status", ["waiting", "due", "processing", "given-up", "success"])
def test_each_status_has_its_filter(db: None, status: str) -> None:
    now = timezone.now()
    events = {
        "waiting": failed(1),
        "due": failed(2, next_attempt_at=now),
        "processing": failed(3, event_status=EventStatus.PROCESSING, next_attempt_at=now),
        "given-up": failed(4, given_up_at=now),
        "success": succeeded(5),
    }

    assert listed(sign_in(*VIEW), status=status) == [events[status]]


def test_events_are_filtered_by_campaign_and_error_code(service: Service) -> None:
    campaign = service.campaign(opened=False)
    wanted = failed(1, campaign=campaign, error_code=FailCode.CONFLICT)
    failed(2, campaign=campaign)
    failed(3, error_code=FailCode.CONFLICT)

    found = listed(sign_in(*VIEW), campaign__id__exact=campaign.pk, error_code__exact="conflict")

    assert found == [wanted]


@pytest.mark.parametrize("term", ["42", "3@1234", "coupon_create[3]@1234"])
def test_an_event_is_found_by_user_and_by_position(db: None, term: str) -> None:
    wanted = failed(1234, user_id="42")
    failed(1235, user_id="421")

    assert listed(sign_in(*VIEW), q=term) == [wanted]


def test_a_json_payload_is_indented_and_escaped(db: None) -> None:
    event = failed(payload=b'{"user_id":"<script>alert(1)</script>"}')

    html = sign_in(*VIEW).get(event_page(event)).content.decode()

    assert "{\n  &quot;user_id&quot;: &quot;&lt;script&gt;alert(1)&lt;/script&gt;&quot;\n}" in html
    assert "<script>alert(1)" not in html


def test_invisible_characters_are_made_visible_everywhere(db: None) -> None:
    event = failed(
        payload="a\x00b\u202ec".encode(), user_id="x\u202ey", error_message="z\u200bz", campaign_ref="\u2066r"
    )

    page = sign_in(*VIEW).get(event_page(event))

    for shown in ("a⟨U+0000⟩b⟨U+202E⟩c", "x⟨U+202E⟩y", "z⟨U+200B⟩z", "⟨U+2066⟩r"):
        assert shown in text_of(page)
    assert not set("\x00\u202e\u200b\u2066") & set(page.content.decode())


def test_a_payload_that_is_no_text_is_escaped(db: None) -> None:
    event = failed(payload=b"\xff\xfeAB")

    assert r"\xff\xfeAB" in text_of(sign_in(*VIEW).get(event_page(event)))


def test_the_attempts_are_shown_with_what_they_said(db: None) -> None:
    event = failed()
    now = timezone.now()
    FailAttempt.objects.create(event=event, started_at=now, actor="cron", error_code="conflict", error_message="<b>")

    assert "cron conflict <b>" in text_of(sign_in(*VIEW).get(event_page(event))).replace("&lt;b&gt;", "<b>")


def test_retry_now_issues_the_coupon_and_says_so(service: Service) -> None:
    campaign = service.campaign()
    event = held(campaign, "42")

    page = confirm(sign_in(*OPERATE), event, "retry_selected")

    assert Coupon.objects.get().user_id == "42"
    assert messages_of(page) == ["success: Retried: 1 event succeeded."]
    assert history_of(event) == ["Retried now: issued: because"]
    assert FailAttempt.objects.get().actor == "op"


def test_retry_now_from_the_list_tells_who_failed_again(service: Service) -> None:
    campaign = service.campaign()
    good, forged = held(campaign, "42", 1), failed(2, campaign=campaign, user_id="mallory", sequence=9)

    page = run_action(sign_in(*OPERATE), EVENTS, "retry_selected", good, forged, confirmed="yes")

    assert messages_of(page)[:2] == [  # the third says that the scheduled job has never run
        "success: Retried: 1 event succeeded.",
        "warning: Retried: 1 event failed again. Each event's page shows the error.",
    ]
    assert history_of(forged) == ["Retried now: not-admitted again: because"]


def test_a_retry_without_redis_shows_a_message_and_loses_nothing(service: Service) -> None:
    event = held(service.campaign(), "42")
    client = sign_in(*OPERATE)
    service.stack("stop", "redis")

    page = confirm(client, event, "retry_selected")

    assert page.status_code == 200
    (message,) = messages_of(page)
    assert message.startswith("error: Retry: ")
    event.refresh_from_db()
    assert (event.event_status, event.attempts) == (EventStatus.FAIL, 0)
    assert history_of(event) == []


def test_what_succeeded_is_left_alone(db: None) -> None:
    event = succeeded(0)

    page = confirm(sign_in(*OPERATE), event, "retry_selected")

    (message,) = messages_of(page)
    assert message.startswith("info: Skipped: 1 event")
    assert not FailAttempt.objects.exists()


def test_giving_up_needs_a_reason(db: None) -> None:
    event = failed()

    page = confirm(sign_in(*OPERATE), event, "give_up_selected", reason="  ")

    assert "Give a reason" in text_of(page)
    event.refresh_from_db()
    assert event.given_up_at is None


def test_giving_up_records_actor_and_reason(db: None) -> None:
    event = failed(next_attempt_at=timezone.now())

    page = confirm(sign_in(*OPERATE), event, "give_up_selected", reason="Refunded by hand <4711>")

    event.refresh_from_db()
    assert (event.given_up_by, event.given_up_reason) == ("op", "Refunded by hand <4711>")
    assert event.next_attempt_at is None
    assert history_of(event) == ["Given up: Refunded by hand <4711>"]
    assert messages_of(page) == ["success: Given up: 1 event."]
    assert "Refunded by hand &lt;4711&gt;" in page.content.decode()


def test_giving_up_from_the_list_needs_a_reason(db: None) -> None:
    promised, forged = failed(1, user_id="42"), failed(2, error_code=FailCode.NOT_ADMITTED)

    page = run_action(sign_in(*OPERATE), EVENTS, "give_up_selected", promised, forged)

    assert "2 failed events will not be retried" in text_of(page)
    assert "1 of them holds a ticket" in text_of(page)
    assert not FailEventHistory.objects.filter(given_up_at__isnull=False).exists()


def test_an_event_is_given_up_once(db: None) -> None:
    event = failed()
    client = sign_in(*OPERATE)
    confirm(client, event, "give_up_selected", reason="first")

    page = confirm(client, event, "give_up_selected", reason="second")

    event.refresh_from_db()
    assert event.given_up_reason == "first"
    assert history_of(event) == ["Given up: first"]
    (message,) = messages_of(page)
    assert message.startswith("info: Skipped: 1 event")


def test_an_event_locked_by_a_retry_shows_a_message(db: None, monkeypatch: Any) -> None:
    """A lock that is not given in time is an OperationalError of PostgreSQL."""

    def refuse(**given: Any) -> int:
        raise OperationalError("canceling statement due to lock timeout")

    monkeypatch.setattr("coupons.admin.failed_events.give_up_events", refuse)
    event = failed()

    page = confirm(sign_in(*OPERATE), event, "give_up_selected")

    assert page.status_code == 200
    assert "lock timeout" in messages_of(page)[0]
    assert history_of(event) == []


def test_who_may_only_look_can_decide_nothing(db: None) -> None:
    event = failed()
    viewer = sign_in(*VIEW)

    page = viewer.get(event_page(event))

    assert "Retry now" not in text_of(page)
    assert "Give up" not in text_of(page)
    assert viewer.get(reverse(EVENTS)).context["action_form"] is None
    for action in ("retry_selected", "give_up_selected"):
        assert press(viewer, event, action).status_code == 403
        assert confirm(viewer, event, action).status_code == 403


def test_the_two_rights_are_apart(db: None) -> None:
    event = failed()
    client = sign_in("retry_failed_event")

    assert "Retry now" in text_of(client.get(event_page(event)))
    assert "Give up" not in text_of(client.get(event_page(event)))
    assert confirm(client, event, "give_up_selected").status_code == 403


def test_nobody_edits_adds_or_deletes_an_event(admin_client: Client) -> None:
    event = failed(error_message="as it was")

    assert admin_client.post(event_page(event), {"error_message": "nothing happened"}).status_code == 403
    assert admin_client.get(reverse("admin:coupons_faileventhistory_add")).status_code == 403
    assert admin_client.post(reverse("admin:coupons_faileventhistory_delete", args=[event.pk])).status_code == 403
    event.refresh_from_db()
    assert event.error_message == "as it was"


def test_the_list_leaves_the_payloads_in_the_database(db: None) -> None:
    failed(payload=b"x" * 1000)

    (event,) = listed(sign_in(*VIEW))

    assert {"payload", "error_message"} <= event.get_deferred_fields()
