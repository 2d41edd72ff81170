"""Reads the topic and Redis into temporary tables (temporary_tables.py), and checks messages without a campaign."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import attrgetter
from uuid import UUID

from django.conf import settings

from coupons.admission.ticket_store import scan_pending, scan_tickets
from coupons.messaging.log import read_log
from coupons.messaging.positions import Position
from coupons.messaging.signing import read_ticket
from coupons.messaging.topics import PartitionLag
from coupons.models import Campaign, FailEventHistory
from coupons.reconciliation.differences import Kind
from coupons.reconciliation.ledger import Difference, TopicLedger
from coupons.reconciliation.temporary_tables import INSERT_MESSAGES, INSERT_PENDING, INSERT_TICKETS, TemporaryTables
from coupons.recovery.late import came_late
from coupons.recovery.unknown_keys import Unverified, unaccounted

MESSAGES_AT_ONCE = 1_000


def read_redis(campaign_id: UUID, tables: TemporaryTables) -> None:
    """Replaces the former campaign's tickets, and after them its pending users, by this one's. Raises GateUnavailable.

    SCAN blocks Redis for at most a thousand tickets at a time, and may return a ticket twice.
    """
    tables.run("TRUNCATE ticket, pending")
    tables.insert(INSERT_TICKETS, scan_tickets(campaign_id))
    tables.insert(INSERT_PENDING, scan_pending(campaign_id))


class TopicReader:
    """Reads the topic once for all of these campaigns.

    `unknown_keys` are their messages that may be promises but are signed with a key that is not known here. With
    `check_others`, which needs all campaigns, every other message that was read must have left a failed event, except
    those of unloaded campaigns.
    """

    def __init__(
        self,
        lags: Mapping[int, PartitionLag],
        campaigns: Sequence[Campaign],
        *,
        check_others: bool,
        unloaded: Collection[UUID] = (),
    ) -> None:
        self.ledger = TopicLedger()
        self.unknown_keys = {campaign.pk: Difference(Kind.UNKNOWN_KEY) for campaign in campaigns}
        self._stretches = {partition: (lag.start, lag.end) for partition, lag in lags.items()}
        self._next_offsets = {partition: lag.next_offset for partition, lag in lags.items()}
        self._campaigns = {campaign.pk: (str(campaign.pk), campaign.log_ends) for campaign in campaigns}
        self._check_others = check_others
        self._unloaded = unloaded

    def read(self, tables: TemporaryTables) -> None:
        """Raises LogUnavailable and database errors."""
        tables.insert(INSERT_MESSAGES, self._rows())
        # Comparing one campaign of many must not read the others' messages.
        tables.run("CREATE INDEX ON message (campaign_id)")
        tables.run("ANALYZE message")

    def _rows(self) -> Iterator[tuple[str, str, int, str]]:
        messages = read_log(self._stretches)
        while batch := list(islice(messages, MESSAGES_AT_ONCE)):
            unknown: list[Unverified] = []
            others: list[Position] = []
            for message in batch:
                unread = message.position.offset >= self._next_offsets[message.position.partition]
                self.ledger.messages += 1
                self.ledger.unread += unread
                ticket, key_id = read_ticket(message.payload, message.headers)
                if ticket is not None and ticket.campaign_id in self._unloaded:
                    continue  # whatever was promised was settled before
                if ticket is None or ticket.campaign_id not in self._campaigns:
                    if self._check_others and not unread:
                        others.append(message.position)
                elif key_id is None:
                    campaign_id, log_ends = self._campaigns[ticket.campaign_id]
                    state = "unread" if unread else "read"
                    if unread and came_late(ticket.epoch, message.position, log_ends):
                        state = "late"
                    yield ticket.user_id, campaign_id, ticket.sequence, state
                elif unread:
                    self._note_unknown_key(Unverified(key_id, ticket, message.position))
                else:
                    unknown.append(Unverified(key_id, ticket, message.position))
            self._check_written(unknown)
            self._check_recorded(others)

    def _note_unknown_key(self, message: Unverified) -> None:
        self.unknown_keys[message.ticket.campaign_id].add(str(message))

    def _check_written(self, messages: Iterable[Unverified]) -> None:
        """Notes the messages that were read and whose user has no coupon or failed event: perhaps promises."""
        by_campaign = attrgetter("ticket.campaign_id")
        for campaign_id, group in groupby(sorted(messages, key=by_campaign), key=by_campaign):
            for message in unaccounted(campaign_id, list(group)):
                self._note_unknown_key(message)

    def _check_recorded(self, positions: Collection[Position]) -> None:
        for partition, group in groupby(sorted(positions), key=attrgetter("partition")):
            offsets = [position.offset for position in group]
            events = FailEventHistory.objects.filter(topic=settings.TOPIC, partition=partition, offset__in=offsets)
            for offset in sorted({*offsets} - {*events.values_list("offset", flat=True)}):
                self.ledger.unrecorded.add(f"{partition}@{offset}")
