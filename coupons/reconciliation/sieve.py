"""Puts aside the users with whom all is plainly well, so that the books (books.py) are about the others alone.

A user is plain who has exactly one ticket, whose messages all name that ticket, without a failed event, and either

- with one coupon of the same sequence, and not pending; or
- with no coupon, pending, and with a message of the ticket that was not read.

No question to the books would name such a user: each joins rows of one user. Three need more than one user, and get it
here: the numbers (`Plain`), holes (runs of sequences) and a sequence that two have (twins). The rows are compared as
sets, part by part, exactly and in C; what is not plain is written to the books with all rows of the user.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from coupons.reconciliation.books import Books, EventRow, MessageRow
from coupons.reconciliation.differences import Difference, Kind
from coupons.reconciliation.sequences import LIMIT, Sequences
from coupons.reconciliation.sheets import Binder, Row

_USER, _SEQUENCE = itemgetter(0), itemgetter(1)


class Messages:
    """Of one campaign, by what matters: read by the group; unread; unread, and landed too late (decision 0010). And
    those of unknown keys that may be a promise."""

    def __init__(self, binder: Binder, parts: int) -> None:
        self.parts = parts
        self.unverified = Difference(Kind.UNKNOWN_KEY)
        self.read, self.unread, self.late = (binder.sheet(parts) for _ in range(3))


class Sources:
    """Everything else of the campaign, to be filled in the order of reading (reconcile.py)."""

    def __init__(self, binder: Binder, messages: Messages) -> None:
        self.messages = messages
        self.tickets, self.pending, self.events, self.coupons = (binder.sheet(messages.parts) for _ in range(4))


@dataclass(slots=True)
class Plain:
    """What was put aside, in tickets; `unread` in tickets with such a message."""

    issued: int = 0
    pending: int = 0
    unread: int = 0
    sequences: Sequences = field(default_factory=Sequences)


def sift(sources: Sources, books: Books) -> Plain:
    """Fills the books; they are sorted afterwards, and can be asked."""
    plain = Plain()
    for number in range(sources.messages.parts):
        _sift_part(sources, number, books, plain)
    books.sort()
    plain.sequences.claim_also(books.sequences())
    if plain.sequences.has_twins():
        for number in range(sources.messages.parts):
            rows = [*dict(sorted(sources.tickets.part(number))).items(), *sources.coupons.part(number)]
            books.write_twins([row for row in rows if plain.sequences.is_twin(row[1])])
    books.write_runs(plain.sequences.runs())
    return plain


def _sift_part(sources: Sources, number: int, books: Books, plain: Plain) -> None:
    messages = sources.messages
    tickets, coupons = sources.tickets.part(number), sources.coupons.part(number)
    pending, events = sources.pending.part(number), sources.events.part(number)
    read, unread, late = messages.read.part(number), messages.unread.part(number), messages.late.part(number)
    held, written = set(tickets), set(coupons)
    waiting_messages = {*unread, *late}
    users_pending = set(map(_USER, pending))
    waiting = {ticket for ticket in waiting_messages & held if ticket[0] in users_pending} - written

    odd = set(map(_USER, events))
    odd.update(map(_USER, held - written - waiting), map(_USER, written - held))
    odd |= users_pending - set(map(_USER, waiting))
    odd.update(map(_USER, waiting_messages - held))
    if not held.issuperset(read):
        odd.update(map(_USER, set(read) - held))
    # Who has two coupons of different sequences has one without a ticket, or two tickets.
    odd.update(_twice(held))
    if len(written) < len(coupons):
        odd.update(_twice(coupons))
    if held and not 0 < min(map(_SEQUENCE, held)) <= max(map(_SEQUENCE, held)) < LIMIT:
        odd.update(user for user, sequence in held if not 0 < sequence < LIMIT)

    if odd:
        _write_rows(books, odd, tickets, pending, events, coupons)
        for sheet, is_unread, is_late in ((read, False, False), (unread, True, False), (late, True, True)):
            books.write_messages(
                [MessageRow(user, sequence, is_unread, is_late) for user, sequence in sheet if user in odd]
            )
        held = {ticket for ticket in held if ticket[0] not in odd}
        waiting &= held
    plain.issued += len(held) - len(waiting)
    plain.pending += len(waiting)
    plain.unread += len(waiting_messages & held)
    plain.sequences.claim(map(_SEQUENCE, held), highest=max(map(_SEQUENCE, held), default=0))


def _twice(rows: Collection[Row]) -> set[str]:
    """Users with more than one row."""
    if len(set(map(_USER, rows))) == len(rows):
        return set()
    seen: set[str] = set()
    return {user for user, *_ in rows if user in seen or seen.add(user)}  # type: ignore[func-returns-value]


def _write_rows(
    books: Books,
    users: set[str],
    tickets: Sequence[Row],
    pending: Sequence[Row],
    events: Sequence[Row],
    coupons: Sequence[Row],
) -> None:
    books.write_tickets([row for row in tickets if row[0] in users])
    books.write_pending([row for row in pending if row[0] in users])
    books.write_events([EventRow(*row) for row in events if row[0] in users])
    books.write_coupons([row for row in coupons if row[0] in users])
