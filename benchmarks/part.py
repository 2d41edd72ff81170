"""One part of the benchmarks in this process: `python -m benchmarks.part NAME --out FILE`; `make bench` runs them all.

The file gets figures, marks and what they were measured on, or `failed` with the reason.
"""

import argparse
import importlib
import json
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from benchmarks import sandbox
from benchmarks.__main__ import EXIT_FAILED, EXIT_INTERRUPTED, PARTS
from benchmarks.arguments import positive
from benchmarks.services import log_folder

MODULES = {
    "lobby": "lobby_speed",
    "open": "open_loop",
    "callers": "caller_cost",
    "overload": "overload",
    "consumer": "consumer_speed",
    "storm": "storm",
    "click": "click_to_row",
    "redis": "redis_memory",
    "ledger": "ledger_speed",
    "retry": "retry_speed",
    "growth": "growth",
}
"""Each has `measure(run)`, which returns figures and marks. Imported when Django is set up."""


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        part = measure(options)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001  whatever it is: recorded, and the other parts go on
        traceback.print_exc()
        part = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}  # the rest is a log's end
    options.out.write_text(json.dumps(part))
    return EXIT_FAILED if "failed" in part else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.part", description=__doc__)
    parser.add_argument("name", choices=PARTS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with sandbox.sandbox() as server:
        from benchmarks import machine  # models can be imported only after setup()
        from benchmarks.workload import Run

        run = Run(options.quick, options.repeats, log_folder(), server, large=options.large)
        figures, marks = importlib.import_module(f"benchmarks.{MODULES[options.name]}").measure(run)
        return {"figures": figures, "marks": [mark.document() for mark in marks], **machine.describe()}


if __name__ == "__main__":
    sys.exit(main())
