"""`make bench`: measures speed and memory on the running stack, prints the marks and writes raw figures as JSON.

All parts share a database, a topic and a consumer group that the run creates and removes. A part that fails is recorded
with its reason, and the others still run.
"""

import argparse
import importlib
import json
import os
import signal
import sys
import time
import traceback
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.figures import Mark
from benchmarks.sandbox import sandbox
from couponsite.terminal import make_printing_harmless
from harness import log_folder

RESULTS = Path(__file__).parent / "results"
FORMAT = 3
"""The version of the JSON file's format. Raise it when a reader of the old format would misread the new one."""
PARTS = ("web", "waits", "redemptions", "consumer", "memory", "ledger", "export", "growth")
"""The parts in the order of their run: the last ones leave a million rows. Each is a module with `measure(run)`, which
returns figures and marks."""
EXIT_FAILED, EXIT_MARK_MISSED, EXIT_INTERRUPTED = 1, 3, 130


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    moment = datetime.now(UTC)
    file = options.out or RESULTS / f"{moment:%Y%m%dT%H%M%SZ}{'-quick' if options.quick else ''}.json"
    document = new_document(options, moment)
    try:
        with sandbox() as server:
            from benchmarks.machine import describe  # models can only be imported after django.setup()
            from benchmarks.workload import Run

            document |= describe()
            run = Run(options.quick, options.repeats, log_folder(), server, options.older)
            for name in options.only:
                print(f"{name}:", flush=True)
                add_part(document, name, run)
                write(file, document)
    except KeyboardInterrupt:
        print("bench: interrupted; its processes, database and topic have been removed.", file=sys.stderr)
        return EXIT_INTERRUPTED
    document |= {"complete": True, "load_average_at_end": os.getloadavg()}
    write(file, document)
    return report(file, document)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run small and once; the figures mean nothing")
    parser.add_argument("--repeats", type=int, choices=range(1, 10), help="default 3, with --quick 1")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="run only these parts")
    parser.add_argument("--older", default="", metavar="COMMIT", help="the part `web` also measures this commit")
    parser.add_argument("--out", type=Path, help="the JSON file; default: a new file in benchmarks/results/")
    options = parser.parse_args(arguments)
    options.repeats = options.repeats or (1 if options.quick else 3)
    return options


def new_document(options: argparse.Namespace, moment: datetime) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "began_at": moment.isoformat(timespec="seconds"),
        "seconds": 0.0,
        "quick": options.quick,
        "older": options.older,
        "repeats": options.repeats,
        "only": list(options.only),
        "parts": list(PARTS),
        "complete": False,
        "load_average_at_start": os.getloadavg(),
        "failed": {},
        "marks": [],
    }


def add_part(document: dict[str, Any], name: str, run: Any) -> None:
    """Runs one part and adds its figures and marks, or the reason of its failure."""
    began, figures, marks = time.monotonic(), dict[str, Any](), list[Mark]()
    try:
        figures, marks = importlib.import_module(f"benchmarks.{name}").measure(run)
    except Exception as error:  # noqa: BLE001  any error is recorded, and the other parts still run
        traceback.print_exc()
        document["failed"][name] = f"{type(error).__name__}: {error}".splitlines()[0]  # the rest is the end of a log
    document[name] = {**figures, "seconds": round(time.monotonic() - began, 1)}
    document["seconds"] += document[name]["seconds"]
    document["marks"] += [{"part": name, **asdict(mark), "reached": mark.reached} for mark in marks]
    print(*marks, sep="\n", flush=True)


def write(file: Path, document: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(document, indent=1) + "\n")
    fresh.rename(file)


def report(file: Path, document: dict[str, Any]) -> int:
    """Prints marks and failures, and returns the exit code."""
    marks = [Mark(**{field: mark[field] for field in Mark.__slots__}) for mark in document["marks"]]
    print(f"raw figures: {file}, measured in {document['seconds'] / 60:.1f} minutes; services' logs: {log_folder()}")
    print("\nMarks:", *marks, sep="\n  ")
    for name, reason in document["failed"].items():
        print(f"  {name}: FAILED: {reason}")
    if document["failed"]:
        return EXIT_FAILED
    # a quick run is too short for a verdict
    return 0 if document["quick"] or all(mark.reached for mark in marks) else EXIT_MARK_MISSED


if __name__ == "__main__":
    make_printing_harmless()
    sys.exit(main())
