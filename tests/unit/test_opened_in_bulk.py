"""Opening messages in bulk says what `open_message` says, whatever the bytes."""

from datetime import UTC, datetime, timedelta
from random import Random
from uuid import uuid4

import pytest
from django.conf import LazySettings

from coupons.messaging import messages
from coupons.messaging.kafka import Headers
from coupons.messaging.messages import InvalidMessage, Place, Ticket, encode
from coupons.messaging.signing import HEADER, open_message, open_places, sign
from tests.support.tickets import TICKET

SHORT, LONG = b"a secret of thirty-two bytes or so!", b"a secret that is longer than a block of SHA-256, " * 3
PAYLOAD = encode(TICKET)


@pytest.fixture(autouse=True)
def keys(settings: LazySettings) -> None:
    settings.MESSAGE_KEYS = {"new": SHORT, "old": LONG}


def one_by_one(payload: bytes, headers: Headers) -> Place | None:
    try:
        ticket = open_message(payload, headers)
    except InvalidMessage:
        return None
    return Place(ticket.campaign_id, ticket.user_id, ticket.sequence, ticket.epoch)


def in_bulk(payload: bytes, headers: Headers) -> Place | None:
    [found] = open_places([(payload, headers)])
    return found if isinstance(found, Place) else None


def test_messages_of_every_key_are_opened(settings: LazySettings) -> None:
    settings.MESSAGE_KEYS = {"old": LONG}
    old = sign(PAYLOAD)
    settings.MESSAGE_KEYS = {"new": SHORT, "old": LONG}

    assert in_bulk(PAYLOAD, sign(PAYLOAD)) == in_bulk(PAYLOAD, old) == one_by_one(PAYLOAD, old) is not None


def test_what_we_encode_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def the_long_way(payload: bytes) -> Ticket:
        raise AssertionError(payload)

    expected = one_by_one(PAYLOAD, sign(PAYLOAD))
    monkeypatch.setattr(messages, "decode", the_long_way)

    assert in_bulk(PAYLOAD, sign(PAYLOAD)) == expected


def test_every_changed_bit_of_payload_or_signature_is_noticed() -> None:
    headers = sign(PAYLOAD)
    signature = headers[0][1]
    assert isinstance(signature, bytes)
    for place in range(len(PAYLOAD)):
        assert in_bulk(changed(PAYLOAD, place), headers) is None
    for place in range(len(signature)):
        assert in_bulk(PAYLOAD, [(HEADER, changed(signature, place))]) is None


def changed(text: bytes, place: int) -> bytes:
    return text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]


@pytest.mark.parametrize("headers", [(), [(HEADER, None)], [(HEADER, "text")], [(HEADER, b"")], [("other", b"x")]])
def test_headers_that_are_no_signature_are_refused(headers: Headers) -> None:
    assert in_bulk(PAYLOAD, headers) is None is one_by_one(PAYLOAD, headers)


def test_a_signature_that_is_there_twice_is_refused() -> None:
    twice = [*sign(PAYLOAD), *sign(PAYLOAD)]

    assert in_bulk(PAYLOAD, twice) is None is one_by_one(PAYLOAD, twice)


def test_bulk_opening_judges_payloads_as_one_by_one() -> None:
    """Bytes are exchanged, taken out and put in at random, and signed afterwards: some are good, most are not."""
    chance = Random(2026)
    taken = 0
    for _ in range(20_000):
        payload = some_payload(chance)
        headers = sign(payload)
        expected = one_by_one(payload, headers)
        taken += expected is not None
        assert in_bulk(payload, headers) == expected, payload
    assert 2_000 < taken < 18_000


def some_payload(chance: Random) -> bytes:
    moment = datetime(1, 1, 1, tzinfo=UTC) + timedelta(seconds=chance.randrange(9_000 * 365 * 86_400))
    user = "".join(chance.choices("aZ09._:@|+-", k=chance.choice((1, 8, 128))))
    trace = chance.choice(("", "relay", "a/b c", 'quo"te', "é", "x" * 300))
    epoch = chance.choice((None, 1, 0, 10**14, 10**20))
    payload = encode(Ticket(uuid4(), user, chance.choice((1, 10**15 - 1, 2**53 - 1)), moment, trace, epoch))
    for _ in range(chance.choice((0, 1, 1, 2))):
        place = chance.randrange(len(payload))
        added = bytes(chance.choices(b'"\\{}:,.-+ 0129aTZ\n\x00\xe9', k=chance.choice((0, 1, 1, 2))))
        payload = payload[:place] + added + payload[place + chance.choice((0, 1)) :]
    return payload
