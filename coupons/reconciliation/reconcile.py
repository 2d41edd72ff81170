"""The ledger: tickets (Redis), messages (topic), coupons and failed events (PostgreSQL), user by user, and each
difference named. Bounded memory at ten million: what is read lies on disk (sheets.py), with whom all is plainly well is
put aside (sieve.py), and the others are looked at one by one (books.py, questions.py).

Nothing stands still while it looks, and a healthy service under load gives no alarm. That rests on the order of
reading: first what was read (messaging/read_offsets.py) and what the topic holds, then the tickets, then who is
pending, then failed events, then coupons. A message was a ticket before, it counts as read from the commit of its row
on, a ticket leaves pending after that, and a retry makes a coupon of a failed event: so each thing that is read has its
reason in what is read later. What may have come since is asked for once more, user by user, before it is called a
difference.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from itertools import islice
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID

from django.conf import settings
from django.db.models import Count, Q
from django.db.models.functions import Now

from coupons.admission import campaign_store
from coupons.admission.campaign_store import Description
from coupons.admission.gate import Held
from coupons.admission.scan import scan_pending, scan_ticket_batches
from coupons.campaigns.push import settings_of
from coupons.issuing.ticket_rows import issued_ticket_batches
from coupons.messaging.positions import PARTITION_STEP
from coupons.messaging.topics import PartitionLag, partition_lags
from coupons.models import Campaign
from coupons.reconciliation import questions
from coupons.reconciliation.books import Books
from coupons.reconciliation.differences import Kind, Ledger
from coupons.reconciliation.present import Present, Suspect, look_at
from coupons.issuing.ticket_rows import event_rows
from coupons.reconciliation.sheets import Binder, parts_for
from coupons.reconciliation.sieve import Messages, Plain, Sources, sift
from coupons.reconciliation.topic import TopicLedger, read_topic

CHUNK = 1_000
Item = TypeVar("Item")


def reconcile(*, campaign_ids: Iterable[UUID] | None = None) -> Iterator[Ledger]:
    """The ledgers of all loaded campaigns, or of these. Raises RetryLater (a part is down, or a state is not current)
    and database errors: then nobody could look, which is no verdict."""
    with Reconciliation(campaign_ids=campaign_ids) as looking:
        for campaign in looking.campaigns:
            yield looking.ledger_of(campaign)


def reconcile_campaign(campaign: Campaign) -> Ledger:
    """The ledger of one campaign; one that was never opened holds nothing, and closes. Raises as `reconcile` does."""
    with Reconciliation(campaign_ids=[campaign.pk]) as looking:
        for loaded in looking.campaigns:
            return looking.ledger_of(loaded)
    return Ledger(campaign.pk, campaign.name, campaign.quantity)


class Reconciliation:
    """A context in which the topic is read once for all campaigns. Raises as `reconcile` does."""

    def __init__(self, *, campaign_ids: Iterable[UUID] | None = None) -> None:
        self._lags = partition_lags()
        # After the offsets: whoever wrote what was read had a campaign by then.
        campaigns = Campaign.objects.filter(epoch__gt=0).order_by("created_at")
        if campaign_ids is not None:
            campaigns = campaigns.filter(pk__in=list(campaign_ids))
        self.campaigns: Sequence[Campaign] = list(campaigns)
        self._books = Books()
        self._binder = Binder()
        self._messages = {
            campaign.pk: Messages(self._binder, parts_for(max(campaign.quantity, campaign.issued_count)))
            for campaign in self.campaigns
        }
        try:
            self.topic: TopicLedger = read_topic(
                self._lags, self.campaigns, self._messages, check_others=campaign_ids is None
            )
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._books.close()
        self._binder.close()

    def ledger_of(self, campaign: Campaign) -> Ledger:
        """Raises StateStale also when a rebuild came while it looked: look again."""
        ledger = Ledger(campaign.pk, campaign.name, campaign.quantity)
        # raises unless the state is current
        before = campaign_store.describe(campaign_id=campaign.pk, epoch=campaign.epoch)
        plain = self._read(campaign.pk)
        if (unverified := self._messages[campaign.pk].unverified).count:
            ledger.differences[unverified.kind] = unverified
        _Comparison(campaign, ledger, self._books, plain, before).run()
        after = campaign_store.describe(campaign_id=campaign.pk, epoch=campaign.epoch)
        _check_counts(campaign, ledger, self._books, after)
        return ledger

    def _read(self, campaign_id: UUID) -> Plain:
        """In the order that the module's docstring demands; the books are filled and sorted then."""
        self._books.clear()
        with closing(Binder()) as binder:
            sources = Sources(binder, self._messages[campaign_id])
            for tickets in scan_ticket_batches(campaign_id):
                sources.tickets.add(tickets)
            for pending in in_chunks(scan_pending(campaign_id)):
                sources.pending.add(pending)
            for events in in_chunks(event_rows(campaign_id)):
                sources.events.add(events)
            for coupons in issued_ticket_batches(campaign_id):
                sources.coupons.add(coupons)
            return sift(sources, self._books)


