"""Makes docs/security-tests.md from results, so that nobody types it.

    make test && .venv/bin/python -m faults.attacks --collect .stack/test*/attacks

A test that carries the mark `attack` leaves a record when it has passed (tests/conftest.py).
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faults.table import CHECKOUT, RESULTS, newest

ATTACKS = RESULTS / "attacks.json"
DOCUMENT = CHECKOUT / "docs" / "security-tests.md"
HEAD = """\
# What was tried against the service

Made by `python -m faults.attacks`; do not edit. Each row is a test that passed in this run. What is at stake, and what
stays with whoever runs the service: [SECURITY.md](../SECURITY.md).
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="faults.attacks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--collect", type=Path, nargs="+", metavar="FOLDER", help="take the records of these folders first"
    )
    options = parser.parse_args(arguments)
    if options.collect:
        found = newest(options.collect)
        if not found:
            print("faults.attacks: no records there; `make test` writes them.", file=sys.stderr)
            return 2
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        run = {
            "collected_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit.stdout.strip(),
            "records": [json.loads(file.read_text()) for file in found],
        }
        ATTACKS.write_text(json.dumps(run, indent=1) + "\n")
    DOCUMENT.write_text(document())
    print(f"wrote {DOCUMENT.relative_to(CHECKOUT)}")
    return 0


def document() -> str:
    run = json.loads(ATTACKS.read_text())
    lines = [
        HEAD,
        f"The run of {run['collected_at']}, commit {run['commit']}.",
        "",
        "| attack | how it was tried | answer | test |",
        "|---|---|---|---|",
        *(_row(record) for record in sorted(run["records"], key=lambda record: record["attack"])),
        "",
    ]
    return "\n".join(lines)


def _row(record: Mapping[str, Any]) -> str:
    test = record["test"].rpartition("/")[2]
    return f"| {record['attack']} | {record['tried']} | {record['answer']} | `{test}` |"


if __name__ == "__main__":
    sys.exit(main())
