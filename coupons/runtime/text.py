"""Makes invisible characters of texts from outside visible, on pages and in the log, and composes texts on entry.

The templates escape HTML.
"""

import logging
import re
import sys
import unicodedata

# Controls, formats (bidi overrides, zero-width), surrogates, private use, unassigned, line separators.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# The flag of England and its like are a black flag, up to six tag letters, and the tag that ends them.
_MAYBE = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f|[^\\t\\n\\x20-\\x7e]")
_CONTROL = re.compile(r"[^\x20-\x7e]")
_NAMED = re.compile(r"⟨U\+([0-9A-F]{4,6})⟩")
_JOINERS = "\u200c\u200d"  # ZERO WIDTH NON-JOINER and JOINER
# Arabic to Sinhala, Myanmar, Khmer and Mongolian, and Arabic's presentation forms: a joiner between two such letters
# changes how they look, and often what they mean.
_NEEDS_JOINERS = re.compile("[\u0600-\u0dff\u1000-\u109f\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefc]")


def make_visible(text: str) -> str:
    """Shows characters that are invisible, or reverse the direction of text, as ⟨U+202E⟩.

    Joiners stay where they can be seen: in an emoji of several parts, and between letters of scripts that need them.
    """
    return text if text.isprintable() else _MAYBE.sub(_named, text)


def read_visible(text: str) -> str:
    """Undoes `make_visible` for what a page's form sends back, so that saving the form keeps such characters."""
    return _NAMED.sub(_restored, text)


def compose(text: str) -> str:
    """Returns the text in Unicode's form NFC. A name that a Mac sends as separate letters of Hangul is stored, and
    found, as the syllables that others type."""
    return unicodedata.normalize("NFC", text)


def escape_for_log(text: str) -> str:
    r"""Escapes the same characters, all joiners and line ends, as \x1b, \u202e, \n."""
    return text if text.isprintable() else _CONTROL.sub(_escaped, text)


class LineFormatter(logging.Formatter):
    """Formats a record as one line, whatever texts from outside are in it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's own name
        return escape_for_log(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802
        """Indents each line of a traceback, so that none looks like a record."""
        lines = super().formatException(ei).split("\n")  # type: ignore[arg-type]
        return "\n".join(f"  {escape_for_log(line)}" for line in lines)


def _named(found: re.Match[str]) -> str:
    character = found[0]
    if len(character) > 1 or _is_visible(character) or _joins(found.string, found.start()):
        return character
    return f"⟨U+{ord(character):04X}⟩"


def _restored(found: re.Match[str]) -> str:
    number = int(found[1], 16)
    if number > sys.maxunicode or _is_visible(chr(number)) or unicodedata.category(chr(number)) == "Cs":
        return found[0]
    return chr(number)


def _escaped(found: re.Match[str]) -> str:
    return found[0] if _is_visible(found[0]) else found[0].encode("unicode_escape").decode()


def _joins(text: str, at: int) -> bool:
    """Whether this character is a joiner that can be seen by what it does to its neighbours."""
    if text[at] not in _JOINERS or not 0 < at < len(text) - 1:
        return False
    before, after = text[at - 1], text[at + 1]
    if _NEEDS_JOINERS.match(before) and _NEEDS_JOINERS.match(after):
        return unicodedata.category(before)[0] in "LM" and unicodedata.category(after)[0] in "LM"
    # An emoji, its skin colour (Sk) or the selector of its coloured form (U+FE0F) before; a symbol after.
    is_emoji = unicodedata.category(before) in ("So", "Sk") or before == "\ufe0f"
    return text[at] == "\u200d" and is_emoji and unicodedata.category(after) in ("So", "Sm")


def _is_visible(character: str) -> bool:
    return unicodedata.category(character) not in _INVISIBLE
