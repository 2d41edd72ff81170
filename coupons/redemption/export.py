"""Exports a campaign's coupons as a CSV file, in constant memory: a cursor of PostgreSQL's, rows in chunks.

The file is one moment of the campaign: one statement reads it, status included. UTF-8 with a byte order mark, lines end
with CRLF (RFC 4180), times are UTC.

A spreadsheet runs a cell that begins with `=`, `+`, `-` or `@`, and user ids may begin so. Such a cell gets a `'` in
front, and so does one that begins with `'`: whoever reads the file drops one `'` at the start of a cell, and has the
exact value (https://owasp.org/www-community/attacks/CSV_Injection).
"""

import csv
import io
import logging
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any, Final

from django.db import connections
from django.db.models import Case, CharField, Expression, F, Func, Q, QuerySet, Value, When
from django.db.models.functions import Now

from coupons import audit
from coupons.errors import DATABASE_DOWN, RetryLater, one_line
from coupons.models import Campaign, Coupon, RedemptionState
from coupons.redemption.coupon_life import CouponStatus
from coupons.redemption.coupon_lists import with_status
from coupons.runtime.db_timeouts import answers_may_take

logger = logging.getLogger(__name__)
COLUMNS: Final = ("sequence", "user_id", "code", "status", "issued_at", "valid_until", "order_ref", "redeemed_at")
TEXTS: Final = (COLUMNS.index("user_id"), COLUMNS.index("order_ref"))
"""What others have chosen; all else comes from this service."""
ROWS_AT_ONCE = 2_000  # some 300 KB
STATEMENT_SEC = 120  # for one chunk: a filter may have to look at ten million coupons for it
IDLE_SEC = 600  # between two chunks, while the reader takes its time: `... --output - | less`
NETWORK_SEC = 2
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # without it Excel takes UTF-8 for the local encoding
# The second set are their full-width forms, which some spreadsheets take for the same.
_GUARDED = re.compile("\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20]|['\t\r\n]")


class ExportTooSlow(RetryLater):
    """The client took too long: an open cursor holds back vacuum in the whole database."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What an export has: coupons of this status, issued at `since` or later, with their codes or without."""

    with_codes: bool
    status: CouponStatus | None = None
    since: datetime | None = None

    def __str__(self) -> str:
        parts = ["with codes" if self.with_codes else "without codes"]
        parts += [f"status {self.status}"] if self.status else []
        parts += [f"issued since {self.since.isoformat()}"] if self.since else []
        return ", ".join(parts)


class CouponExport:
    """The chunks of one file; iterate once. `rows` counts the coupons so far.

    Recorded in the audit before the first byte. Has a session of its own, and `close` ends it: when the file is
    complete, when it breaks off, and when its reader has gone. Raises database errors, and ExportTooSlow.
    """

    def __init__(
        self, *, campaign: Campaign, selection: Selection, actor: str, reason: str = "", within_sec: float = inf
    ) -> None:
        self.rows = 0
        self._has_ended = False
        self._about = f"campaign={campaign.pk} actor={actor}"
        self._deadline = time.monotonic() + within_sec
        audit.record(actor=actor, row=campaign, what=f"Exported the coupons, {selection}", reason=reason)
        self._session = connections.create_connection("default")
        try:
            self._cursor = self._begin(campaign, selection)
        except BaseException:
            self.close()
            raise
        logger.info("export.begun %s", self._about)

    def _begin(self, campaign: Campaign, selection: Selection) -> Any:
        """Opens the cursor. PostgreSQL does its work later, when the first rows are fetched."""
        sql, values = _select(campaign, selection).query.sql_with_params()
        # Inside a transaction the cursor needs no WITH HOLD, which would store the whole result first; and a pooler in
        # transaction mode keeps the session.
        self._session.set_autocommit(False)
        with self._session.cursor() as cursor:
            for name, seconds in (("statement", STATEMENT_SEC), ("idle_in_transaction_session", IDLE_SEC)):
                cursor.execute("SELECT set_config(%s, %s, true)", [f"{name}_timeout", str(seconds * 1000)])
        cursor = self._session.chunked_cursor()
        cursor.execute(sql, values)
        return cursor

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield BYTE_ORDER_MARK + _lines([COLUMNS])
            while rows := self._fetch():
                self.rows += len(rows)
                yield _lines(map(_guarded, rows))
        except (ExportTooSlow, *DATABASE_DOWN) as error:
            self._has_ended = True
            logger.warning("export.broken_off %s rows=%d error=%s", self._about, self.rows, one_line(error))
            raise
        else:
            self._has_ended = True
            logger.info("export.done %s rows=%d", self._about, self.rows)
        finally:
            self.close()

    def _fetch(self) -> list[tuple[Any, ...]]:
        if time.monotonic() > self._deadline:
            raise ExportTooSlow("the export has taken too long; ask for less of it by `since` or `status`")
        with answers_may_take(STATEMENT_SEC + NETWORK_SEC):
            fetched: list[tuple[Any, ...]] = self._cursor.fetchmany(ROWS_AT_ONCE)
        return fetched

    def close(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            logger.info("export.left %s rows=%d", self._about, self.rows)
        with suppress(*DATABASE_DOWN):
            self._session.close()


def _select(campaign: Campaign, selection: Selection) -> Any:
    """In the order of admission, which an index has: the first rows come at once, and nothing is sorted."""
    coupons: QuerySet[Any, Any] = with_status(Coupon.objects.filter(campaign=campaign))
    if selection.status is not None:
        coupons = coupons.filter(status=selection.status)
    if selection.since is not None:
        coupons = coupons.filter(issued_at__gte=selection.since)
    is_live = Q(live_use__state=RedemptionState.REDEEMED) | Q(live_use__hold_until__gt=Now())
    columns = {
        "_code": F("code") if selection.with_codes else Value(""),
        "_issued_at": _Moment("issued_at"),
        "_valid_until": _Moment("valid_until"),
        "_order_ref": Case(When(is_live, then="live_use__order_ref"), default=Value(""), output_field=CharField()),
        "_redeemed_at": _Moment("live_use__redeemed_at"),
    }
    names = [f"_{name}" if f"_{name}" in columns else name for name in COLUMNS]
    return coupons.annotate(**columns).order_by("sequence").values_list(*names)


class _Moment(Func):
    """A time as text; Python would take longer for three million of them than for all the rest."""

    template = """to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')"""
    output_field: Expression = CharField()  # type: ignore[assignment]


def _guarded(row: tuple[Any, ...]) -> list[Any]:
    cells = list(row)
    for column in TEXTS:
        cells[column] = guard(cells[column])
    return cells


def guard(text: str) -> str:
    """Returns a text that a spreadsheet shows and does not run. One `'` at the start is never part of the value."""
    return f"'{text}" if _GUARDED.match(text) else text


def _lines(rows: Iterable[Iterable[Any]]) -> bytes:
    made = io.StringIO(newline="")
    csv.writer(made).writerows(rows)
    return made.getvalue().encode()
