"""The message `coupon_create`, JSON v1: a ticket on its way from the gate to the database.

    {"v":1,"campaign_id":"0198...","user_id":"42","sequence":37,"admitted_at":"2026-12-01T01:00:00.123Z","trace":"..."}

msgspec checks every field while it reads the JSON, faster than `json.loads` reads it alone.
"""

import re
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from coupons.models import MAX_USER_ID_LENGTH, FailCode

VERSION = 1
USER_ID = re.compile(rf"[A-Za-z0-9._:@|+-]{{1,{MAX_USER_ID_LENGTH}}}")
MAX_SEQUENCE = 2**53 - 1  # what JSON and Lua carry without loss
MAX_PAYLOAD_BYTES = 4096  # a good message has under 500


class Ticket(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="v", tag=VERSION):
    """An admitted user: the place in the order, when Redis gave it, and in which epoch (older messages do not say).

    `trace` is the request's id, for people who follow one through the topic; the relay writes its own name there.
    """

    campaign_id: UUID
    user_id: Annotated[str, msgspec.Meta(pattern=rf"\A{USER_ID.pattern}\Z")]
    sequence: Annotated[int, msgspec.Meta(ge=1, le=MAX_SEQUENCE)]
    admitted_at: Annotated[datetime, msgspec.Meta(tz=True)]
    trace: str = ""
    epoch: int | None = None


class InvalidMessage(Exception):
    """The bytes can never be read as a ticket. The caller records them as a FAIL row and goes on.

    `named` holds what could be read of campaign_id, user_id and sequence: for the operator, not to be acted upon.
    """

    def __init__(self, code: FailCode, reason: str, named: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.named = named or {}


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Ticket)


def is_user_id(text: object) -> bool:
    """Numbers, UUIDs, slugs, mail addresses, `auth0|...`: 1-128 characters (docs/design.md)."""
    return isinstance(text, str) and USER_ID.fullmatch(text) is not None


def encode(ticket: Ticket) -> bytes:
    return _encoder.encode(ticket)


def decode(payload: bytes | None) -> Ticket:
    """The ticket in a message; InvalidMessage for anything else, whatever the bytes. Unknown fields are ignored."""
    if not payload:
        raise InvalidMessage(FailCode.INVALID_MESSAGE, "the message is empty")
    if len(payload) > MAX_PAYLOAD_BYTES:
        reason = f"the message has {len(payload)} bytes, more than {MAX_PAYLOAD_BYTES}"
        raise InvalidMessage(FailCode.INVALID_MESSAGE, reason)
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid(payload, error) from None


def _invalid(payload: bytes, error: Exception) -> InvalidMessage:
    """Reads the document once more, without its types, to say what it names."""
    try:
        fields = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return InvalidMessage(FailCode.INVALID_MESSAGE, f"no JSON object: {error}")
    named = {name: fields.get(name) for name in ("campaign_id", "user_id", "sequence")}
    version = fields.get("v", VERSION)
    if type(version) is not int or version != VERSION:
        reason = f"version {version!r:.40}, this program reads version {VERSION}"
        return InvalidMessage(FailCode.UNKNOWN_VERSION, reason, named)
    return InvalidMessage(FailCode.INVALID_MESSAGE, str(error), named)
