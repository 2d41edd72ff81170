"""What pages and log lines make of texts from outside."""

import pytest

from coupons.runtime.text import compose, escape_for_log, make_visible, read_visible


@pytest.mark.parametrize("text", ["", "plain", "two\nlines\tand a tab", "쿠폰 100장", "naïve ☕ 🎟"])
def test_what_can_be_seen_stays_as_it_is(text: str) -> None:
    assert make_visible(text) == text


@pytest.mark.parametrize(
    "character", "\x00\x1b\r\x7f\x85\xad\u200b\u200f\u202e\u2028\u2066\ufeff\ue000\U000e0001\ud800"
)
def test_what_cannot_be_seen_is_named(character: str) -> None:
    assert make_visible(f"a{character}b") == f"a⟨U+{ord(character):04X}⟩b"


@pytest.mark.parametrize(
    "text",
    [
        "👨\u200d👩\u200d👧\u200d👦", "👩🏽\u200d🚀", "🏳\ufe0f\u200d🌈", "❤\ufe0f\u200d🔥", "🙂\u200d↔\ufe0f",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "می\u200cشود", "क्\u200dष", "র\u200d্য",
    ],
)  # fmt: skip
def test_joiners_stay_in_emoji_and_in_scripts_that_need_them(text: str) -> None:
    assert make_visible(text) == text
    assert escape_for_log(text).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "pay\u200dpal",
        "쿠\u200c폰",
        "\u200d👨",
        "👨\u200d",
        "👨\u200d\u200d👩",
        "👨\u200cx",
        "🏴\U000e0067x",
        "م\u200c\u202eم",
    ],
)
def test_a_joiner_that_joins_nothing_is_named(text: str) -> None:
    assert "⟨U+" in make_visible(text)


@pytest.mark.parametrize(
    "text", ["a\u202eb", "\x07\u200f\U000e0001", "plain", "⟨U+0041⟩ ⟨U+D800⟩ ⟨U+FFFFFF⟩", "👨\u200dx"]
)
def test_what_a_page_showed_is_read_back(text: str) -> None:
    assert read_visible(make_visible(text)) == text


def test_decomposed_letters_are_composed() -> None:
    assert compose("\u110f\u116e\u1111\u1169\u11ab é") == "쿠폰 é"


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
