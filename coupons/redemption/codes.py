"""Makes and reads the codes of coupons: `7Q2M-K0VX-94RT-D8HA`, 15 symbols of 5 bits and a check symbol.

A code is derived from its ticket with the campaign's code key, so a coupon that is written again after a restore has
the same code. The alphabet is Crockford's (https://www.crockford.com/base32.html): people may type O for 0, and I or L
for 1. docs/decisions/0034 has the reasons, also for a check symbol of the same alphabet.
"""

import hmac
import re
import unicodedata
from secrets import token_bytes
from typing import Final
from uuid import UUID

from django.conf import settings

from coupons.errors import OperatorError, UnknownCodeKey
from coupons.models import LOADED, Campaign, ErasedTicket

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
SYMBOLS: Final = 16
MAX_TYPED: Final = 64
"""No longer text is read as a code: 26 characters with a separator after each are 52."""
FORMER_LENGTH: Final = 26
"""Campaigns that were opened before code keys existed have random codes of A-Z and 2-7."""
FORMER_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

_SYMBOL_OF = bytes(ord(ALPHABET[byte % 32]) for byte in range(256))  # 32 divides 256: each symbol is as likely
_FORMER_SYMBOL_OF = bytes(ord(FORMER_ALPHABET[byte % 32]) for byte in range(256))
_VALUE_OF = {symbol: value for value, symbol in enumerate(ALPHABET)}
_MISREAD = str.maketrans("OIL", "011")
_IGNORED = {"Pd", "Cf"}  # Unicode's categories of dashes, and of what nobody sees
_MINUS = "\u2212"
_FORMER = re.compile(rf"[A-Z2-7]{{{FORMER_LENGTH}}}")
# Multiplies by x in the field of 32 elements (x^5 + x^2 + 1): each place of a code has a factor of its own, so a wrong
# symbol, and two symbols that changed places, always show.
_TIMES_X = [value << 1 if value < 16 else (value << 1) ^ 0b100101 for value in range(32)]


class InvalidCode(ValueError):
    """The text is no code. The message says why, and repeats none of it."""


def derive_code(secret: bytes, *, campaign_id: UUID, sequence: int, user_id: str) -> str:
    """Returns the code of a ticket."""
    return code_of(mac_of_campaign(secret, campaign_id), sequence=sequence, user_id=user_id)


def mac_of_campaign(secret: bytes, campaign_id: UUID) -> hmac.HMAC:
    """What all codes of a campaign begin with: a batch computes it once."""
    return hmac.new(secret, f"coupon code {campaign_id} ".encode(), "sha256")


def code_of(mac: hmac.HMAC, *, sequence: int, user_id: str) -> str:
    """Returns the code of a ticket of this campaign."""
    own = mac.copy()
    # The user id comes last: only it may have a space or a colon, so no two tickets make the same text.
    own.update(f"{sequence} {user_id}".encode())
    body = own.digest()[: SYMBOLS - 1]  # the lower 5 bits of each byte count
    check = 0
    for byte in body:
        check = _TIMES_X[check] ^ (byte & 31)
    return _with_hyphens(body.translate(_SYMBOL_OF).decode() + ALPHABET[_TIMES_X[check]])


def former_code() -> str:
    return token_bytes(FORMER_LENGTH).translate(_FORMER_SYMBOL_OF).decode()


def read_code(typed: str) -> str:
    """Returns the code as it is stored. Raises InvalidCode, for each code with one typing error and most with more."""
    if len(typed) > MAX_TYPED:
        raise InvalidCode(f"It is longer than {MAX_TYPED} characters.")
    # NFKC: an input method may send full-width letters. Editors turn hyphens into other dashes, and what is copied from
    # a page may have characters that nobody sees.
    normal = unicodedata.normalize("NFKC", typed).upper()
    plain = "".join(each for each in normal if not _is_ignored(each))
    if _FORMER.fullmatch(plain):
        return plain
    if len(plain) != SYMBOLS:
        raise InvalidCode(f"A code has {SYMBOLS} letters and digits; this one has {len(plain)}.")
    check = 0
    plain = plain.translate(_MISREAD)
    for symbol in plain:
        value = _VALUE_OF.get(symbol)
        if value is None:
            raise InvalidCode("A code has digits, and letters of A to Z but U.")
        check = _TIMES_X[check] ^ value
    if check:
        raise InvalidCode("A letter or digit is wrong, or two have changed places.")
    return _with_hyphens(plain)


def current_code_key() -> str:
    """Returns the id of the key that a campaign gets when it opens."""
    return next(iter(settings.CODE_KEYS))


def secret_of(key_id: str) -> bytes:
    """Raises UnknownCodeKey."""
    secret: bytes | None = settings.CODE_KEYS.get(key_id)
    if secret is None:
        raise UnknownCodeKey(_unknown(key_id))
    return secret


def unknown_code_keys() -> str:
    """Says which keys campaigns need that are not known here, and what to do; "" if none is missing."""
    unknown = Campaign.objects.filter(LOADED).exclude(code_key="").exclude(code_key__in=settings.CODE_KEYS)
    erased_with = ErasedTicket.objects.exclude(code_key__in=settings.CODE_KEYS)
    named = [rows.order_by().values_list("code_key", flat=True).distinct() for rows in (unknown, erased_with)]
    found = sorted({*named[0], *named[1]})
    return _unknown(", ".join(found)) if found else ""


def refuse_unknown_code_keys() -> None:
    """Raises OperatorError when coupons of a loaded campaign could not be issued, since its key is missing."""
    if text := unknown_code_keys():
        raise OperatorError(text)


def _unknown(keys: str) -> str:
    return (
        f"The codes of coupons are derived with the key {keys}, which is not known here. Name it in COUPON_CODE_KEYS, "
        'or the former Django secret in DJANGO_SECRET_KEY_FALLBACKS (docs/runbook.md, "Change a key").'
    )


def _is_ignored(character: str) -> bool:
    return character.isspace() or character == _MINUS or unicodedata.category(character) in _IGNORED


def _with_hyphens(plain: str) -> str:
    return f"{plain[:4]}-{plain[4:8]}-{plain[8:12]}-{plain[12:]}"
