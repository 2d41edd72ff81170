"""Writes docs/api.md's table of problems: `.venv/bin/python -m tests.support.problem_table`."""

import os
import re
import sys
from pathlib import Path

import django

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "api.md"
_BLOCK = re.compile(r"(<!-- problems: .*? -->\n).*?(<!-- end -->)", re.DOTALL)


def problem_table() -> str:
    from coupons.api.problems import KINDS  # run as a program, Django is set up only by then

    rows = [f"| `{code}` | {kind.status} | {kind.title} | {kind.advice} |" for code, kind in KINDS.items()]
    return "\n".join(["| code | status | title | what a client does |", "|---|---|---|---|", *rows, ""])


def with_table(text: str) -> str:
    """The document with today's table between its two marks."""
    return _BLOCK.sub(lambda match: f"{match[1]}{problem_table()}{match[2]}", text)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "couponsite.settings")
    django.setup()
    DOCUMENT.write_text(with_table(DOCUMENT.read_text()))
    sys.stdout.write(f"wrote {DOCUMENT}\n")
