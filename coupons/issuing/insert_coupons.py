"""Writes coupons, with the only statement that does."""

from collections.abc import Sequence
from secrets import token_bytes
from typing import Final, Protocol
from uuid import UUID

from django.db import connection

from coupons.runtime.arrays import array, quoted_array

CODE_LENGTH: Final = 26
ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_LETTER_OF = bytes(ALPHABET[byte % len(ALPHABET)] for byte in range(256))  # 32 divides 256: each letter as likely

# issued_at is the column's default. bulk_create is half as fast: it makes an object and a piece of SQL for each row
# (docs/decisions/0007).
_INSERT = (
    "INSERT INTO coupons_coupon (campaign_id, user_id, sequence, code) "
    "SELECT * FROM unnest(%s::uuid[], %s::text[], %s::bigint[], %s::text[])"
)


class IssuableTicket(Protocol):
    """The fields that issuing needs; messaging.Ticket has them."""

    @property
    def campaign_id(self) -> UUID: ...
    @property
    def user_id(self) -> str: ...
    @property
    def sequence(self) -> int: ...


def insert_coupons(tickets: Sequence[IssuableTicket]) -> None:
    """Inserts all or none, in this order. Raises IntegrityError, DataError or ValueError (a NUL byte)."""
    columns = [
        array(str(ticket.campaign_id) for ticket in tickets),
        quoted_array([ticket.user_id for ticket in tickets]),
        array(str(ticket.sequence) for ticket in tickets),
        array(new_codes(len(tickets))),
    ]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, columns)


def new_codes(count: int) -> list[str]:
    """Returns random codes of 130 bits each, as 26 characters A-Z and 2-7."""
    letters = token_bytes(CODE_LENGTH * count).translate(_LETTER_OF).decode()
    return [letters[start : start + CODE_LENGTH] for start in range(0, len(letters), CODE_LENGTH)]
