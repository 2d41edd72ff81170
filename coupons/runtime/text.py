"""Makes invisible characters of texts from outside visible, on pages and in the log. The templates escape HTML."""

import logging
import re
import unicodedata

# Controls, formats (bidi overrides, zero-width), surrogates, private use, unassigned, line separators.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_MAYBE = re.compile(r"[^\t\n\x20-\x7e]")
_CONTROL = re.compile(r"[^\x20-\x7e]")


def make_visible(text: str) -> str:
    """Shows characters that are invisible, or reverse the direction of text, as ⟨U+202E⟩."""
    return text if text.isprintable() else _MAYBE.sub(_named, text)


def escape_for_log(text: str) -> str:
    r"""Escapes the same characters, and line ends, as \x1b, \u202e, \n."""
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
    return found[0] if _is_visible(found[0]) else f"⟨U+{ord(found[0]):04X}⟩"


def _escaped(found: re.Match[str]) -> str:
    return found[0] if _is_visible(found[0]) else found[0].encode("unicode_escape").decode()


def _is_visible(character: str) -> bool:
    return unicodedata.category(character) not in _INVISIBLE
