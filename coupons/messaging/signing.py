"""Signs and verifies messages: each carries an HMAC-SHA256 of its payload, and the id of its key.

The consumer issues only what the gate holds, so a forged message mints nothing by itself. But a rebuild turns unread
messages into tickets, so the rebuild and the ledger take only signed messages. The payload names campaign, user,
sequence and epoch, so a signed message that is replayed carries the same ticket, and counts once.

The first key signs, all keys verify. A key's id ends with the fingerprint of its secret, so a message of an unknown key
(`UnknownKey`: perhaps a former key) differs from a forged one. docs/decisions/0015 explains what happens to each,
docs/runbook.md how to change a key.
"""

import hmac
import re
from contextlib import suppress

from django.conf import settings

from coupons.messaging.kafka import Header, Headers
from coupons.messaging.messages import InvalidMessage, Ticket, decode
from coupons.models import FailCode

HEADER = "signature"
SCHEME = b"hmac-sha256"
_SIGNATURE = re.compile(SCHEME + rb" ([A-Za-z0-9._-]{1,80}) ([0-9a-f]{64})")


class UnknownKey(InvalidMessage):
    """A message that is signed with a key which is not known here. `ticket` is its content, unverified."""

    def __init__(self, key_id: str, payload: bytes) -> None:
        super().__init__(FailCode.UNAUTHENTIC, f"the message is signed with key {key_id}, which is not known here")
        self.key_id = key_id
        self.ticket: Ticket | None = None
        with suppress(InvalidMessage):  # the service never publishes such a message
            self.ticket = decode(payload)


def sign(payload: bytes) -> list[Header]:
    """Returns the message's headers: `signature: hmac-sha256 <key id> <hex>`."""
    key_id, secret = next(iter(settings.MESSAGE_KEYS.items()))
    return [(HEADER, b"%b %b %b" % (SCHEME, key_id.encode(), _mac(secret, payload)))]


def open_message(payload: bytes, headers: Headers) -> Ticket:
    """Returns the ticket of a message that this service has published. Raises InvalidMessage for any other message, and
    UnknownKey when another key may have signed it. Errors name no fields of a message that is not authentic."""
    signatures = [value for name, value in headers if name == HEADER]
    if len(signatures) != 1:
        reason = f"the message has {len(signatures)} headers {HEADER!r}, not one: this service has not published it"
        raise InvalidMessage(FailCode.UNAUTHENTIC, reason)
    match = _SIGNATURE.fullmatch(signatures[0]) if isinstance(signatures[0], bytes) else None
    if match is None:
        reason = f"the message's signature is not '{SCHEME.decode()} <key id> <64 hexadecimal digits>'"
        raise InvalidMessage(FailCode.UNAUTHENTIC, reason)
    key_id, mac = match[1].decode(), match[2]
    secret = settings.MESSAGE_KEYS.get(key_id)
    if secret is None:
        raise UnknownKey(key_id, payload)
    if not hmac.compare_digest(_mac(secret, payload), mac):
        raise InvalidMessage(FailCode.UNAUTHENTIC, "the message's signature is wrong")
    return decode(payload)


def read_ticket(payload: bytes, headers: Headers) -> tuple[Ticket | None, str | None]:
    """The ticket that a message says, if any. With the id of an unknown key it is said without a proof."""
    try:
        return open_message(payload, headers), None
    except UnknownKey as error:
        return error.ticket, error.key_id
    except InvalidMessage:
        return None, None


def _mac(secret: bytes, payload: bytes) -> bytes:
    return hmac.digest(secret, payload, "sha256").hex().encode()
