"""Makes docs/faults.md from results, so that nobody types it.

    make test && .venv/bin/python -m faults.table --collect .stack/test*/matrix

--collect takes the records of the scenario tests (tests/support/matrix.py) into faults/results/matrix.json first.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from faults.document import CHECKOUT, RESULTS, make_document, this_run
from faults.fault_rows import ROWS
from harness import describe_machine

MATRIX = RESULTS / "matrix.json"
DOCUMENT = CHECKOUT / "docs" / "faults.md"
MAX_ANSWERS = 4

HEAD = """\
# The fault matrix

What the service survives, seen with real processes and real servers. Made by `python -m faults.table`; do not edit.

Every scenario runs a crowd that applies over HTTP before, during and after the fault, and ends with two checks, user by
user: the verifier (`reconcile_campaigns`) compares Redis, Kafka and PostgreSQL, and the history checker
(`faults/history_check.py`) proves from what each user asked and was told that every promise was kept. A row stands here
only if all of that passed.
"""


def main(arguments: list[str] | None = None) -> int:
    return make_document(
        arguments,
        prog="faults.table",
        description=__doc__,
        collect={"--collect": collect},
        target=DOCUMENT,
        text=document,
    )


def collect(files: Iterable[Path]) -> None:
    """The records of one run into one file, with when, where and of which commit."""
    records = [json.loads(file.read_text()) for file in files]
    run = {**this_run(), "machine": describe_machine(), "records": records}
    MATRIX.write_text(json.dumps(run, indent=1) + "\n")


def document() -> str:
    """The whole text, from faults/results/."""
    matrix = json.loads(MATRIX.read_text())
    runs = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*-*.json"))]
    return "\n".join([HEAD, *_matrix(matrix), "", *_runs(runs)])


def _matrix(matrix: Mapping[str, Any]) -> list[str]:
    by_row: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for record in matrix["records"]:
        by_row[record["row"]].append(record)
    lines = [
        f"The run of {matrix['collected_at']}, commit {matrix['commit']}. *p99* is of the answers during the fault;",
        "*back after* is from the end of the fault until the next user was promised a coupon.",
        "",
        "| # | fault | what was done | answers during it | p99 | back after | then | test |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for number, (fault, expected) in ROWS.items():
        cells = [[*_cells(record), expected, _test(record)] for record in by_row[number]]
        cells = cells or [["not run", "", "", "", expected, ""]]
        lines += ["| " + " | ".join([str(number), fault, *row]) + " |" for row in cells]
    return lines


def _cells(record: Mapping[str, Any]) -> list[str]:
    answers = list(record["answers_during"].items())
    told = ", ".join(f"{times} x {answer}" for answer, times in answers[:MAX_ANSWERS])
    p99 = record["p99_sec_during"]
    back = ", ".join(f"{seconds:.1f} s" for seconds in record["recovery_sec"])
    return ["; ".join(record["faults"]), told, "" if p99 is None else f"{p99:.2f} s", back]


def _test(record: Mapping[str, Any]) -> str:
    return f"`{record['test'].rpartition('/')[2]}`"


def _runs(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "## Soak",
        "",
        "`make soak MINUTES=10 SEED=...`: a seeded schedule, several faults at once, rounds of 90 s; `ARGS=--kills`:",
        "SIGKILL to web, consumer, keeper, Redis, Kafka and PostgreSQL in turn, one every ten seconds. *p99*",
        "of all answers, and *until quiet*, are those of the worst round.",
        "",
        "| run | seed | ended | minutes | rounds | faults | requests | promised | p99 | until quiet | unexplained |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        rounds = run["rounds"]
        lines.append(
            f"| {run['kind']} | {run['seed']} | {run['ended_at']} | {run['minutes']} | {len(rounds)} "
            f"| {sum(len(each['steps']) for each in rounds)} | {sum(each['requests'] for each in rounds)} "
            f"| {sum(each['promised'] for each in rounds)} | {max(each['p99_sec'] for each in rounds):.2f} s "
            f"| {max(each['quiet_after_sec'] for each in rounds):.1f} s | {run['unexplained']} |"
        )
    return [*lines, ""]


if __name__ == "__main__":
    sys.exit(main())
