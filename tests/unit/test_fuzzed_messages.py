"""Any bytes may lie in the topic: none of them is a crash, and none costs a neighbour. `make fuzz` asks for longer."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers.coupon_create import _open_all
from consumers.registry import Received
from coupons.messaging.kafka import Headers
from coupons.messaging.messages import InvalidMessage, Ticket, encode, is_user_id
from coupons.messaging.signing import HEADER, open_message, sign
from tests.unit.test_messages import TICKET

pytestmark = pytest.mark.timeout(7_200)
GOOD = encode(TICKET)
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
# these machines are shared: how fast examples are made says nothing
thorough = settings(max_examples=EXAMPLES, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
names = st.sampled_from(["v", "campaign_id", "user_id", "sequence", "admitted_at", "trace", "epoch", "more"])


@st.composite
def changed_fields(draw: st.DrawFn) -> bytes:
    """A good message in which some members have any value, or are gone."""
    fields = json.loads(GOOD) | draw(st.dictionaries(names, values, max_size=4))
    for name in draw(st.sets(names, max_size=2)):
        fields.pop(name, None)
    return json.dumps(fields).encode()


@st.composite
def changed_bytes(draw: st.DrawFn) -> bytes:
    start, end = draw(st.integers(0, len(GOOD))), draw(st.integers(0, len(GOOD)))
    return GOOD[:start] + draw(st.binary(max_size=20)) + GOOD[end:]


payloads = st.binary(max_size=300) | st.text(max_size=100).map(str.encode) | changed_fields() | changed_bytes()


def opened(payload: bytes, headers: Headers) -> Ticket | None:
    """None for an invalid message; anything else that is raised fails the test."""
    try:
        return open_message(payload, headers)
    except InvalidMessage:
        return None


@thorough
@given(payload=payloads)
def test_any_bytes_are_a_good_ticket_or_an_invalid_message(payload: bytes) -> None:
    ticket = opened(payload, sign(payload))

    assert ticket is None or (is_user_id(ticket.user_id) and 1 <= ticket.sequence < 2**53)


@thorough
@given(payload=payloads, header=st.none() | st.text(max_size=90) | st.binary(max_size=90))
def test_no_header_but_ours_opens_a_message(payload: bytes, header: str | bytes | None) -> None:
    headers: Headers = [(HEADER, header)]

    assert opened(payload, headers) is None or headers == sign(payload)


@thorough
@given(bad=st.lists(payloads, max_size=10), place=st.integers(0, 10))
def test_no_message_costs_its_neighbour(bad: list[bytes], place: int) -> None:
    payloads = [*bad[:place], GOOD, *bad[place:]]
    batch = [Received("t", 0, offset, payload, sign(payload)) for offset, payload in enumerate(payloads)]

    tickets, failures = _open_all(batch)

    assert len(tickets) + len(failures) == len(batch)
    assert TICKET in [received.ticket for received in tickets]
