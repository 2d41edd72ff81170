"""Writes docs/api.md's table of problems: `.venv/bin/python -m tests.support.problem_table`."""

import re
import sys
from pathlib import Path

from coupons.api.problems import KINDS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "api.md"
_BLOCK = re.compile(r"(<!-- problems: .*? -->\n).*?(<!-- end -->)", re.DOTALL)


def problem_table() -> str:
    rows = [f"| `{code}` | {kind.status} | {kind.title} | {kind.advice} |" for code, kind in KINDS.items()]
    return "\n".join(["| code | status | title | what a client does |", "|---|---|---|---|", *rows, ""])


def with_table(text: str) -> str:
    """The document with today's table between its two marks."""
    return _BLOCK.sub(lambda match: f"{match[1]}{problem_table()}{match[2]}", text)


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text()))
    sys.stdout.write(f"wrote {DOCUMENT}\n")
