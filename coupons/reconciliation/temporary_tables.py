"""Holds the temporary tables in which PostgreSQL compares, in a session of their own that `close` ends.

PostgreSQL drops them with the session, however this process ends. Each statement is its own transaction, except those
of `one_moment`: a longer one would hold back vacuum in the whole database, and idle_in_transaction_session_timeout
would end it during the reading of Kafka or Redis. So there must be no pooler in transaction mode in between
(docs/deploy/pgbouncer.md).

Inserts pass arrays: psycopg2 refuses COPY beside the callback that limits every wait (runtime/db_timeouts.py).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

import psycopg2.errors
from django.db import ProgrammingError, connections

from coupons.runtime.arrays import array, quoted_array
from coupons.runtime.db_timeouts import answers_may_take

ROWS_AT_ONCE = 10_000
STATEMENT_SEC = 600  # the longest one took 100 s for ten million tickets on two busy cores
NETWORK_SEC = 2

TABLES: Final = """
-- state: read, unread, or late = unread and landed after a rebuild had read the topic (decision 0010)
CREATE TEMPORARY TABLE message (user_id text COLLATE "C", campaign_id uuid, sequence bigint, state text);
CREATE TEMPORARY TABLE ticket (user_id text COLLATE "C", sequence bigint);
CREATE TEMPORARY TABLE pending (user_id text COLLATE "C", score double precision);
-- One row for each user and sequence that any source names; compare.py fills and queries it.
CREATE TEMPORARY TABLE entry (
    user_id text COLLATE "C",
    sequence bigint,      -- NULL: the user is pending
    ticket boolean,       -- Redis holds it
    coupon boolean,
    event boolean,        -- there is a failed event of any kind
    failed boolean,       -- an open failed event holds the ticket
    succeeded boolean,    -- a failed event ended in SUCCESS
    message boolean,      -- the topic has one
    unread boolean,       -- and the consumers have not read it
    in_time boolean,      -- unread, and not late
    -- per user, whatever the sequence
    admitted boolean,     -- has a ticket
    coupons bigint,
    score double precision -- NULL: not pending
);
-- One row for each coupon and redemption that a redemption or an event names together; lives.py fills and queries it.
CREATE TEMPORARY TABLE life (
    coupon_id bigint,
    coupon text,           -- user id and sequence
    redemption_id uuid,    -- NULL: of the event that revokes the coupon
    order_ref text,
    state text,            -- NULL: no redemption of this coupon has this id
    outside boolean,       -- it began outside the coupon's validity
    revoked boolean,
    state_by_events text,  -- NULL: there are none
    live boolean,
    use text               -- coupon and order
);
"""
INSERT_MESSAGES: Final = "INSERT INTO message SELECT * FROM unnest(%s::text[], %s::uuid[], %s::bigint[], %s::text[])"
INSERT_TICKETS: Final = "INSERT INTO ticket SELECT * FROM unnest(%s::text[], %s::bigint[])"
INSERT_PENDING: Final = "INSERT INTO pending SELECT * FROM unnest(%s::text[], %s::double precision[])"
GRANT: Final = "SELECT format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), current_user)"

Values = Mapping[str, Any] | Sequence[Any]


class TemporaryTablesRefused(Exception):
    """The database user may not create temporary tables; the text names the grant that it needs."""


class TemporaryTables:
    """Every method raises database errors."""

    def __init__(self) -> None:
        """Raises TemporaryTablesRefused."""
        self._connection = connections.create_connection("default")
        try:
            self._create()
        except BaseException:
            self.close()
            raise

    def _create(self) -> None:
        self.run(f"SET statement_timeout = {STATEMENT_SEC * 1000:.0f}")
        try:
            self.run(TABLES)
        except ProgrammingError as error:
            if not isinstance(error.__cause__, psycopg2.errors.InsufficientPrivilege):
                raise
            [grant] = self.row(GRANT)
            raise TemporaryTablesRefused(f"PostgreSQL compares in temporary tables. Run once: {grant};") from error

    def close(self) -> None:
        self._connection.close()

    def insert(self, statement: str, rows: Iterable[tuple[str, *tuple[object, ...]]]) -> None:
        """Inserts rows in chunks by one of the statements above: a user id, then values that need no quotes."""
        each = iter(rows)
        while chunk := list(islice(each, ROWS_AT_ONCE)):
            user_ids, *others = zip(*chunk, strict=True)
            # PostgreSQL refuses NUL in a text. Only a manipulated Redis has one.
            users = quoted_array(user_ids).replace("\0", "\N{REPLACEMENT CHARACTER}")
            with self._connection.cursor() as cursor:
                cursor.execute(statement, [users, *(array(map(str, column)) for column in others)])

    def run(self, statement: str, values: Values | None = None) -> None:
        with answers_may_take(STATEMENT_SEC + NETWORK_SEC), self._connection.cursor() as cursor:
            cursor.execute(statement, values)

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """Shows all statements of the block the same moment of the database. After an error only `close` helps."""
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")  # temporary tables may be written all the same
        yield
        self.run("COMMIT")

    def row(self, query: str, values: Values | None = None) -> tuple[Any, ...]:
        [row] = self.rows(query, values)
        return row

    def rows(self, query: str, values: Values | None = None) -> Iterator[tuple[Any, ...]]:
        """Fetches the result in chunks. PostgreSQL keeps it, and no transaction is open between two rows."""
        with self._connection.chunked_cursor() as cursor:
            with answers_may_take(STATEMENT_SEC + NETWORK_SEC):
                cursor.execute(query, values)
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield from rows
