"""`make bench-smoke`: runs every part small and once, to see whether the benchmarks work.

Exits 0 only if each part gave figures and marks that are numbers, and the page can be written from them.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.__main__ import PARTS
from benchmarks.__main__ import main as run
from benchmarks.report import PAGE, read, render
from couponsite.terminal import make_printing_harmless


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "smoke.json"
        code = run(["--quick", "--out", str(file)])
        if not file.exists():
            return code or 1
        faults = find_faults(json.loads(file.read_text()))
        faults += ["the page has `Not measured`"] if "Not measured" in render(read(file), PAGE.read_text()) else []
    print(*(f"bench-smoke: {fault}" for fault in faults), sep="\n", file=sys.stderr)
    print("bench-smoke: the benchmarks work." if not faults else "bench-smoke: the benchmarks do not work.")
    return 1 if faults else code


def find_faults(document: dict[str, Any]) -> list[str]:
    """Lists what the document of a complete run lacks."""
    faults = [f"{name} failed: {reason}" for name, reason in document["failed"].items()]
    faults += [f"{about} is missing" for about in ("machine", "versions", "settings") if not document.get(about)]
    marked = {mark["part"] for mark in document["marks"]}
    for name in set(PARTS) - document["failed"].keys():
        if set(document.get(name, {})) <= {"seconds"} or name not in marked:
            faults.append(f"{name} gave no figures or no marks")
        faults += [f"{name} has a figure that is not a number"] if not _all_finite(document.get(name)) else []
    return faults + [f"mark without a number: {mark['title']}" for mark in document["marks"] if not _all_finite(mark)]


def _all_finite(figures: Any) -> bool:
    """Whether no figure is NaN or infinite, which JSON has no words for."""
    try:
        json.dumps(figures, allow_nan=False)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    make_printing_harmless()
    sys.exit(main())
