r"""Reads a file of KEY=value lines, such as `.env`, for the settings and for bin/stack, which has no packages yet.

    # a comment
    KEY=value with blanks  # a comment, as a blank stands before the #
    export KEY='what stands here $is #taken as it is'
    KEY="a \" and a \$ behind a backslash"

Every value means what docker compose takes it for, which reads the same `.env` (tried with compose-go 2.4), and in
quotes also what a shell does. A line that these would read in different ways is refused, by its number: its text may
be a secret.
"""

import re
from pathlib import Path

_ASSIGNMENT = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=(.*)")
_QUOTED = re.compile(r"""('[^']*'|"(?:[^"\\]|\\.)*")(?:[ \t]*|[ \t]+#.*)""")
_COMMENT = re.compile(r"[ \t]+#.*")
_ESCAPED = re.compile(r"\\(.)")


class BadLine(ValueError):
    """The text names the line by its number, says what to write instead, and repeats nothing of it."""


def read_env_file(file: Path) -> dict[str, str]:
    """Returns the values by name; the last line of a name counts. Raises BadLine or OSError."""
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise BadLine(f"{file}, line {number}: it is not UTF-8 text.") from None
    try:
        return parse(text)
    except BadLine as error:
        raise BadLine(f"{file}, {error}") from None


def parse(text: str) -> dict[str, str]:
    """Raises BadLine."""
    found = {}
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()  # noqa: PLW2901  also the carriage return of a file from Windows
        if not line or line.startswith("#"):
            continue
        try:
            name, value = _read(line)
        except BadLine as error:
            raise BadLine(f"line {number}: {error}") from None
        found[name] = value
    return found


def _read(line: str) -> tuple[str, str]:
    assignment = _ASSIGNMENT.fullmatch(line)
    if assignment is None or "\0" in line:
        raise BadLine("it is no KEY=value.")
    name, text = assignment[1], assignment[2]
    value = text.strip()
    if value.startswith(("'", '"')):
        return name, _unquoted(value)
    if value.startswith("#") and text != value:
        raise BadLine("its value begins with a #: put a value in quotes, a comment on a line of its own.")
    value = _COMMENT.sub("", value)
    if "$" in value:
        raise BadLine("its value has a $, which a shell and docker compose replace: put it in single quotes.")
    return name, value


def _unquoted(text: str) -> str:
    quoted = _QUOTED.fullmatch(text)
    if quoted is None:
        raise BadLine("its value has no closing quote, or something behind it.")
    value = quoted[1][1:-1]
    if quoted[1].startswith("'"):
        if value.endswith("\\"):
            raise BadLine("its value ends with a backslash: put it in double quotes, as \\\\.")
        return value
    if re.search(r"""[$`]|\\[^\\"$`]""", re.sub(r"""\\[\\"$`]""", "", value)):
        raise BadLine("its double quotes hold a $, a ` or a backslash of its own: use single quotes.")
    return _ESCAPED.sub(r"\1", value)
