"""What a failed event's page makes of its payload, whatever bytes it has."""

from html import unescape

import pytest
from django.contrib import admin

from coupons.admin.failed_events import MAX_TEXT_SHOWN, FailedEventAdmin
from coupons.admin.pages import NOTHING
from coupons.models import FailEventHistory

PAGE = FailedEventAdmin(FailEventHistory, admin.site)


def shown(payload: bytes) -> tuple[str, str]:
    event = FailEventHistory(payload=payload)
    texts = (unescape(text) for text in (PAGE.as_json(event), PAGE.as_received(event)))
    as_json, as_received = (text.removeprefix('<pre class="coupon-payload">').removesuffix("</pre>") for text in texts)
    return as_json, as_received


def test_json_is_indented_and_kept_as_received_beside_it() -> None:
    assert shown(b'{"a":1,"a":2}') == ('{\n  "a": 2\n}', '{"a":1,"a":2}')


def test_a_lone_surrogate_in_json_does_not_break_the_page() -> None:
    assert shown(rb'"\ud800"')[0].encode() == '"⟨U+D800⟩"'.encode()


@pytest.mark.parametrize("payload", [b"{", b"[" * 100_000, b"1" * 5_000, b"hello"])
def test_text_without_usable_json_is_shown_as_text_alone(payload: bytes) -> None:
    as_json, as_received = shown(payload)

    assert as_json == NOTHING
    assert as_received.startswith(payload[:100].decode())


def test_bytes_that_are_no_text_are_escaped() -> None:
    assert shown(b"\xffAB") == (NOTHING, r"\xffAB")


def test_a_large_payload_is_cut_and_says_by_how_much() -> None:
    assert shown(b"x" * (MAX_TEXT_SHOWN + 5))[1].endswith("… 5 more characters")
