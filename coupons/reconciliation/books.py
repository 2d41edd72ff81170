"""The tickets, messages, coupons and failed events of those of a campaign's users who are not plain (sieve.py), side by
side, in SQLite on a temporary file.

They may be all, ten million of each, which do not fit into memory; and a comparison in PostgreSQL would burden the
server that is looked at. SQLite sorts and joins on disk with a bounded cache, and a question about the ledger is a
query that anyone can read. What is written goes into heap tables first and is sorted once: a B-tree filled in random
order is many times slower.

About 350 bytes of disk a ticket that is not plain, below TMPDIR.
"""

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

BATCH = 10_000
CACHE_KB = 32_768
TABLES = """
CREATE TABLE read_message (user TEXT, sequence INTEGER, unread INTEGER, late INTEGER);
CREATE TABLE read_ticket (user TEXT, sequence INTEGER);
CREATE TABLE read_pending (user TEXT, score REAL);
CREATE TABLE read_event (user TEXT, sequence INTEGER, open INTEGER, held INTEGER, stuck INTEGER);
CREATE TABLE read_coupon (user TEXT, sequence INTEGER);
"""
# A scan of Redis may show a ticket twice; a ticket may have several messages, and one that is unread counts.
SORTED = """
CREATE TABLE message (user TEXT, sequence INTEGER, unread INTEGER, unread_in_time INTEGER,
    PRIMARY KEY (user, sequence)) WITHOUT ROWID;
INSERT INTO message SELECT user, sequence, max(unread), max(unread AND NOT late) FROM read_message GROUP BY 1, 2;
CREATE TABLE ticket (user TEXT PRIMARY KEY, sequence INTEGER) WITHOUT ROWID;
INSERT INTO ticket SELECT user, max(sequence) FROM read_ticket GROUP BY user;
CREATE TABLE pending (user TEXT PRIMARY KEY, score REAL) WITHOUT ROWID;
INSERT INTO pending SELECT user, max(score) FROM read_pending GROUP BY user;
CREATE TABLE event (user TEXT, sequence INTEGER, open INTEGER, held INTEGER, stuck INTEGER);
INSERT INTO event SELECT * FROM read_event ORDER BY user, sequence;
CREATE INDEX event_by_ticket ON event (user, sequence);
CREATE TABLE coupon (user TEXT, sequence INTEGER);
INSERT INTO coupon SELECT * FROM read_coupon ORDER BY user, sequence;
CREATE INDEX coupon_by_ticket ON coupon (user, sequence);
CREATE TABLE place (user TEXT PRIMARY KEY, sequence INTEGER, score REAL, issued INTEGER, failed INTEGER) WITHOUT ROWID;
INSERT INTO place
    SELECT ticket.user, ticket.sequence, pending.score,
        EXISTS (SELECT 1 FROM coupon WHERE coupon.user = ticket.user),
        EXISTS (SELECT 1 FROM event WHERE event.user = ticket.user AND event.sequence = ticket.sequence
            AND event.open AND event.held)
    FROM ticket LEFT JOIN pending USING (user) ORDER BY ticket.user;
-- of plain tickets: stretches of sequences without a hole, and sequences that somebody else claims too
CREATE TABLE run (first INTEGER, last INTEGER);
CREATE TABLE twin (user TEXT, sequence INTEGER);
"""
CLEARED = """
DROP TABLE IF EXISTS place; DROP TABLE IF EXISTS ticket; DROP TABLE IF EXISTS pending; DROP TABLE IF EXISTS event;
DROP TABLE IF EXISTS coupon; DROP TABLE IF EXISTS message; DROP TABLE IF EXISTS run; DROP TABLE IF EXISTS twin;
DELETE FROM read_ticket; DELETE FROM read_pending; DELETE FROM read_event; DELETE FROM read_coupon;
DELETE FROM read_message;
"""


class MessageRow(NamedTuple):
    """`unread`: it was not read. `late`: it landed after a rebuild had read the topic (decision 0010)."""

    user_id: str
    sequence: int
    unread: bool
    late: bool


class EventRow(NamedTuple):
    """`held`: its code says that the gate held the ticket. `stuck`: PROCESSING, and the lease has ended."""

    user_id: str
    sequence: int
    open: bool
    held: bool
    stuck: bool


class Books:
    """One file; `close` removes it. They are about one campaign at a time."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="coupon-ledger-")
        self._file = sqlite3.connect(Path(self._folder.name) / "books.sqlite")
        self._file.executescript(
            f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{CACHE_KB};"
            f"PRAGMA temp_store = FILE; {TABLES}"
        )

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
        self._folder.cleanup()

    def clear(self) -> None:
        """Forget the former campaign."""
        self._file.executescript(CLEARED)

    def write_messages(self, rows: Iterable[MessageRow]) -> None:
        self._insert("read_message", 4, rows)

    def write_tickets(self, rows: Iterable[tuple[str, int]]) -> None:
        self._insert("read_ticket", 2, rows)

    def write_pending(self, rows: Iterable[tuple[str, float]]) -> None:
        self._insert("read_pending", 2, rows)

    def write_events(self, rows: Iterable[EventRow]) -> None:
        self._insert("read_event", 5, rows)

    def write_coupons(self, rows: Iterable[tuple[str, int]]) -> None:
        self._insert("read_coupon", 2, rows)

    def sort(self) -> None:
        """When everything of the campaign is written, before the first question."""
        self._file.executescript(SORTED)

    def sequences(self) -> Iterator[int]:
        """Each that a ticket or a coupon has, once."""
        for (sequence,) in self._file.execute("SELECT sequence FROM ticket UNION SELECT sequence FROM coupon"):
            yield sequence

    def write_runs(self, runs: Iterable[tuple[int, int]]) -> None:
        self._insert("run", 2, runs)

    def write_twins(self, rows: Iterable[tuple[str, int]]) -> None:
        self._insert("twin", 2, rows)

    def rows(self, query: str, **values: str | float) -> Iterator[tuple[str, int]]:
        """Users and sequences; never all at once."""
        yield from self._file.execute(query, values)

    def numbers(self, query: str, **values: str | float) -> tuple[int | None, ...]:
        """The one row of a query of numbers."""
        found: tuple[int | None, ...] = self._file.execute(query, values).fetchone()
        return found

    def _insert(self, table: str, columns: int, rows: Iterable[tuple[object, ...]]) -> None:
        marks = ", ".join("?" * columns)
        each = iter(rows)
        while batch := list(islice(each, BATCH)):
            self._file.executemany(f"INSERT INTO {table} VALUES ({marks})", batch)  # noqa: S608  our own names
        self._file.commit()