class _Comparison:
    """One campaign's books, question by question."""

    def __init__(self, campaign: Campaign, ledger: Ledger, books: Books, plain: Plain, before: Description) -> None:
        self._campaign = campaign
        self._ledger = ledger
        self._books = books
        self._plain = plain
        self._latest_ms = before.now_ms - settings.RELAY_AFTER_MS
        self._values: dict[str, str | float] = {
            "latest": self._latest_ms,
            "positions": PARTITION_STEP,
            "next_sequence": before.next_sequence,
        }

    def run(self) -> None:
        ledger, plain = self._ledger, self._plain
        tickets, issued, ledger.failed, pending = (number or 0 for number in self._books.numbers(questions.NUMBERS))
        ledger.tickets = plain.issued + plain.pending + tickets
        ledger.issued, ledger.pending = plain.issued + issued, plain.pending + pending
        ledger.unread = plain.unread + (self._books.numbers(questions.UNREAD)[0] or 0)
        ledger.first_sequence, ledger.last_sequence = self._books.numbers(questions.SPAN)
        self._check_tickets()
        self._check_rows()
        self._check_twins()
        self._check_holes()

    def _check_tickets(self) -> None:
        """Tickets that no row tells of."""
        before: Mapping[int, PartitionLag] = {}
        after: Mapping[int, PartitionLag] = {}

        def look_at_topic() -> None:
            nonlocal before, after
            before, after = before or partition_lags(), {}

        def is_on_its_way(held: Held) -> bool:
            """Published since the topic was read. A message may be published, and one may be read and written, while we
            ask: so it was unread before we looked at tickets and rows, and it lies below the end afterwards."""
            nonlocal after
            if held.position is None:
                return (held.score or 0.0) >= self._latest_ms
            after = after or partition_lags()
            unread, written = before.get(held.position.partition), after.get(held.position.partition)
            if unread is None or written is None:
                return False
            return unread.next_offset <= held.position.offset < written.end

        def is_stuck(suspect: Suspect, now: Present) -> bool:
            held = now.held.get(suspect[0])
            return held is not None and held.pending and not now.is_written(suspect) and not is_on_its_way(held)

        def is_lost(suspect: Suspect, now: Present) -> bool:
            held = now.held.get(suspect[0])
            lost = (held is None or not held.pending) and not now.is_written(suspect)
            if not lost:
                self._ledger.pending += 1
            return lost

        def is_settled_late(suspect: Suspect, now: Present) -> bool:
            held = now.held.get(suspect[0])
            return held is not None and held.pending and suspect[0] in now.written_long_ago

        self._look_again(Kind.LOST, questions.LOST, is_lost)
        self._look_again(Kind.UNWRITTEN, questions.PENDING_AND_READ, is_stuck, first=look_at_topic)
        self._look_again(Kind.UNPUBLISHED, questions.PENDING_WITHOUT_MESSAGE, is_stuck, first=look_at_topic)
        self._look_again(Kind.STALE_PENDING, questions.WRITTEN_AND_PENDING, is_settled_late)
        self._look_again(
            Kind.PENDING_WITHOUT_TICKET,
            questions.PENDING_WITHOUT_TICKET,
            lambda suspect, now: suspect[0] not in now.held,
        )

    def _check_rows(self) -> None:
        """Rows and messages that no ticket tells of."""
        ledger = self._ledger

        def was_never_admitted(suspect: Suspect, now: Present) -> bool:
            if now.holds(suspect):  # admitted and issued while we looked
                ledger.tickets += 1
                ledger.issued += 1
            return not now.holds(suspect)

        def has_no_ticket(suspect: Suspect, now: Present) -> bool:
            if now.holds(suspect):
                ledger.tickets += 1
                ledger.failed += 1
            return not now.holds(suspect)

        def has_no_trace(suspect: Suspect, now: Present) -> bool:
            return not now.holds(suspect) and suspect not in now.coupons and suspect not in now.events

        self._look_again(Kind.NEVER_ADMITTED, questions.COUPON_WITHOUT_TICKET, was_never_admitted)
        self._look_again(Kind.FAILED_WITHOUT_TICKET, questions.FAILED_WITHOUT_TICKET, has_no_ticket)
        self._look_again(Kind.NOT_HELD, questions.UNREAD_AND_NOT_HELD, has_no_trace)
        self._look_again(Kind.UNRECORDED, questions.READ_WITHOUT_A_TRACE, has_no_trace)
        self._look_again(
            Kind.SUCCESS_WITHOUT_COUPON,
            questions.SUCCESS_WITHOUT_COUPON,
            lambda suspect, now: suspect not in now.coupons,
        )
        for user_id, sequence in self._ask(questions.STUCK):
            ledger.found(Kind.STUCK_PROCESSING, f"{user_id} #{sequence}")

    def _check_twins(self) -> None:
        for user_id, coupons in self._ask(questions.USER_TWICE):
            self._ledger.found(Kind.USER_TWICE, f"{user_id}: {coupons} coupons")
        for users, sequence in self._ask(questions.SEQUENCE_TWICE):
            self._ledger.found(Kind.SEQUENCE_TWICE, f"#{sequence} of {users}")
        for text, sequence in self._ask(questions.OTHER_SEQUENCE):
            self._ledger.found(Kind.OTHER_SEQUENCE, f"{text} #{sequence}")

    def _check_holes(self) -> None:
        """A rebuild leaves holes; without one there is none."""
        kind = Kind.GAP if self._campaign.epoch > 1 else Kind.VANISHED
        for first, last in self._ask(questions.HOLES):
            self._ledger.found(kind, f"#{first}" if int(first) == last else f"#{first} to #{last}")

    def _look_again(
        self,
        kind: Kind,
        query: str,
        still: Callable[[Suspect, Present], bool],
        *,
        first: Callable[[], None] | None = None,
    ) -> None:
        suspects = self._ask(query)
        for chunk in in_chunks(suspects):
            if first is not None:
                first()
            now = look_at(self._campaign, [user_id for user_id, _ in chunk])
            for suspect in chunk:
                if still(suspect, now):
                    user_id, sequence = suspect
                    self._ledger.found(kind, f"{user_id} #{sequence}" if sequence else user_id)

    def _ask(self, query: str) -> Iterator[Suspect]:
        wanted = {name: value for name, value in self._values.items() if f":{name}" in query}
        return self._books.rows(query, **wanted)


