"""Codes as they are derived, and as people type them. That a coupon keeps its code is a promise: see the vectors."""

import hashlib
import hmac
from itertools import combinations
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from coupons.redemption.codes import (
    ALPHABET,
    FORMER_ALPHABET,
    FORMER_LENGTH,
    MAX_TYPED,
    SYMBOLS,
    InvalidCode,
    derive_code,
    former_code,
    read_code,
)

CAMPAIGN = UUID("0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10")
SECRET = b"0123456789abcdef0123456789abcdef"
VECTORS = [
    (SECRET, 1, "42", "SWGW-FMPY-C0SP-FKG7"),
    (SECRET, 10_000_000, "auth0|a:b.c@d+e-f_g", "RVKK-M5BC-AEWT-W9RC"),
    (b"x", 37, "x" * 128, "D8RV-DS1Y-H07R-PE8H"),
]
TICKETS = st.tuples(st.uuids(), st.integers(1, 10_000_000), st.text("abz019._:@|+- ", min_size=1, max_size=20))
SEPARATORS = ["", "-", " ", "--", " - ", "\t", "\u2010", "\u2013", "\u2014", "\u2212", "\uff0d", "\xa0", "\u2009"]
UNSEEN = ["\u200b", "\u2060", "\ufeff", "\xad", "\u200e"]
"""Zero-width characters, which come along when a text is copied."""


def some_codes(number: int) -> list[str]:
    return [derive_code(SECRET, campaign_id=CAMPAIGN, sequence=each, user_id="42") for each in range(1, number + 1)]


@pytest.mark.parametrize(("secret", "sequence", "user_id", "code"), VECTORS)
def test_the_derivation_never_changes(secret: bytes, sequence: int, user_id: str, code: str) -> None:
    """Else a restore gives users other codes than those that they have. The second half derives it in its own words."""
    assert derive_code(secret, campaign_id=CAMPAIGN, sequence=sequence, user_id=user_id) == code

    text = f"coupon code 0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10 {sequence} {user_id}"
    digest = hmac.new(secret, text.encode(), hashlib.sha256).digest()
    symbols = [byte % 32 for byte in digest[:15]]
    assert code.replace("-", "")[:15] == "".join(ALPHABET[symbol] for symbol in symbols)


def test_each_ticket_has_a_code_of_its_own() -> None:
    other = UUID(int=CAMPAIGN.int + 1)
    tickets = [(CAMPAIGN, 1, "42"), (other, 1, "42"), (CAMPAIGN, 2, "42"), (CAMPAIGN, 1, "43"), (CAMPAIGN, 1, "2 42")]
    derived = {derive_code(SECRET, campaign_id=c, sequence=s, user_id=u) for c, s, u in tickets}
    derived.add(derive_code(b"another", campaign_id=CAMPAIGN, sequence=1, user_id="42"))

    assert len(derived) == len(tickets) + 1
    assert len(set(some_codes(20_000))) == 20_000


@given(one=TICKETS, another=TICKETS)
@example(one=(CAMPAIGN, 1, "1 1"), another=(CAMPAIGN, 11, "1"))
def test_two_tickets_never_share_a_text(one: Any, another: Any) -> None:
    """What is signed says which ticket it is: no two can be read from one text."""
    assume(one != another)

    assert signed_text(*one) != signed_text(*another)


class RecordedMac:
    """Stands in for the HMAC, and keeps what it is of."""

    seen = b""

    def __init__(self, secret: bytes, text: bytes, _: str) -> None:
        self.text = text

    def copy(self) -> "RecordedMac":
        return RecordedMac(b"", self.text, "")

    def update(self, text: bytes) -> None:
        self.text += text

    def digest(self) -> bytes:
        RecordedMac.seen = self.text
        return bytes(32)


