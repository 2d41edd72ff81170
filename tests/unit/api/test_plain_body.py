"""The short way through a body: it takes no more than the long one does, and reads the same in it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import ParseError, ValidationError

from coupons.api.parsers import read_json
from coupons.api.serializers import read_user_id, user_id_of_plain_body

LIKE_A_BODY = st.lists(
    st.sampled_from(
        ["{", "}", '"user_id"', ":", '"42"', '"auth0|a.b"', '""', '"\\u0034"', '"é"', " ", "\n", "\t", ",", "1", "\v"]
    )
).map("".join)


def the_long_way(body: bytes) -> str | None:
    try:
        return read_user_id(read_json(body), own=None)
    except (ParseError, ValidationError):
        return None


@pytest.mark.parametrize(
    "user_id", ["42", "0190b6a2-7c1e-7000-8000-000000000001", "auth0|a.b", "a@b.example", "x" * 128]
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" , ", "\t:\r\n")])
def test_what_clients_send_goes_the_short_way(user_id: str, separators: tuple[str, str]) -> None:
    assert user_id_of_plain_body(json.dumps({"user_id": user_id}, separators=separators).encode()) == user_id


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"user_id":""}',
        b'{"user_id":42}',
        b'{"user_id":"4 2"}',
        b'{"user_id":"\\u0034"}',
        b'{"user_id":"%s"}' % (b"x" * 129),
        b'{"user_id":"1","user_id":"2"}',
        b'{"user_id":"1","more":1}',
        b'{"User_id":"1"}',
        b'{"user_id":"1"}x',
        b'{"user_id":"1"}\x00',
        b'\xef\xbb\xbf{"user_id":"1"}',
        b'[{"user_id":"1"}]',
        '{"user_id":"\uff14"}'.encode(),
    ],
)
def test_everything_else_is_read_as_json(body: bytes) -> None:
    assert user_id_of_plain_body(body) is None


@given(LIKE_A_BODY)
def test_what_the_short_way_takes_the_long_one_reads_alike(text: str) -> None:
    found = user_id_of_plain_body(text.encode())

    assert found is None or found == the_long_way(text.encode())