def in_chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    each = iter(items)
    while chunk := list(islice(each, CHUNK)):
        yield chunk


def _check_counts(campaign: Campaign, ledger: Ledger, books: Books, after: Description) -> None:
    # One statement, so that count, rows and quantity are of the same moment, and later than the tickets.
    counted = (
        Campaign.objects.filter(pk=campaign.pk)
        .annotate(
            rows=Count("coupons"), at_rest=Q(updated_at__lt=Now() - timedelta(milliseconds=settings.RELAY_AFTER_MS))
        )
        .get()
    )
    ledger.quantity, ledger.coupons = counted.quantity, counted.rows
    if counted.issued_count != counted.rows:
        ledger.found(Kind.COUNT_WRONG, f"issued_count {counted.issued_count}, coupons {counted.rows}")
    if max(ledger.tickets, counted.rows) > counted.quantity:
        text = f"{ledger.tickets} tickets, {counted.rows} coupons, quantity {counted.quantity}"
        ledger.found(Kind.BEYOND_QUANTITY, text)
    highest = books.numbers(questions.HIGHEST)[0] or 0
    if after.next_sequence <= highest:
        ledger.found(Kind.REDIS_BEHIND, f"#{after.next_sequence} is next, #{highest} is held")
    if counted.at_rest and after.settings != settings_of(counted):
        revision = f"revision {after.settings.revision}, PostgreSQL {counted.revision}"
        ledger.found(Kind.SETTINGS_DIFFER, f"Redis has {revision}")
