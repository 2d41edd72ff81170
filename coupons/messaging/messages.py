"""The message `coupon_create`, JSON v1: a ticket on its way from the gate to the database."""

import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from coupons.models import MAX_USER_ID_LENGTH, FailCode

VERSION = 1
USER_ID = re.compile(rf"[A-Za-z0-9._:@|+-]{{1,{MAX_USER_ID_LENGTH}}}")
MAX_SEQUENCE = 2**53 - 1  # what JSON and Lua carry without loss
MAX_PAYLOAD_BYTES = 4096  # a good message has under 500
_encoder = json.JSONEncoder(separators=(",", ":"))
_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Messages as `encode` writes them, of moments in UTC, and only such of which `decode` has nothing to say. One match
# takes a fifth of the time of reading JSON and looking at each field.
_DATE = (
    r"[12][0-9]{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}\+00:00"
_AS_WE_ENCODE = re.compile(
    (
        rf'\{{"v":{VERSION},"campaign_id":"({_CANONICAL_UUID.pattern})","user_id":"({USER_ID.pattern})",'
        rf'"sequence":([1-9][0-9]{{0,14}}),"admitted_at":"{_DATE}T{_TIME}","trace":"[ !#-\[\]-~]{{0,64}}"'
        r'(?:,"epoch":(0|[1-9][0-9]{0,14}))?\}'
    ).encode()
)


class Ticket(NamedTuple):
    """An admitted user's place, when Redis gave it, and in which epoch (None in messages that do not say)."""

    campaign_id: UUID
    user_id: str
    sequence: int
    admitted_at: datetime
    trace: str = ""
    epoch: int | None = None


class Place(NamedTuple):
    """What of a ticket becomes a coupon, and the epoch that its message names."""

    campaign_id: UUID
    user_id: str
    sequence: int
    epoch: int | None = None


class InvalidMessage(Exception):
    """The bytes can never be read as a ticket. The caller records them as a FAIL row and goes on.

    `named` holds what could be read of campaign_id, user_id and sequence: for the operator, not to be acted upon.
    """

    def __init__(self, code: FailCode, reason: str, named: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.named = named or {}


def is_user_id(text: object) -> bool:
    """Numbers, UUIDs, slugs, mail addresses, `auth0|...`: 1-128 characters of DESIGN's section 2."""
    return isinstance(text, str) and USER_ID.fullmatch(text) is not None


def encode(ticket: Ticket) -> bytes:
    fields: dict[str, str | int] = {
        "v": VERSION,
        "campaign_id": str(ticket.campaign_id),
        "user_id": ticket.user_id,
        "sequence": ticket.sequence,
        "admitted_at": ticket.admitted_at.isoformat(timespec="milliseconds"),
        "trace": ticket.trace,
    }
    if ticket.epoch is not None:
        fields["epoch"] = ticket.epoch
    return _encoder.encode(fields).encode()


def decode(payload: bytes | None) -> Ticket:
    """The ticket in a message; InvalidMessage for anything else, whatever the bytes. Unknown fields are ignored."""
    fields = _json_object(payload)
    named = {name: fields.get(name) for name in ("campaign_id", "user_id", "sequence")}
    if type(fields.get("v")) is not int or fields["v"] != VERSION:
        reason = f"version {fields.get('v')!r:.40}, this program reads version {VERSION}"
        raise InvalidMessage(FailCode.UNKNOWN_VERSION, reason, named)
    campaign_id, user_id, sequence = named.values()
    if not isinstance(campaign_id, str) or not _CANONICAL_UUID.fullmatch(campaign_id):
        raise InvalidMessage(FailCode.INVALID_MESSAGE, "campaign_id is no UUID", named)
    if not is_user_id(user_id):
        reason = f"user_id must be 1-{MAX_USER_ID_LENGTH} characters of A-Z a-z 0-9 . _ : @ | + -"
        raise InvalidMessage(FailCode.INVALID_MESSAGE, reason, named)
    if type(sequence) is not int or not 1 <= sequence <= MAX_SEQUENCE:
        raise InvalidMessage(FailCode.INVALID_MESSAGE, f"sequence is no whole number from 1 to {MAX_SEQUENCE}", named)
    trace, epoch = fields.get("trace"), fields.get("epoch")
    return Ticket(
        campaign_id=UUID(campaign_id),
        user_id=str(user_id),
        sequence=sequence,
        admitted_at=_admitted_at(fields.get("admitted_at"), named),
        trace=trace[:64] if isinstance(trace, str) else "",
        epoch=epoch if type(epoch) is int else None,
    )


def decode_place(payload: bytes) -> Place:
    """The place in a message, which is exactly what `decode` would say of it; InvalidMessage where it raises it."""
    match = _AS_WE_ENCODE.fullmatch(payload)
    if match is None:
        ticket = decode(payload)
        return Place(ticket.campaign_id, ticket.user_id, ticket.sequence, ticket.epoch)
    campaign_id, user_id, sequence, epoch = match.groups()
    return Place(_campaign_id(campaign_id), user_id.decode(), int(sequence), None if epoch is None else int(epoch))


@lru_cache(maxsize=256)
def _campaign_id(text: bytes) -> UUID:
    return UUID(text.decode())


def _json_object(payload: bytes | None) -> dict[str, Any]:
    if not payload:
        raise InvalidMessage(FailCode.INVALID_MESSAGE, "the message is empty")
    if len(payload) > MAX_PAYLOAD_BYTES:
        reason = f"the message has {len(payload)} bytes, more than {MAX_PAYLOAD_BYTES}"
        raise InvalidMessage(FailCode.INVALID_MESSAGE, reason)
    try:
        fields = json.loads(payload.decode("utf-8"))
    except (
        ValueError,
        RecursionError,
    ) as error:  # no UTF-8, no JSON, nested too deep, an integer of 5,000 digits
        raise InvalidMessage(FailCode.INVALID_MESSAGE, f"no JSON: {str(error)[:200]}") from None
    if not isinstance(fields, dict):
        raise InvalidMessage(FailCode.INVALID_MESSAGE, "no JSON object")
    return fields


def _admitted_at(text: object, named: dict[str, Any]) -> datetime:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
        if moment is None or moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        reason = "admitted_at is no ISO 8601 time with an offset"
        raise InvalidMessage(FailCode.INVALID_MESSAGE, reason, named) from None
