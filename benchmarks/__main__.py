"""`make bench`: speed and memory in one run on the running stack; ratios first, raw figures as JSON."""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2.extensions

from benchmarks import sandbox
from benchmarks.arguments import positive
from benchmarks.figures import Mark
from benchmarks.services import ServiceFailed, log_folder

RESULTS = Path(__file__).parent / "results"
PARTS = ("lobby", "http", "callers", "overload", "consumer", "redis", "ledger", "retry")
EXIT_MARK_MISSED = 3


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with sandbox.sandbox() as server:
            return _measure(options, server)
    except (sandbox.NotReady, ServiceFailed) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; its processes have ended, its database and topic are removed.", file=sys.stderr)
        return 130


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and once: does it run? Not for quoting")
    parser.add_argument("--repeats", type=positive, help="default 3, quick 1")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some of the parts")
    parser.add_argument("--out", type=Path, help="the JSON file; default: a new one in benchmarks/results/")
    options = parser.parse_args(arguments)
    options.repeats = options.repeats or (1 if options.quick else 3)
    return options


def _measure(options: argparse.Namespace, server: psycopg2.extensions.connection) -> int:
    from benchmarks import (
        caller_cost,
        consumer_speed,
        http_speed,
        ledger_speed,
        lobby_speed,
        machine,
        overload,
        redis_memory,
        retry_speed,
    )
    from benchmarks.workload import Run

    run = Run(quick=options.quick, repeats=options.repeats, log_folder=log_folder())
    document: dict[str, Any] = {"began_at": datetime.now(UTC).isoformat(timespec="seconds"), **vars(options)}
    document |= machine.describe()
    parts: dict[str, Callable[[], tuple[dict[str, Any], list[Mark]]]] = {
        "lobby": lambda: lobby_speed.measure(run),
        "http": lambda: http_speed.measure(run),
        "callers": lambda: caller_cost.measure(run),
        "overload": lambda: overload.measure(run),
        "consumer": lambda: consumer_speed.measure(run),
        "redis": lambda: redis_memory.measure(run),
        "ledger": lambda: ledger_speed.measure(run),
        "retry": lambda: (retry_speed.measure(run, server), []),
    }
    marks: list[Mark] = []
    for name in options.only:
        began = time.monotonic()
        print(f"{name}:", flush=True)
        document[name], reached = parts[name]()
        document[name]["seconds"] = round(time.monotonic() - began, 1)
        marks += reached
    document["load_average_at_end"] = os.getloadavg()
    document["marks"] = [{"title": mark.title, "value": mark.value, "reached": mark.reached} for mark in marks]
    _write(options.out, document)
    print("\nMarks:", *marks, sep="\n  ")
    # a quick run is too short for a verdict
    return 0 if options.quick or all(mark.reached for mark in marks) else EXIT_MARK_MISSED


def _write(out: Path | None, document: dict[str, Any]) -> None:
    file = out or RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}{'-quick' if document['quick'] else ''}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    document["out"] = file.name
    file.write_text(json.dumps(document, indent=1) + "\n")
    print(f"raw figures: {file}")


if __name__ == "__main__":
    sys.exit(main())
