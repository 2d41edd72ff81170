"""Any bytes may lie in the topic: none of them is a crash, and none costs a neighbour. `make fuzz` asks for longer."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.coupon_create import decode_batch
from consumers.registry import Received
from coupons.messaging.kafka import Headers
from coupons.messaging.messages import InvalidMessage, Ticket, decode, is_user_id
from coupons.messaging.signing import HEADER, open_message, sign
from tests.support.fuzzing import GOOD, payloads, thorough
from tests.support.tickets import TICKET

pytestmark = pytest.mark.timeout(7_200)


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


@pytest.mark.attack(
    "fuzzed messages",
    "{messages} messages, signed and in batches: any bytes, and good ones with changed bytes or members",
    "each a ticket or a failed event, never a crash; the good one among them is a ticket",
)
def test_no_message_costs_its_neighbour(record_property: Callable[[str, object], None]) -> None:
    decoded = 0

    @thorough
    @given(bad=st.lists(payloads, max_size=10), place=st.integers(0, 10))
    def no_message_costs_its_neighbour(bad: list[bytes], place: int) -> None:
        nonlocal decoded
        batch = [*bad[:place], GOOD, *bad[place:]]
        received = [Received("t", 0, offset, payload, sign(payload)) for offset, payload in enumerate(batch)]

        tickets, failures = decode_batch(received)

        decoded += len(batch)
        assert len(tickets) + len(failures) == len(batch)
        assert (TICKET.campaign_id, TICKET.user_id, TICKET.sequence) in [ticket[:3] for ticket in tickets]
        for campaign_id, user_id, sequence, message, _ in tickets:
            ticket = decode(message.payload)
            assert (ticket.campaign_id, ticket.user_id, ticket.sequence) == (campaign_id, user_id, sequence)

    no_message_costs_its_neighbour()
    record_property("messages", decoded)
