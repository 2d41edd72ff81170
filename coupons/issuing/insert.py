"""The one statement that writes coupons."""

from base64 import b32encode
from collections.abc import Sequence
from secrets import token_bytes
from typing import Any

from django.db import connection

from coupons.issuing.tickets import IssuableTicket
from coupons.models import Coupon

CODE_BYTES = 16

# Table and columns are the model's, so a renamed field cannot be forgotten here; issued_at is the column's default.
# bulk_create does the same at half the speed: it makes an object and a piece of SQL a row (docs/decisions/0007).
_TABLE = connection.ops.quote_name(Coupon._meta.db_table)
_COLUMNS = ", ".join(
    connection.ops.quote_name(getattr(Coupon, name).field.attname)
    for name in ("campaign", "user_id", "sequence", "code")
)
_INSERT = (
    f"INSERT INTO {_TABLE} ({_COLUMNS}) "  # noqa: S608  no value of anybody's in it
    "SELECT * FROM unnest(%s::uuid[], %s::text[], %s::bigint[], %s::text[])"
)


def insert_coupons(tickets: Sequence[IssuableTicket]) -> None:
    """Insert all or none, in this order. Raises IntegrityError, DataError or ValueError (a NUL byte)."""
    columns: list[Any] = [
        [str(ticket.campaign_id) for ticket in tickets],
        [ticket.user_id for ticket in tickets],
        [ticket.sequence for ticket in tickets],
        new_codes(len(tickets)),
    ]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, columns)


def new_codes(count: int) -> list[str]:
    """128 random bits each, as 26 characters A-Z and 2-7."""
    bits = token_bytes(CODE_BYTES * count)
    return [b32encode(bits[start : start + CODE_BYTES]).decode()[:26] for start in range(0, len(bits), CODE_BYTES)]
