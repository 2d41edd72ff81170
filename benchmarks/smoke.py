"""`make bench-smoke`: runs every part small and once, to see whether the benchmarks work.

Exits 0 only if each part gave figures and marks that are numbers, and the page can be written from them.
"""

import json
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.__main__ import ABOUT, PARTS
from benchmarks.__main__ import main as run
from benchmarks.report import PAGE, NoReport, read, render


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "smoke.json"
        code = run(["--quick", "--out", str(file)])
        if not file.exists():
            return code or 1
        faults = find_faults(json.loads(file.read_text()))
        try:
            faults += ["the page has `Not measured`"] if "Not measured" in render(read(file), PAGE.read_text()) else []
        except NoReport as error:
            faults.append(str(error))
    print(*(f"bench-smoke: {fault}" for fault in faults), sep="\n", file=sys.stderr)
    print("bench-smoke: the benchmarks work." if not faults else "bench-smoke: the benchmarks do not work.")
    return 1 if faults else code


def find_faults(document: dict[str, Any]) -> list[str]:
    """Lists what the document of a complete run lacks."""
    faults = [f"{name} failed: {reason}" for name, reason in document["failed"].items()]
    faults += [f"{about} is missing" for about in ABOUT if not document.get(about)]
    marked = {mark["part"] for mark in document["marks"]}
    for name in set(PARTS) - document["failed"].keys():
        if set(document.get(name, {})) <= {"seconds"} or name not in marked:
            faults.append(f"{name} gave no figures or no marks")
        faults += [f"{path} is not a number" for path in _no_numbers(document.get(name, {}), name)]
    return faults + [f"mark without a number: {each['title']}" for each in document["marks"] if _is_none(each["value"])]


def _no_numbers(value: Any, path: str) -> Iterator[str]:
    """The paths of NaNs and infinities in the value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inside:
        yield from _no_numbers(each, f"{path}/{name}")
    if _is_none(value):
        yield path


def _is_none(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


if __name__ == "__main__":
    sys.exit(main())
