"""Tickets for tests: admitted, published, received, written, without a web process and without a worker."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from msgspec.structs import replace

from consumers.coupon_create import save_coupons
from consumers.registry import Handled, Received
from coupons.admission import ticket_store
from coupons.admission.gate import Held
from coupons.issuing.issue import IssueResult, issue_coupons
from coupons.messaging import topics
from coupons.messaging.messages import Ticket
from coupons.messaging.positions import Position
from coupons.messaging.producer import publisher
from coupons.messaging.signing import sign
from coupons.models import Campaign, Coupon, PartitionOffset
from coupons.recovery.rebuild import RebuildReport, rebuild_campaigns
from tests.support.gate import admit_user
from tests.support.service import message

# An example, of a campaign that is nowhere.
TICKET = Ticket(
    UUID("0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10"),
    "auth0|42",
    37,
    datetime(2026, 12, 1, 10, 0, 0, 123_000, tzinfo=UTC),
    "abc",
)


def admit(campaign: Campaign, *users: str) -> list[int]:
    """Their sequences."""
    sequences = []
    for user_id in users:
        ticket = admit_user(campaign_id=campaign.pk, epoch=campaign.epoch, user_id=user_id).ticket
        assert ticket is not None
        sequences.append(ticket.sequence)
    return sequences


def ticket(campaign: Campaign | UUID, user_id: str, sequence: int) -> Ticket:
    campaign_id = campaign if isinstance(campaign, UUID) else campaign.pk
    return Ticket(campaign_id, user_id, sequence, timezone.now(), "test")


def held(campaign: Campaign, *users: str) -> dict[str, Held]:
    campaign.refresh_from_db()
    return ticket_store.held_tickets(campaign_id=campaign.pk, epoch=campaign.epoch, user_ids=users)


def pending_users(campaign: Campaign) -> list[str]:
    """In the order of their scores."""
    campaign.refresh_from_db()
    found = ticket_store.pending_between(
        campaign_id=campaign.pk, epoch=campaign.epoch, min_score=0, max_score=2**53, limit=1_000
    )
    return [ticket.user_id for ticket in found]


def issue(*tickets: Ticket) -> IssueResult[Ticket]:
    """Committed, and not settled: as a consumer that was killed after its commit."""
    with transaction.atomic():
        return issue_coupons(list(tickets))


def received(campaign: Campaign | UUID | str, user_id: str, sequence: int, *, offset: int = 0, **more: Any) -> Received:
    campaign_id = campaign.pk if isinstance(campaign, Campaign) else campaign
    payload = message(campaign_id, user_id, sequence, **more)
    return Received(settings.TOPIC, 0, offset, payload, sign(payload))


def consume(*messages: Received) -> Handled:
    """As the worker does with a batch that follows on what was read before. Its offsets are made up, so the record of
    what was read stays as it was."""
    before = list(PartitionOffset.objects.values())
    for partition in {each.partition for each in messages}:
        first = min(each.offset for each in messages if each.partition == partition)
        were_read(Position(partition, first - 1))
    try:
        return save_coupons(messages)
    finally:
        PartitionOffset.objects.all().delete()
        PartitionOffset.objects.bulk_create(PartitionOffset(**row) for row in before)


def issued_users(campaign: Campaign) -> dict[str, int]:
    return dict(Coupon.objects.filter(campaign=campaign).values_list("user_id", "sequence"))


def publish(campaign: Campaign, user_id: str, sequence: int) -> Position:
    position = publisher().publish(ticket(campaign, user_id, sequence)).result(10)
    assert position is not None
    return position


def publish_late(campaign: Campaign, user_id: str, sequence: int, *, epoch: int) -> None:
    """A message that waited in a producer's queue, admitted in that epoch."""
    late = replace(ticket(campaign, user_id, sequence), epoch=epoch)
    assert publisher().publish(late).result(10) is not None


def publish_and_mark(campaign: Campaign, user_id: str, sequence: int) -> Position:
    position = publish(campaign, user_id, sequence)
    ticket_store.mark_published(
        campaign_id=campaign.pk, epoch=campaign.epoch, positions={(user_id, sequence): position}
    )
    return position


def were_read(*positions: Position) -> None:
    """The consumers have worked through these messages, and all before them."""
    for partition, offset in positions:
        PartitionOffset.objects.update_or_create(
            topic=settings.TOPIC, partition=partition, defaults={"next_offset": offset + 1}
        )


def messages_in_topic() -> int:
    return sum(lag.end - lag.start for lag in topics.partition_lags().values())


def rebuild(*campaigns: Campaign, whole_topic: bool = False) -> list[RebuildReport] | None:
    """Without the wait for open promises: a test has none."""
    ids = [campaign.pk for campaign in campaigns]
    return rebuild_campaigns(campaign_ids=ids, whole_topic=whole_topic, sleep=lambda seconds: None)


def insert_coupons(campaign: Campaign, rows: Sequence[tuple[str, int]]) -> None:
    """As somebody would who writes to the table without asking."""
    Coupon.objects.bulk_create(
        Coupon(campaign=campaign, user_id=user, sequence=sequence, code=f"{campaign.pk.hex[:8]}{user}"[:32])
        for user, sequence in rows
    )