def signed_text(campaign_id: UUID, sequence: int, user_id: str) -> bytes:
    with patch("coupons.redemption.codes.hmac.new", RecordedMac):
        derive_code(SECRET, campaign_id=campaign_id, sequence=sequence, user_id=user_id)
    return RecordedMac.seen


def test_every_wrong_symbol_is_found() -> None:
    for code in some_codes(10):
        plain = code.replace("-", "")
        for place in range(SYMBOLS):
            for symbol in set(ALPHABET) - {plain[place]}:
                with pytest.raises(InvalidCode):
                    read_code(plain[:place] + symbol + plain[place + 1 :])


def test_every_swap_of_two_symbols_is_found() -> None:
    """Of any two places, not of neighbours alone."""
    swaps = 0
    for code in some_codes(20):
        plain = code.replace("-", "")
        for one, other in combinations(range(SYMBOLS), 2):
            if plain[one] != plain[other]:
                swapped = list(plain)
                swapped[one], swapped[other] = swapped[other], swapped[one]
                swaps += 1
                with pytest.raises(InvalidCode):
                    read_code("".join(swapped))
    assert swaps > 2_000


def test_a_missing_or_an_additional_symbol_is_found() -> None:
    for code in some_codes(20):
        plain = code.replace("-", "")
        for wrong in (plain[:-1], plain[1:], f"{plain}0", f"0{plain}", plain[:8], ""):
            with pytest.raises(InvalidCode, match="16 letters and digits"):
                read_code(wrong)


@given(sequence=st.integers(1, 10_000_000), data=st.data())
def test_a_code_is_read_however_it_is_typed(sequence: int, data: st.DataObject) -> None:
    code = derive_code(SECRET, campaign_id=CAMPAIGN, sequence=sequence, user_id="42")

    assert read_code(typed(code, data)) == code


@given(letters=st.text(FORMER_ALPHABET, min_size=FORMER_LENGTH, max_size=FORMER_LENGTH), data=st.data())
def test_a_former_code_is_read_however_it_is_typed(letters: str, data: st.DataObject) -> None:
    """Its O, I and L are letters."""
    assert read_code(typed(letters, data, misreads=False)) == letters


def typed(code: str, data: st.DataObject, *, misreads: bool = True) -> str:
    """In any case and width, with anything between the symbols that people or their programs put there."""
    text = data.draw(st.sampled_from(UNSEEN))
    for symbol in code.replace("-", ""):
        shapes = [symbol, symbol.lower(), chr(ord(symbol) + 0xFEE0)]  # the last is as wide as a Chinese character
        if misreads:
            shapes += {"0": ["O", "o"], "1": ["I", "i", "L", "l"]}.get(symbol, [])
        text += data.draw(st.sampled_from(shapes))
        if len(text) < MAX_TYPED - 50:
            text += data.draw(st.sampled_from(SEPARATORS))
    return text


@pytest.mark.parametrize("letter", ["U", "u", "\uff35", "*", "~", "$", "=", "é", "Ω", "٣"])
def test_letters_that_no_code_has_are_refused(letter: str) -> None:
    with pytest.raises(InvalidCode, match="letters of A to Z but U"):
        read_code(f"SWGW-FMPY-C0SP-FKG{letter}")


@given(st.text(max_size=MAX_TYPED + 10) | st.text(ALPHABET + "OILU-", min_size=15, max_size=20))
@example("\ud800" * SYMBOLS)
@example("\0" * SYMBOLS)
@example("\ufdfa" * MAX_TYPED)  # each is 18 letters in its composed form
def test_any_text_is_a_code_or_is_refused(text: str) -> None:
    try:
        code = read_code(text)
    except InvalidCode as error:
        said = str(error)
    else:
        said = ""
        assert read_code(code) == code, "what it returns is a code in its only form"
    assert len(text) < 4 or text not in said, "the error repeats no part of it"


def test_former_codes_are_all_different() -> None:
    made = {former_code() for _ in range(1_000)}

    assert len(made) == 1_000
    assert all(read_code(code) == code for code in made)
