"""What the operators' pages make of texts and payloads from outside."""

import pytest

from coupons.admin.payloads import MAX_BYTES_DUMPED, MAX_TEXT_SHOWN, readable_payload
from coupons.runtime.text import escape_for_log, make_visible


@pytest.mark.parametrize("text", ["", "plain", "two\nlines\tand a tab", "쿠폰 100장", "naïve ☕ 🎟"])
def test_what_can_be_seen_stays_as_it_is(text: str) -> None:
    assert make_visible(text) == text


@pytest.mark.parametrize(
    "character", "\x00\x1b\r\x7f\x85\xad\u200b\u200f\u202e\u2028\u2066\ufeff\ue000\U000e0001\ud800"
)
def test_what_cannot_be_seen_is_named(character: str) -> None:
    assert make_visible(f"a{character}b") == f"a⟨U+{ord(character):04X}⟩b"


def test_json_is_indented_and_kept_as_received_beside_it() -> None:
    payload = readable_payload(b'{"a":1,"a":2}')

    assert (payload.kind, payload.text, payload.raw) == ("JSON", '{\n  "a": 2\n}', '{"a":1,"a":2}')


def test_a_lone_surrogate_in_json_does_not_break_the_page() -> None:
    assert readable_payload(rb'"\ud800"').text.encode() == '"⟨U+D800⟩"'.encode()


@pytest.mark.parametrize("payload", [b"{", b"[" * 100_000, b"1" * 5_000, b"hello"])
def test_text_that_is_no_usable_json_is_shown_as_text(payload: bytes) -> None:
    assert readable_payload(payload).kind == "text"


def test_bytes_that_are_no_text_are_dumped_with_their_offsets() -> None:
    payload = readable_payload(b"\xff" + b"A" * 16)

    assert payload.kind == "not UTF-8, as a hex dump"
    assert payload.text == (
        "000000  ff 41 41 41 41 41 41 41 41 41 41 41 41 41 41 41  .AAAAAAAAAAAAAAA\n"
        "000010  41                                               A"
    )


def test_a_large_payload_is_cut_and_says_by_how_much() -> None:
    assert readable_payload(b"x" * (MAX_TEXT_SHOWN + 5)).text.endswith("… 5 more characters")
    assert readable_payload(b"\xff" * (MAX_BYTES_DUMPED + 5)).text.endswith("… 5 more bytes")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("쿠폰 ☕ \\n", "쿠폰 ☕ \\n"),
        ("a\r\n2026-11-25 ERROR forged", "a\\r\\n2026-11-25 ERROR forged"),
        ("\x1b[2J\x07\x9b\t", "\\x1b[2J\\x07\\x9b\\t"),
        ("a\u202eb\u2028c\U000e0001", "a\\u202eb\\u2028c\\U000e0001"),
    ],
)
def test_a_log_line_stays_one_line_and_commands_no_terminal(text: str, line: str) -> None:
    assert escape_for_log(text) == line
    assert escape_for_log(text).isprintable()
