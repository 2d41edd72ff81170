"""Reads the topic into sheets, and checks the messages that no campaign's ledger can: those that name none."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from uuid import UUID

from confluent_kafka import Message
from django.conf import settings

from coupons.messaging.kafka import headers_of
from coupons.messaging.log import read_batches
from coupons.messaging.messages import InvalidMessage, Ticket
from coupons.messaging.positions import Position
from coupons.messaging.signing import UnknownKey, open_message
from coupons.messaging.topics import PartitionLag
from coupons.models import Campaign, FailEventHistory
from coupons.reconciliation.differences import EXAMPLES
from coupons.reconciliation.sheets import Sheet
from coupons.reconciliation.sieve import Messages
from coupons.recovery.late import came_late
from coupons.recovery.unknown_keys import Unverified, unaccounted

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
    "messages that were read, that name no ticket of a known campaign, and of which no failed event tells: rows were "
    "deleted"
)


def read_topic(
    lags: Mapping[int, PartitionLag],
    campaigns: Sequence[Campaign],
    messages_of: Mapping[UUID, Messages],
    *,
    check_others: bool,
) -> TopicLedger:
    """The messages of these campaigns, each into its own; with `check_others` these are all that there are.

    Raises LogUnavailable.
    """
    ledger = TopicLedger()
    others: list[Position] = []
    known = {campaign.pk: (messages_of[campaign.pk], campaign.log_ends) for campaign in campaigns}
    committed = {partition: lag.next_offset for partition, lag in lags.items()}
    for batch in read_batches({partition: (lag.start, lag.end) for partition, lag in lags.items()}):
        rows: defaultdict[Sheet, list[tuple[str, int]]] = defaultdict(list)
        unverified: defaultdict[UUID, list[tuple[Unverified, bool]]] = defaultdict(list)
        ledger.messages += len(batch)
        for message in batch:
            position = Position(message.partition() or 0, message.offset() or 0)
            unread = position.offset >= committed[position.partition]
            ledger.unread += unread
            opened = _open(message)
            if isinstance(opened, Unverified) and opened.ticket.campaign_id in known:
                unverified[opened.ticket.campaign_id].append((opened, unread))
            elif isinstance(opened, Ticket) and (mine := known.get(opened.campaign_id)) is not None:
                messages, log_ends = mine
                sheet = messages.unread if unread else messages.read
                if unread and log_ends and came_late(opened.epoch, position, log_ends):
                    sheet = messages.late
                rows[sheet].append((opened.user_id, opened.sequence))
            elif check_others and not unread:
                others.append(position)
        for sheet, found in rows.items():
            sheet.add(found)
        for campaign_id, said in unverified.items():
            _note_unverified(campaign_id, said, messages_of[campaign_id])
        if len(others) >= CHUNK:
            _check_recorded(others, ledger)
            others.clear()
    _check_recorded(others, ledger)
    return ledger


def _open(message: Message) -> Ticket | Unverified | None:
    try:
        return open_message(message.value() or b"", headers_of(message))
    except UnknownKey as error:
        position = Position(message.partition() or 0, message.offset() or 0)
        return None if error.ticket is None else Unverified(error.key_id, error.ticket, position)
    except InvalidMessage:
        return None


def _note_unverified(campaign_id: UUID, said: Sequence[tuple[Unverified, bool]], messages: Messages) -> None:
    """What may be a promise: every unread message, and of those that were read whose user has nothing."""
    doubtful = [says for says, unread in said if unread]
    doubtful += unaccounted(campaign_id, [says for says, unread in said if not unread])
    for each in doubtful:
        messages.unverified.add(str(each))


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
