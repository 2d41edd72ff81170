"""KEY=value files that both a shell (`set -a; . FILE`) and django-environ's read_env read alike."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=\[\]-]*")
_LINE = re.compile(r"(?:export )?([A-Za-z_][A-Za-z_0-9]*)=(.*)")


def quote(value: str) -> str:
    """The value as it stands after the `=`; quoted only where a shell needs it."""
    if "\n" in value or "\r" in value:
        raise ValueError("an environment file cannot hold a line break")
    if _PLAIN.fullmatch(value):
        return value
    if "'" not in value:
        return f"'{value}'"
    return '"' + re.sub(r'([\\"$`])', r"\\\1", value) + '"'


def unquote(text: str) -> str:
    """What `quote` was given."""
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1]
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def parse(text: str) -> dict[str, str]:
    """The settings of an environment file, in its order; comments and blank lines are skipped."""
    found = (_LINE.fullmatch(line) for line in text.splitlines())
    return {match[1]: unquote(match[2]) for match in found if match}


def render(settings: Mapping[str, str]) -> str:
    """KEY=value lines that `parse` reads back."""
    return "".join(f"{name}={quote(value)}\n" for name, value in settings.items())


def write_private(path: Path, text: str) -> None:
    """The file holds this text and only its owner may read it; a reader never sees half of it."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    # mkstemp made it 0600; crash here => a stray dot file in the stack's own folder
    Path(temporary).replace(path)
