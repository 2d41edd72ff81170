"""What travels in the topic: only bytes that are a ticket come out as one, whatever arrives."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from coupons.messaging.messages import MAX_PAYLOAD_BYTES, InvalidMessage, decode, encode, is_user_id
from coupons.models import FailCode
from tests.support.tickets import TICKET

CAMPAIGN = TICKET.campaign_id
GOOD: dict[str, Any] = {
    "v": 1,
    "campaign_id": str(CAMPAIGN),
    "user_id": "42",
    "sequence": 37,
    "admitted_at": "2026-12-01T10:00:00.123+00:00",
    "trace": "abc",
}


def changed(**fields: Any) -> bytes:
    return json.dumps(GOOD | fields).encode()


def without(*fields: str) -> bytes:
    return json.dumps({name: value for name, value in GOOD.items() if name not in fields}).encode()


def test_a_ticket_comes_out_as_it_went_in() -> None:
    assert decode(encode(TICKET)) == TICKET


def test_the_bytes_are_the_contract_of_version_1() -> None:
    assert json.loads(encode(TICKET)) == {
        "v": 1,
        "campaign_id": "0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10",
        "user_id": "auth0|42",
        "sequence": 37,
        "admitted_at": "2026-12-01T10:00:00.123000Z",
        "trace": "abc",
    }


def test_unknown_fields_are_ignored() -> None:
    assert decode(changed(added_in_2030={"x": [1]})).user_id == "42"


def test_the_admission_time_may_have_any_offset() -> None:
    assert decode(changed(admitted_at="2026-12-01T19:00:00.123+09:00")) == decode(changed())


def test_version_and_trace_may_be_missing() -> None:
    assert decode(without("v")) == decode(changed())
    assert decode(without("trace")).trace == ""


UNREADABLE = {
    "nothing at all": None,
    "no bytes": b"",
    "no JSON": b"hello",
    "half a document": b'{"v": 1,',
    "two documents": b"{}{}",
    "a NUL byte": b"\x00",
    "a document with a NUL byte": b'{"v": 1, "user_id": "a\x00b"}',
    "no UTF-8": b'{"v": 1, "user_id": "\xff\xfe"}',
    "a list": b"[1]",
    "a text": b'"x"',
    "no number": b"NaN",
    "too long": b'{"x": "' + b"y" * MAX_PAYLOAD_BYTES + b'"}',
    "an integer of 5,000 digits": b'{"v": 1, "sequence": ' + b"9" * 5_000 + b"}",
    "lists in lists": b"[" * 2_000 + b"]" * 2_000,
    "objects in objects": b'{"v":' * 700,
    "half a character": b'{"v": 1, "user_id": "\\ud800"}',
}


@pytest.mark.parametrize("payload", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_bytes_that_are_no_json_object_are_an_invalid_message(payload: bytes | None) -> None:
    with pytest.raises(InvalidMessage) as caught:
        decode(payload)

    assert caught.value.code is FailCode.INVALID_MESSAGE
    assert caught.value.named == {}


WRONG: dict[str, list[Any]] = {
    "campaign_id": [None, 7, "", "x", f"{{{CAMPAIGN}}}"],
    "user_id": [None, 42, "", "a b", "é", "x" * 129, "a\x00b", "a\n", ["42"]],
    "sequence": [None, "37", 37.0, 0, -1, 2**53, True, 10**3_000, [37]],
    "admitted_at": [None, 1_790_000_000, "", "yesterday", "2026-12-01T10:00:00", []],
    "trace": [None, 7, ["x"]],
    "epoch": ["7", 1.5, True],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(field, value, id=f"{field}-{number}")
        for field in WRONG
        for number, value in enumerate(WRONG[field])
    ],
)
def test_an_invalid_field_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidMessage, match=field) as caught:
        decode(changed(**{field: value}))

    assert caught.value.code is FailCode.INVALID_MESSAGE


@pytest.mark.parametrize("field", ["campaign_id", "user_id", "sequence", "admitted_at"])
def test_a_field_that_is_missing_is_an_invalid_message(field: str) -> None:
    with pytest.raises(InvalidMessage, match=field):
        decode(without(field))


@pytest.mark.parametrize("version", [0, 2, "1", 1.0, True, None, [], "x" * 3_000])
def test_another_version_is_reported_whatever_else_is_wrong(version: object) -> None:
    with pytest.raises(InvalidMessage, match="version") as caught:
        decode(changed(v=version, user_id=None))

    assert caught.value.code is FailCode.UNKNOWN_VERSION
    assert len(str(caught.value)) < 200


def test_an_invalid_message_says_what_could_be_read_of_it() -> None:
    with pytest.raises(InvalidMessage) as caught:
        decode(changed(sequence="many"))

    assert caught.value.named == {"campaign_id": str(CAMPAIGN), "user_id": "42", "sequence": "many"}


@pytest.mark.parametrize("field", ["v", "campaign_id", "trace", "more"])
def test_no_depth_of_nesting_ends_the_program(field: str) -> None:
    for depth in range(100, 1_900, 100):
        payload = changed(**{field: "DEEP"}).replace(b'"DEEP"', b"[" * depth + b"]" * depth)
        try:
            decode(payload)
        except InvalidMessage:
            continue
        assert field == "more"


@pytest.mark.parametrize(
    "user_id",
    [
        "1",
        "x" * 128,
        "b2c9ad1e-3c2f-4d5a-9f10-000000000000",
        "kim@example.com",
        "auth0|5f7c",
        "a.b_c:d+e-f",
        "...",
        ".a",
    ],
)
def test_numbers_uuids_slugs_and_mail_addresses_are_user_ids(user_id: str) -> None:
    assert is_user_id(user_id)


@pytest.mark.parametrize("text", ["", "x" * 129, "a b", "a/b", "a\n", "\u0661", ".", "..", 42, None])
def test_anything_else_is_no_user_id(text: object) -> None:
    assert not is_user_id(text)


@pytest.mark.parametrize("user_id", [".", ".."])
def test_what_an_earlier_version_promised_is_still_read(user_id: str) -> None:
    assert decode(changed(user_id=user_id)).user_id == user_id


def test_the_epoch_travels_along_and_may_be_missing() -> None:
    assert decode(encode(TICKET)).epoch is None
    assert decode(encode(replace(TICKET, epoch=7))).epoch == 7
