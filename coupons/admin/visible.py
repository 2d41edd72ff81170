"""Texts from outside, so that what is read on a page is what is there. Escaping is the template's."""

import json
import unicodedata
from dataclasses import dataclass

MAX_TEXT_SHOWN = 64 * 1024  # characters
MAX_BYTES_DUMPED = 4 * 1024
# Controls, formats (bidi overrides, zero-width), surrogates, private use, unassigned, line separators.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@dataclass(frozen=True, slots=True)
class ReadablePayload:
    """`text` is the payload for people: JSON indented, other text as it is, anything else as a hex dump.

    `raw` is the text as received where `text` is not: indenting hides a key that stands twice, for example.
    """

    kind: str
    size: int
    text: str
    raw: str = ""


def visible(text: str) -> str:
    """Characters that have no shape of their own, or turn their neighbours round, as ⟨U+202E⟩."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def readable_payload(payload: bytes) -> ReadablePayload:
    size = len(payload)
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return ReadablePayload("not UTF-8, as a hex dump", size, _hex_dump(payload))
    raw = _cut(text)
    try:
        document = json.loads(text)
        indented = json.dumps(document, indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return ReadablePayload("text", size, raw)
    return ReadablePayload("JSON", size, _cut(indented), raw)


def _shown(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _INVISIBLE:
        return character
    return f"\N{MATHEMATICAL LEFT ANGLE BRACKET}U+{ord(character):04X}\N{MATHEMATICAL RIGHT ANGLE BRACKET}"


def _cut(text: str) -> str:
    shown = visible(text[:MAX_TEXT_SHOWN])
    left = len(text) - MAX_TEXT_SHOWN
    return shown if left <= 0 else f"{shown}\n… {left:,} more characters"


def _hex_dump(payload: bytes) -> str:
    lines = []
    for start in range(0, min(len(payload), MAX_BYTES_DUMPED), 16):
        row = payload[start : start + 16]
        printable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:06x}  {row.hex(' '):<47}  {printable}")
    left = len(payload) - MAX_BYTES_DUMPED
    if left > 0:
        lines.append(f"… {left:,} more bytes")
    return "\n".join(lines)
