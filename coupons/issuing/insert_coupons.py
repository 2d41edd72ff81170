"""Writes coupons, with the only statement that does."""

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from django.db import connection

from coupons.redemption.codes import code_of, former_code, mac_of_campaign, secret_of
from coupons.runtime.arrays import array, quoted_array

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


def insert_coupons(tickets: Sequence[IssuableTicket], *, code_keys: Mapping[UUID, str]) -> None:
    """Inserts all or none, in this order. `code_keys` has each campaign's code key; "" means random codes.

    Raises IntegrityError, DataError or ValueError (a NUL byte), and UnknownCodeKey.
    """
    columns = [
        array(str(ticket.campaign_id) for ticket in tickets),
        quoted_array([ticket.user_id for ticket in tickets]),
        array(str(ticket.sequence) for ticket in tickets),
        array(_codes(tickets, code_keys)),
    ]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, columns)


def _codes(tickets: Sequence[IssuableTicket], code_keys: Mapping[UUID, str]) -> list[str]:
    macs = {campaign_id: mac_of_campaign(secret_of(key), campaign_id) for campaign_id, key in code_keys.items() if key}
    return [
        former_code()
        if (mac := macs.get(each.campaign_id)) is None
        else code_of(mac, sequence=each.sequence, user_id=each.user_id)
        for each in tickets
    ]
