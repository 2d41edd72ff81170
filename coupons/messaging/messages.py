"""The message `coupon_create`, JSON v1: a ticket on its way from the gate to the database.

    {"v":1,"campaign_id":"0198...","user_id":"42","sequence":37,"admitted_at":"2026-12-01T01:00:00.123Z","trace":"..."}

msgspec checks every field while it parses the JSON, and is still faster than `json.loads`.
"""

import re
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from coupons.models import MAX_USER_ID_LENGTH, FailCode

VERSION = 1
_CHARACTERS = rf"[A-Za-z0-9._:@|+-]{{1,{MAX_USER_ID_LENGTH}}}"
USER_ID = re.compile(rf"(?!\.{{1,2}}$){_CHARACTERS}")
MAX_SEQUENCE = 2**53 - 1  # the largest integer that JSON and Lua keep exact
MAX_PAYLOAD_BYTES = 4096  # a good message has under 500


class Ticket(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="v", tag=VERSION):
    """An admitted user: the sequence, when Redis gave it, and in which epoch (older messages have none).

    `trace` is the request's id, to follow a request through the topic; the relay writes its own name there. `user_id`
    may be `.` or `..`, which are no user ids any more: what an earlier version promised such a user is issued.
    """

    campaign_id: UUID
    user_id: Annotated[str, msgspec.Meta(pattern=rf"\A{_CHARACTERS}\Z")]
    sequence: Annotated[int, msgspec.Meta(ge=1, le=MAX_SEQUENCE)]
    admitted_at: Annotated[datetime, msgspec.Meta(tz=True)]
    trace: str = ""
    epoch: int | None = None


class InvalidMessage(Exception):
    """The bytes are no valid ticket and never will be. The caller records them as a FAIL row and goes on.

    `named` holds the readable ones of campaign_id, user_id and sequence: for an operator to see, not to act upon.
    """

    def __init__(self, code: FailCode, reason: str, named: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.named = named or {}


encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Ticket)


def is_user_id(text: object) -> bool:
    """Accepts numbers, UUIDs, slugs, mail addresses, `auth0|...`: 1-128 characters of A-Z a-z 0-9 . _ : @ | + -

    Refuses `.` and `..`: clients and proxies take them out of a path (RFC 3986, 5.2.4), encoded ones too, so nobody
    could ask for the ticket.
    """
    return isinstance(text, str) and USER_ID.fullmatch(text) is not None


def decode(payload: bytes | None) -> Ticket:
    """Returns the ticket in a message. Raises InvalidMessage for all other bytes. Ignores unknown fields."""
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
    """Parses the payload once more, without types, to report the fields that it names."""
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
