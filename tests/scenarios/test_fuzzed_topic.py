"""Fuzzed messages in a real topic, among good ones: the consumer reads on, and each is a coupon or a failed event."""

import os
from collections.abc import Callable
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coupons.api.accept import ticket_of
from coupons.messaging.messages import Ticket, encode
from coupons.models import Coupon, FailEventHistory
from tests.support.fuzzing import payloads, thorough
from tests.support.gate import admit_user
from tests.support.service import Service
from tests.support.waiting import wait_until

MESSAGES = int(os.environ.get("FUZZ_TOPIC_MESSAGES", "300"))
CHUNK = 50


def fuzzed(number: int) -> list[bytes]:
    """So many, as hypothesis makes them."""
    made: list[bytes] = []

    @settings(thorough, max_examples=MESSAGES // 10)
    @given(batch=st.lists(payloads, min_size=1, max_size=CHUNK))
    def collect(batch: list[bytes]) -> None:
        made.extend(batch)

    while len(made) < number:
        collect()
    return made[:number]


@pytest.mark.timeout(3_600)
@pytest.mark.attack(
    "fuzzed messages in the topic",
    "{messages} in a real topic, signed and unsigned, one good ticket after every {chunk} of them",
    "every ticket is a coupon, every other message a failed event; the consumer never died",
)
def test_the_consumer_reads_on_and_no_ticket_is_lost(
    service: Service, record_property: Callable[[str, object], None]
) -> None:
    consumer = service.consumer(COUPON_CONSUMER_POISON_LIMIT="1000000")
    bad = fuzzed(MESSAGES)
    chunks = [bad[start : start + CHUNK] for start in range(0, len(bad), CHUNK)]
    campaign = service.campaign(len(chunks))
    tickets = [admit(campaign.pk, f"good{number}") for number in range(len(chunks))]

    for number, (chunk, ticket) in enumerate(zip(chunks, tickets, strict=True)):
        service.produce(*chunk, key=f"k{number}", signed=number % 2 == 0)
        service.produce(encode(ticket), key=f"k{number}")

    wait_until(lambda: Coupon.objects.count() == len(tickets), within_sec=600, what="every ticket is a coupon")
    wait_until(lambda: FailEventHistory.objects.count() == len(bad), within_sec=600, what="every other is on record")
    assert consumer.exit_code is None
    assert "supervisor.died" not in consumer.output
    assert consumer.output.count("consumer.assigned") == 1, consumer.output
    record_property("messages", len(bad))
    record_property("chunk", CHUNK)


def admit(campaign_id: UUID, user_id: str) -> Ticket:
    held = admit_user(campaign_id=campaign_id, epoch=1, user_id=user_id).ticket
    assert held is not None
    return ticket_of(campaign_id, held, epoch=1, trace="")
