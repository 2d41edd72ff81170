"""What pages and log lines make of texts from outside."""

import pytest

from coupons.runtime.text import escape_for_log, make_visible


@pytest.mark.parametrize("text", ["", "plain", "two\nlines\tand a tab", "쿠폰 100장", "naïve ☕ 🎟"])
def test_what_can_be_seen_stays_as_it_is(text: str) -> None:
    assert make_visible(text) == text


@pytest.mark.parametrize(
    "character", "\x00\x1b\r\x7f\x85\xad\u200b\u200f\u202e\u2028\u2066\ufeff\ue000\U000e0001\ud800"
)
def test_what_cannot_be_seen_is_named(character: str) -> None:
    assert make_visible(f"a{character}b") == f"a⟨U+{ord(character):04X}⟩b"


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
