"""What an application may say, and what is answered to anything else. The refused take no place."""

import pytest

from coupons.models import Campaign
from tests.support.http import JSON, Api, assert_problem, json_of
from tests.support.service import Service


@pytest.fixture
def campaign(service: Service) -> Campaign:
    return service.campaign(10)


GOOD = [
    "4",
    "0",
    "1e5",
    "a" * 128,
    "8f14e45f-ceea-467f-9c3a-0b2a9c1b6a11",
    "a.b@x.test",
    "auth0|5f",
    "a+b:c_d-e",
    "...",
]
NO_STRINGS = [42, None, True, ["42"], {"id": "42"}]
NO_USER_IDS = ["", " ", "a" * 129, " 42", "42\n", "a b", "a/b", "\u0664\u0662", "\x00", ".", ".."]


def test_numbers_uuids_addresses_and_slugs_are_user_ids(api: Api, campaign: Campaign) -> None:
    assert [api.apply(campaign, user_id).status_code for user_id in GOOD] == [202] * len(GOOD)


def test_any_other_user_id_is_400_and_names_the_field(api: Api, campaign: Campaign) -> None:
    for user_id in [*NO_STRINGS, *NO_USER_IDS]:
        document = assert_problem(api.apply(campaign, user_id), 400, "invalid")

        assert document["detail"].startswith("user_id: ")
        assert list(document["errors"]) == ["user_id"]
    assert json_of(api.campaign(campaign))["admitted"] == 0


def test_a_missing_user_id_is_named(api: Api, campaign: Campaign) -> None:
    document = assert_problem(api.post(f"campaigns/{campaign.pk}/apply", {}), 400, "invalid")

    assert list(document["errors"]) == ["user_id"]


def test_a_body_that_is_no_object_is_400(api: Api, campaign: Campaign) -> None:
    for body in ("", "[]", '"42"', "42", "null", '[{"user_id": "42"}]'):
        assert_problem(api.post(f"campaigns/{campaign.pk}/apply", body), 400, "invalid")


def test_a_body_that_is_no_json_is_400(api: Api, campaign: Campaign) -> None:
    for body in (
        b"{",
        b"user_id=42",
        b'{"user_id": "42"',
        b"\xff\xfe",
        b'{"user_id": "\xff"}',
        b'{"user_id": "\\ud800"}',
        b'{"user_id": NaN}',
        b'{"user_id": ' + b"9" * 5_000 + b"}",
    ):
        assert_problem(api.post(f"campaigns/{campaign.pk}/apply", body), 400, "invalid")


def test_a_body_nested_50_000_deep_is_400(api: Api, campaign: Campaign) -> None:
    assert_problem(api.post(f"campaigns/{campaign.pk}/apply", b"[" * 50_000), 400, "invalid")


def test_a_body_of_a_megabyte_is_refused(api: Api, campaign: Campaign) -> None:
    body = b'{"user_id": "42", "more": "' + b"x" * 1_000_000 + b'"}'

    assert_problem(api.post(f"campaigns/{campaign.pk}/apply", body), 413, "too-large")
    assert json_of(api.campaign(campaign))["admitted"] == 0


def test_an_ambiguous_body_is_400(api: Api, campaign: Campaign) -> None:
    for body, field in (
        (b'{"user_id": "1", "user_id": "2"}', "user_id"),
        (b'{"user_id": "1", "more": {"a": 1, "a": 2}}', "a"),
        (b'{"user_id": "1", "more": Infinity}', "body"),
        (b'{"user_id": "1"} {}', "body"),
        (b'\xef\xbb\xbf{"user_id": "1"}', "body"),
    ):
        document = assert_problem(api.post(f"campaigns/{campaign.pk}/apply", body), 400, "invalid")
        assert document["detail"].startswith(f"{field}: ")
    assert json_of(api.campaign(campaign))["admitted"] == 0


def test_only_json_is_understood(api: Api, campaign: Campaign) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = api.post(f"campaigns/{campaign.pk}/apply", b'{"user_id": "42"}', content_type=content_type)
        assert_problem(answer, 415, "unsupported-media-type")


def test_only_json_is_sent_back(api: Api, campaign: Campaign) -> None:
    answer = api.post(f"campaigns/{campaign.pk}/apply", {"user_id": "42"}, content_type=JSON, accept="text/html")

    assert_problem(answer, 406, "not-acceptable")
    assert json_of(api.campaign(campaign))["admitted"] == 0


def test_other_methods_are_405_and_the_right_ones_named(api: Api, campaign: Campaign) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        answer = api.request(method, f"campaigns/{campaign.pk}/apply")

        assert_problem(answer, 405, "method-not-allowed")
        assert "POST" in answer["Allow"]
