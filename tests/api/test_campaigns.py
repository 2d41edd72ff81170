"""Campaigns over HTTP: what everybody may read, and what the staff may do."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.models import AuditEntry, Campaign
from coupons.runtime.clock import milliseconds, moment_of
from tests.support.http import Api, assert_problem, json_of
from tests.support.promises import apply_all
from tests.support.service import Service

LATER = datetime.now(UTC) + timedelta(days=1)


def created(api: Api, **values: Any) -> Campaign:
    answer = api.post("campaigns", {"name": "Winter", "quantity": 10} | values)
    assert answer.status_code == 201, answer.content
    return Campaign.objects.get(pk=json_of(answer)["id"])


def test_detail_has_the_numbers_of_the_gate(api: Api, service: Service) -> None:
    campaign = service.campaign(5)
    apply_all(campaign, range(3))

    assert json_of(api.campaign(campaign)) == {
        "id": str(campaign.pk),
        "name": "test",
        "state": "open",
        "quantity": 5,
        "remaining": 2,
        "admitted": 3,
        "issued": 0,
        "opens_at": moment_of(milliseconds(campaign.opens_at)).isoformat(),
        "closes_at": None,
        "valid_from": None,
        "valid_until": None,
        "valid_days": None,
        "metadata": {},
    }


def test_a_draft_has_all_of_its_coupons_left(api: Api, service: Service) -> None:
    document = json_of(api.campaign(service.campaign(5, opened=False)))

    assert (document["state"], document["remaining"], document["admitted"]) == ("draft", 5, None)


def test_remaining_is_null_while_redis_cannot_tell(api: Api, service: Service) -> None:
    campaign = service.campaign(5)
    apply_all(campaign, range(2))
    admission_redis().delete(campaign_keys(campaign.pk).tickets)
    assert json_of(api.campaign(campaign))["remaining"] is None

    service.stack("kill", "redis")
    document = json_of(api.campaign(campaign))
    assert (document["state"], document["quantity"]) == ("open", 5)
    assert (document["remaining"], document["admitted"]) == (None, None)
    assert json_of(api.get("campaigns"))["results"] == [document]


def test_the_list_is_newest_first_in_pages(api: Api, service: Service) -> None:
    made = [service.campaign(quantity, opened=False) for quantity in (1, 2, 3)]

    first = json_of(api.get("campaigns?limit=2"))
    assert first["count"] == 3
    assert [one["id"] for one in first["results"]] == [str(made[2].pk), str(made[1].pk)]
    second = json_of(api.get(first["next"].split("/api/v1/")[1]))
    assert [one["id"] for one in second["results"]] == [str(made[0].pk)]


def test_an_impossible_page_is_400_and_names_the_parameter(api: Api, service: Service) -> None:
    service.campaign(1, opened=False)
    wrong = ("x", "-1", "", "1.5", "1e1", "\u0664", "99999999999999999999", "1&{name}=2")

    for name, text in [(name, text) for name in ("limit", "offset") for text in wrong]:
        document = assert_problem(api.get(f"campaigns?{name}={text.format(name=name)}"), 400, "invalid")
        assert list(document["errors"]) == [name], text
    assert_problem(api.get("campaigns?limit=0"), 400, "invalid")
    for query in ("limit=1", "limit=100", "offset=0", "offset=1000000"):
        assert api.get(f"campaigns?{query}").status_code == 200, query


def test_a_new_campaign_is_a_draft_with_an_address(api: Api, service: Service) -> None:
    answer = api.post(
        "campaigns",
        {
            "name": " Winter ",
            "quantity": 100,
            "opens_at": "2030-12-01T10:00:00+09:00",
            "closes_at": "2030-12-02T10:00:00+09:00",
        },
    )

    assert answer.status_code == 201
    document = json_of(answer)
    assert answer["Location"] == f"/api/v1/campaigns/{document['id']}"
    assert json_of(api.get(f"campaigns/{document['id']}")) == document
    assert document["state"] == "draft"
    assert (document["name"], document["quantity"]) == ("Winter", 100)
    assert document["opens_at"] == "2030-12-01T01:00:00+00:00"
    assert document["closes_at"] == "2030-12-02T01:00:00+00:00"


NO_GOOD: list[tuple[dict[str, object], str]] = [
    ({"name": ""}, "name"),
    ({"name": "x" * 201}, "name"),
    ({"name": "a\x00b"}, "name"),
    ({"name": "\ud800"}, "name"),
    ({"quantity": 0}, "quantity"),
    ({"quantity": 10_000_001}, "quantity"),
    ({"quantity": "many"}, "quantity"),
    ({"quantity": None}, "quantity"),
    ({"opens_at": "tomorrow"}, "opens_at"),
    ({"opens_at": "2030-12-02T00:00:00Z", "closes_at": "2030-12-01T00:00:00Z"}, "closes_at"),
    ({"opens_at": "2030-12-02T00:00:00Z", "closes_at": "2030-12-02T00:00:00Z"}, "closes_at"),
    ({"opens_at": "0001-01-01T00:00:00+01:00"}, "opens_at"),
    ({"name": 1.5}, "name"),
    ({"quantity": "5"}, "quantity"),
    ({"quantity": 5.0}, "quantity"),
    ({"quantity": True}, "quantity"),
    ({"state": "open"}, "state"),
]


def test_a_value_that_is_no_good_is_named(api: Api) -> None:
    for values, field in NO_GOOD:
        document = assert_problem(api.post("campaigns", {"name": "w", "quantity": 1} | values), 400, "invalid")
        assert list(document["errors"]) == [field], values
    assert not Campaign.objects.exists()


def test_any_offset_is_a_moment(api: Api) -> None:
    """PostgreSQL takes none of 16 hours or more: schemathesis found the 500."""
    answer = api.post("campaigns", {"name": "w", "quantity": 1, "opens_at": "2030-12-02T10:00:00+17:28"})

    assert answer.status_code == 201
    opens_at = Campaign.objects.get().opens_at
    assert opens_at is not None
    assert opens_at.isoformat() == "2030-12-01T16:32:00+00:00"


def test_blanks_around_a_name_count_towards_its_length(api: Api) -> None:
    """As the schema says. schemathesis found a name that was only short enough without them."""
    document = assert_problem(api.post("campaigns", {"name": "\r" + "x" * 200, "quantity": 1}), 400, "invalid")

    assert list(document["errors"]) == ["name"]
    assert json_of(api.post("campaigns", {"name": " " + "x" * 199, "quantity": 1}))["name"] == "x" * 199


def test_a_campaign_is_opened_paused_resumed_and_closed(api: Api) -> None:
    campaign = created(api)

    for action, state in (("open", "open"), ("pause", "paused"), ("resume", "open"), ("close", "closed")):
        answer = api.act(campaign, action)
        assert (answer.status_code, json_of(answer)["state"]) == (200, state)
        assert json_of(api.campaign(campaign))["state"] == state


@pytest.mark.parametrize(
    ("steps", "refused"),
    [
        ([], ("pause", "resume", "close")),
        (["open"], ("open", "resume")),
        (["open", "pause"], ("open", "pause")),
        (["open", "close"], ("open", "pause", "resume", "close")),
    ],
)
def test_a_step_that_the_state_forbids_is_a_conflict(api: Api, steps: list[str], refused: tuple[str, ...]) -> None:
    campaign = created(api)
    for step in steps:
        assert api.act(campaign, step).status_code == 200
    state = json_of(api.campaign(campaign))["state"]

    for step in refused:
        document = assert_problem(api.act(campaign, step), 409, "conflict")
        assert state in document["detail"]
    assert json_of(api.campaign(campaign))["state"] == state


def test_a_campaign_whose_window_has_passed_cannot_be_opened(api: Api) -> None:
    campaign = created(api, opens_at="2020-01-01T00:00:00Z", closes_at="2020-01-02T00:00:00Z")

    assert "closes_at" in assert_problem(api.act(campaign, "open"), 409, "conflict")["detail"]
    assert json_of(api.campaign(campaign))["state"] == "draft"


def test_a_raise_admits_those_who_were_refused(api: Api, service: Service) -> None:
    campaign = service.campaign(1)
    api.apply(campaign, "1")
    assert_problem(api.apply(campaign, "2"), 409, "sold-out")

    answer = api.patch(f"campaigns/{campaign.pk}", {"quantity": 2})

    assert (answer.status_code, json_of(answer)["remaining"]) == (200, 1)
    assert json_of(api.apply(campaign, "2"))["sequence"] == 2
    assert_problem(api.apply(campaign, "3"), 409, "sold-out")


def test_a_lower_quantity_ends_at_those_who_are_in(api: Api, service: Service) -> None:
    campaign = service.campaign(10)
    apply_all(campaign, range(3))

    document = assert_problem(api.patch(f"campaigns/{campaign.pk}", {"quantity": 2}), 409, "conflict")
    assert "3" in document["detail"]
    assert json_of(api.campaign(campaign))["quantity"] == 10
    assert api.apply(campaign, "more").status_code == 202

    assert json_of(api.patch(f"campaigns/{campaign.pk}", {"quantity": 4}))["remaining"] == 0
    assert_problem(api.apply(campaign, "even more"), 400, "invalid")
    assert_problem(api.apply(campaign, "even-more"), 409, "sold-out")


def test_name_and_window_of_an_open_campaign_can_be_moved(api: Api, service: Service) -> None:
    campaign = service.campaign(10)

    answer = api.patch(f"campaigns/{campaign.pk}", {"name": "Spring", "opens_at": LATER.isoformat()})

    assert json_of(answer)["name"] == "Spring"
    assert_problem(api.apply(campaign), 409, "not-open")
    assert json_of(answer)["quantity"] == 10


def test_a_change_that_is_no_good_changes_nothing(api: Api, service: Service) -> None:
    campaign = service.campaign(10)

    for changes in ({"quantity": 0}, {"state": "closed"}, {"quantity": 5, "epoch": 3}, {"name": None}, [5]):
        assert_problem(api.patch(f"campaigns/{campaign.pk}", changes), 400, "invalid")
    assert json_of(api.campaign(campaign))["quantity"] == 10


def test_a_change_of_nothing_is_refused_and_written_nowhere(api: Api, service: Service) -> None:
    campaign = service.campaign(10)

    for body in ("", "{}"):
        document = assert_problem(api.patch(f"campaigns/{campaign.pk}", body), 400, "invalid")
        [error] = document["errors"]["non_field_errors"]
        assert error.startswith("Name what is to change: name, quantity, opens_at, closes_at, valid_from, ")

    assert list(AuditEntry.objects.filter(object_id=campaign.pk).values_list("what", flat=True).order_by("pk")) == [
        "Created as a draft with quantity 10",
        "Opened",
    ]


def test_no_change_makes_a_window_end_before_it_begins(api: Api, service: Service) -> None:
    campaign = service.campaign(10)
    before = campaign.opens_at - timedelta(seconds=1)

    assert_problem(api.patch(f"campaigns/{campaign.pk}", {"closes_at": before.isoformat()}), 409, "conflict")


def test_a_closed_campaign_cannot_be_changed(api: Api, service: Service) -> None:
    campaign = service.campaign(10)
    api.act(campaign, "close")

    assert_problem(api.patch(f"campaigns/{campaign.pk}", {"quantity": 20}), 409, "conflict")


def test_an_unknown_campaign_is_404_everywhere(api: Api) -> None:
    for text in (str(uuid4()), "not-a-uuid"):
        assert_problem(api.get(f"campaigns/{text}"), 404, "not-found")
        assert_problem(api.patch(f"campaigns/{text}", {"quantity": 1}), 404, "not-found")
        assert_problem(api.post(f"campaigns/{text}/open"), 404, "not-found")


def test_a_change_without_redis_is_saved_and_said(api: Api, service: Service) -> None:
    campaign = service.campaign(10)
    service.stack("kill", "redis")

    raised = api.patch(f"campaigns/{campaign.pk}", {"quantity": 20})
    assert (raised.status_code, json_of(raised)["pushed"]) == (202, False)
    paused = api.act(campaign, "pause")
    assert (paused.status_code, json_of(paused)["pushed"]) == (202, False)
    assert_problem(api.patch(f"campaigns/{campaign.pk}", {"quantity": 5}), 503, "unavailable")

    campaign.refresh_from_db()
    assert (campaign.quantity, campaign.state) == (20, "paused")
