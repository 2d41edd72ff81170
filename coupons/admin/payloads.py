"""Makes a message's payload readable, whatever bytes it has."""

import json
from dataclasses import dataclass

from coupons.runtime.text import make_visible

MAX_TEXT_SHOWN = 64 * 1024  # characters
MAX_BYTES_DUMPED = 4 * 1024


@dataclass(frozen=True, slots=True)
class ReadablePayload:
    """`text` is indented JSON, plain text, or a hex dump of anything else.

    `raw` is the JSON as received: indenting hides a duplicate key, for example.
    """

    kind: str
    size: int
    text: str
    raw: str = ""


def readable_payload(payload: bytes) -> ReadablePayload:
    size = len(payload)
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return ReadablePayload("not UTF-8, as a hex dump", size, _hex_dump(payload))
    raw = _truncate(text)
    try:
        document = json.loads(text)
        indented = json.dumps(document, indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return ReadablePayload("text", size, raw)
    return ReadablePayload("JSON", size, _truncate(indented), raw)


def _truncate(text: str) -> str:
    shown = make_visible(text[:MAX_TEXT_SHOWN])
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
