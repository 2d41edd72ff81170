"""Makes docs/security-tests.md from results, so that nobody types it.

    make test && .venv/bin/python -m faults.attacks --collect .stack/test*/attacks
    make fuzz && .venv/bin/python -m faults.attacks --collect-fuzz .stack/test*/attacks-of-fuzz

A test that carries the mark `attack` leaves a record when it has passed (tests/conftest.py). `make fuzz` runs a few of
them for longer; its records are kept beside the others, with their own date and commit.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from faults.document import CHECKOUT, RESULTS, make_document, this_run

ATTACKS = RESULTS / "attacks.json"
FUZZ = RESULTS / "fuzz.json"
DOCUMENT = CHECKOUT / "docs" / "security-tests.md"
HEAD = """\
# What was tried against the service

Made by `python -m faults.attacks`; do not edit. Each row is a test that passed in this run. What is at stake, and what
stays with whoever runs the service: [SECURITY.md](../SECURITY.md).
"""


FUZZ_HEAD = """\
## For longer

The same tests as `make fuzz` runs them; each count is of what was sent or decoded.
"""


def main(arguments: list[str] | None = None) -> int:
    return make_document(
        arguments,
        prog="faults.attacks",
        description=__doc__,
        collect={"--collect": partial(_collect, ATTACKS), "--collect-fuzz": partial(_collect, FUZZ)},
        target=DOCUMENT,
        text=document,
    )


def document() -> str:
    lines = [HEAD, *_table(ATTACKS), "", FUZZ_HEAD, *_table(FUZZ), ""]
    return "\n".join(lines)


def _collect(results: Path, files: Iterable[Path]) -> None:
    run = {**this_run(), "records": [json.loads(file.read_text()) for file in files]}
    results.write_text(json.dumps(run, indent=1) + "\n")


def _table(results: Path) -> list[str]:
    run = json.loads(results.read_text())
    return [
        f"The run of {run['collected_at']}, commit {run['commit']}.",
        "",
        "| attack | how it was tried | answer | test |",
        "|---|---|---|---|",
        *(_row(record) for record in sorted(run["records"], key=lambda record: record["attack"])),
    ]


def _row(record: Mapping[str, Any]) -> str:
    test = record["test"].rpartition("/")[2]
    return f"| {record['attack']} | {record['tried']} | {record['answer']} | `{test}` |"


if __name__ == "__main__":
    sys.exit(main())
