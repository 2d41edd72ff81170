"""Who may speak in the topic: every message carries an HMAC-SHA256 of its payload, and the id of its key.

The consumer issues only what the gate holds, so a forged message mints nothing by itself. But a mend reads the unread
part of the topic, and what it finds there becomes tickets: it, the ledger and the consumer take only what was signed.
The payload names campaign, user, sequence and epoch, so a signed message that is produced again says what it said the
first time, and counts once.

The first key signs, all of them verify. To change: put a new key in front, and take the old one away when the topic
holds none of its messages any more (its retention). A message whose key is not known here becomes a failed event; its
ticket is pending and the relay publishes it again, signed with today's key.
"""

import hmac
from collections.abc import Iterable
from functools import lru_cache

from django.conf import settings

from coupons.messaging.kafka import Header, Headers
from coupons.messaging.messages import InvalidMessage, Place, Ticket, decode, decode_place
from coupons.models import FailCode

HEADER = "signature"
SCHEME = b"hmac-sha256"


def sign(payload: bytes) -> list[Header]:
    """The message's headers: `signature: hmac-sha256 <key id> <hex>`."""
    key_id, secret = _todays_key()
    return [(HEADER, _begin(key_id) + _mac(secret, payload))]


def open_message(payload: bytes, headers: Headers) -> Ticket:
    """The ticket of a message that one of us has published; InvalidMessage for anything else.

    Nothing of an unauthentic message is read, so that its failed event names no campaign and no user.
    """
    _check(payload, headers)
    return decode(payload)


def open_places(messages: Iterable[tuple[bytes, Headers]]) -> list[Place | InvalidMessage]:
    """What `open_message` says of each of these payloads with headers: a ticket's place, or what it would raise."""
    key_id, secret = _todays_key()
    begin, keyed = _begin(key_id), _keyed(secret)
    opened: list[Place | InvalidMessage] = []
    for payload, headers in messages:
        mac = keyed.copy()
        mac.update(payload)
        try:
            # Signed with today's key and nothing beside it: almost all of them. What else it may be is looked at then.
            if not (len(headers) == 1 and _is_signature(headers[0], begin + mac.hexdigest().encode())):
                _check(payload, headers)
            opened.append(decode_place(payload))
        except InvalidMessage as error:
            opened.append(error)
    return opened


def _check(payload: bytes, headers: Headers) -> None:
    if reason := _reason_against(payload, headers):
        raise InvalidMessage(FailCode.UNAUTHENTIC, reason)


def _is_signature(header: Header, expected: bytes) -> bool:
    name, value = header
    return name == HEADER and isinstance(value, bytes) and hmac.compare_digest(value, expected)


def _reason_against(payload: bytes, headers: Headers) -> str:
    signatures = [value for name, value in headers if name == HEADER]
    if len(signatures) != 1:
        return f"the message has {len(signatures)} headers {HEADER!r}, not one: somebody else has published it"
    scheme, _, rest = signatures[0].partition(b" ") if isinstance(signatures[0], bytes) else (b"", b"", b"")
    key_id, _, mac = rest.partition(b" ")
    if scheme != SCHEME:
        return f"the message's signature does not begin with {SCHEME.decode()}"
    secret = settings.MESSAGE_KEYS.get(key_id.decode("ascii", "replace"))
    if secret is None:
        return f"the message is signed with key {key_id[:64].decode('ascii', 'replace')!r}, not known here"
    return "" if hmac.compare_digest(_mac(secret, payload), mac) else "the message's signature is wrong"


def _todays_key() -> tuple[str, bytes]:
    return next(iter(settings.MESSAGE_KEYS.items()))


def _begin(key_id: str) -> bytes:
    """What a signature with this key begins with."""
    return b"%b %b " % (SCHEME, key_id.encode())


def _mac(secret: bytes, payload: bytes) -> bytes:
    mac = _keyed(secret).copy()
    mac.update(payload)
    return mac.hexdigest().encode()


@lru_cache(maxsize=8)
def _keyed(secret: bytes) -> hmac.HMAC:
    """What of an HMAC depends on the key alone: half of the work for a message of 200 bytes."""
    return hmac.new(secret, digestmod="sha256")
