"""`make bench`: speed and memory in one run on the running stack; ratios first, raw figures as JSON.

Each part is a process of its own with a database, a topic and a group of its own (part.py): one that fails is recorded
with its reason, and the others still run.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.arguments import positive
from benchmarks.figures import Mark
from benchmarks.processes import end_session
from benchmarks.services import CHECKOUT, log_folder

RESULTS = Path(__file__).parent / "results"
FORMAT = 2
"""Of the JSON file; raised when a reader of the former one would misread it."""
PARTS = (
    "lobby",
    "open",
    "callers",
    "overload",
    "consumer",
    "storm",
    "click",
    "redis",
    "ledger",
    "retry",
    "growth",
)
ABOUT = ("machine", "versions", "settings")
PART_LIMIT_SEC = 900.0
CLEAN_UP_SEC = 90.0
EXIT_FAILED, EXIT_MARK_MISSED, EXIT_INTERRUPTED = 1, 3, 130


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not os.environ.get("DATABASE_URL"):
        print("bench: DATABASE_URL is not set: use `make bench`, or `bin/stack exec -- ...`.", file=sys.stderr)
        return EXIT_FAILED
    began, moment = time.monotonic(), datetime.now(UTC)
    file = options.out or RESULTS / f"{moment:%Y%m%dT%H%M%SZ}{'-quick' if options.quick else ''}.json"
    document = new_document(options, moment)
    try:
        for name in options.only:
            add_part(document, name, run_part(name, options))
            document["seconds"] = round(time.monotonic() - began, 1)
            write(file, document)
    except KeyboardInterrupt:
        print("bench: interrupted; its processes have ended, its database and topic are removed.", file=sys.stderr)
        return EXIT_INTERRUPTED
    document |= {"complete": True, "load_average_at_end": os.getloadavg()}
    write(file, document)
    return report(file, document)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and once: does it run? Not for quoting")
    parser.add_argument("--large", action="store_true", help="growth to 10 M coupons instead of 1 M: minutes more")
    parser.add_argument("--repeats", type=positive, help="default 3, quick 1")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some of the parts")
    parser.add_argument("--out", type=Path, help="the JSON file; default: a new one in benchmarks/results/")
    options = parser.parse_args(arguments)
    options.repeats = options.repeats or (1 if options.quick else 3)
    return options


def new_document(options: argparse.Namespace, moment: datetime) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "began_at": moment.isoformat(timespec="seconds"),
        "quick": options.quick,
        "large": options.large,
        "repeats": options.repeats,
        "only": list(options.only),
        "complete": False,
        "load_average_at_start": os.getloadavg(),
        "failed": {},
        "marks": [],
    }


def run_part(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """What the part's process wrote, or `failed` with the reason."""
    print(f"{name}:", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "part.json"
        command = [sys.executable, "-m", "benchmarks.part", name, "--repeats", str(options.repeats), "--out", str(out)]
        command += [f"--{flag}" for flag in ("quick", "large") if getattr(options, flag)]
        # a session of its own: a Ctrl-C of the terminal reaches us alone, and the part hears it once
        process = subprocess.Popen(command, cwd=CHECKOUT, start_new_session=True)
        try:
            code = process.wait(PART_LIMIT_SEC)
            part = json.loads(out.read_text()) if out.exists() else {"failed": f"its process ended with {code}"}
        except subprocess.TimeoutExpired:
            part = {"failed": f"not done after {PART_LIMIT_SEC:.0f} s"}
        finally:
            _end(process)
    return {**part, "seconds": round(time.monotonic() - began, 1)}


def _end(process: subprocess.Popen[bytes]) -> None:
    """It ends its own services and removes its database, if it can."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(CLEAN_UP_SEC)
        except subprocess.TimeoutExpired:
            end_session(process.pid)
            process.wait()


def add_part(document: dict[str, Any], name: str, part: dict[str, Any]) -> None:
    for about in ABOUT:
        document.setdefault(about, part[about]) if about in part else None
    document["marks"] += [{"part": name, **mark} for mark in part.get("marks", [])]
    document[name] = {**part.get("figures", {}), "seconds": part["seconds"]}
    if "failed" in part:
        document["failed"][name] = part["failed"]
        print(f"  FAILED: {part['failed']}", flush=True)


def write(file: Path, document: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(document, indent=1) + "\n")
    fresh.rename(file)


def report(file: Path, document: dict[str, Any]) -> int:
    """Prints marks and failures; the exit code."""
    marks = [Mark(**{field: mark[field] for field in Mark.__slots__}) for mark in document["marks"]]
    print(f"raw figures: {file}, after {document['seconds'] / 60:.1f} minutes; services' logs: {log_folder()}")
    print("\nMarks:", *marks, sep="\n  ")
    for name, reason in document["failed"].items():
        print(f"  {name}: FAILED: {reason}")
    if document["failed"]:
        return EXIT_FAILED
    # a quick run is too short for a verdict
    return 0 if document["quick"] or all(mark.reached for mark in marks) else EXIT_MARK_MISSED


if __name__ == "__main__":
    sys.exit(main())
