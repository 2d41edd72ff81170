"""Reads the topic into sheets, and checks the messages that no campaign's ledger can: those that name none."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from uuid import UUID

from django.conf import settings

from coupons.messaging.kafka import headers_of
from coupons.messaging.log import read_batches
from coupons.messaging.messages import Place
from coupons.messaging.positions import Position
from coupons.messaging.signing import UnknownKey, open_places
from coupons.messaging.topics import PartitionLag
from coupons.models import Campaign, FailEventHistory
from coupons.reconciliation.differences import EXAMPLES
from coupons.reconciliation.sheets import Sheet
from coupons.reconciliation.sieve import Messages
from coupons.recovery.late import came_late
from coupons.recovery.unverified import Unverified, unaccounted

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
        places = open_places((message.value() or b"", headers_of(message)) for message in batch)
        for message, place in zip(batch, places, strict=True):
            partition, offset = message.partition() or 0, message.offset() or 0
            unread = offset >= committed[partition]
            ledger.unread += unread
            if isinstance(place, Place) and (mine := known.get(place.campaign_id)) is not None:
                messages, log_ends = mine
                _, user_id, sequence, epoch = place
                sheet = messages.unread if unread else messages.read
                if unread and log_ends and came_late(epoch, Position(partition, offset), log_ends):
                    sheet = messages.late
                rows[sheet].append((user_id, sequence))
            elif isinstance(place, UnknownKey) and place.place is not None and place.place.campaign_id in known:
                says = Unverified(place.key_id, place.place, Position(partition, offset))
                unverified[place.place.campaign_id].append((says, unread))
            elif check_others and not unread:
                others.append(Position(partition, offset))
        for sheet, found in rows.items():
            sheet.add(found)
        for campaign_id, said in unverified.items():
            _note_unverified(campaign_id, said, messages_of[campaign_id])
        if len(others) >= CHUNK:
            _check_recorded(others, ledger)
            others.clear()
    _check_recorded(others, ledger)
    return ledger


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
