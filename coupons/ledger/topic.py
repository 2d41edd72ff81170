"""Reads the topic into the books, and checks the messages that no campaign's ledger can: those that name none."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from django.conf import settings

from coupons.ledger.books import Books, MessageRow
from coupons.ledger.differences import EXAMPLES
from coupons.ledger.late import came_late
from coupons.messaging.log import read_log
from coupons.messaging.messages import InvalidMessage
from coupons.messaging.signing import open_message
from coupons.messaging.topics import PartitionLag
from coupons.models import Campaign, FailEventHistory
from coupons.positions import Position

CHUNK = 1_000


@dataclass(slots=True)
class TopicLedger:
    """Of what the topic still has, in messages. `unrecorded`: read by the group, no ticket of a known campaign, and no
    failed event tells of it. `examples` are positions, partition@offset."""

    messages: int = 0
    unread: int = 0
    unrecorded: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def closes(self) -> bool:
        return self.unrecorded == 0

    def document(self) -> dict[str, Any]:
        return {
            "messages": self.messages,
            "unread": self.unread,
            "unrecorded": {"count": self.unrecorded, "examples": self.examples, "meaning": MEANING},
            "closes": self.closes,
        }


MEANING = (
    "messages that the group has read, that name no ticket of a known campaign, and of which no failed event tells: "
    "rows were deleted, or the group's offsets were moved by hand"
)


def read_topic(
    lags: Mapping[int, PartitionLag], campaigns: Sequence[Campaign], books: Books, *, check_others: bool
) -> TopicLedger:
    """The messages of these campaigns into the books; with `check_others` these are all that there are.

    Raises LogUnavailable.
    """
    ledger = TopicLedger()
    others: list[Position] = []

    def messages() -> Iterator[MessageRow]:
        log_ends = {campaign.pk: campaign.log_ends for campaign in campaigns}
        for message in read_log({partition: (lag.start, lag.end) for partition, lag in lags.items()}):
            partition, offset = message.position
            unread = offset >= lags[partition].next_offset
            ledger.messages += 1
            ledger.unread += unread
            try:
                ticket = open_message(message.payload, message.headers)
            except InvalidMessage:
                ticket = None
            if ticket is not None and ticket.campaign_id in log_ends:
                late = came_late(ticket, message.position, log_ends[ticket.campaign_id])
                yield MessageRow(str(ticket.campaign_id), ticket.user_id, ticket.sequence, unread, late)
            elif check_others and not unread:
                others.append(message.position)
                if len(others) == CHUNK:
                    _check_recorded(others, ledger)
                    others.clear()

    books.write_messages(messages())
    _check_recorded(others, ledger)
    return ledger


def _check_recorded(positions: Collection[Position], ledger: TopicLedger) -> None:
    for partition, group in groupby(sorted(positions), key=lambda position: position.partition):
        offsets = [position.offset for position in group]
        recorded = set(
            FailEventHistory.objects.filter(topic=settings.TOPIC, partition=partition, offset__in=offsets).values_list(
                "offset", flat=True
            )
        )
        missing = [offset for offset in offsets if offset not in recorded]
        ledger.unrecorded += len(missing)
        room = EXAMPLES - len(ledger.examples)
        ledger.examples += [f"{partition}@{offset}" for offset in missing[:room]]
