"""Writes KEY=value files that a shell (`set -a; . FILE`) and couponsite/env_file.py read in the same way."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=\[\]-]*")


def quote(value: str) -> str:
    """Formats a value for the right side of `=`; quotes it only where a shell needs that."""
    if "\n" in value or "\r" in value:
        raise ValueError("an environment file cannot hold a line break")
    if _PLAIN.fullmatch(value):
        return value
    if "'" not in value and not value.endswith("\\"):
        return f"'{value}'"
    return '"' + re.sub(r'([\\"$`])', r"\\\1", value) + '"'


def render(settings: Mapping[str, str]) -> str:
    """Formats KEY=value lines."""
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
