"""KEY=value files that a shell (`set -a; . FILE`) and django-environ's read_env read in the same way."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=\[\]-]*")
_LINE = re.compile(r"(?:export )?([A-Za-z_][A-Za-z_0-9]*)=(.*)")


def quote(value: str) -> str:
    """Formats a value for the right side of `=`; quotes it only where a shell needs that."""
    if "\n" in value or "\r" in value:
        raise ValueError("an environment file cannot hold a line break")
    if _PLAIN.fullmatch(value):
        return value
    if "'" not in value:
        return f"'{value}'"
    return '"' + re.sub(r'([\\"$`])', r"\\\1", value) + '"'


def unquote(text: str) -> str:
    """Reverses `quote`."""
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1]
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def parse(text: str) -> dict[str, str]:
    """Reads the settings of an environment file in order, without comments and blank lines."""
    found = (_LINE.fullmatch(line) for line in text.splitlines())
    return {match[1]: unquote(match[2]) for match in found if match}


def render(settings: Mapping[str, str]) -> str:
    """Formats KEY=value lines that `parse` reads back."""
    return "".join(f"{name}={quote(value)}\n" for name, value in settings.items())


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read. The replacement is atomic: a reader never sees half of the text."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    # mkstemp created it with mode 0600; crash here => a stray dot file in the stack's own folder
    Path(temporary).replace(path)
