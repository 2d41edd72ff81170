"""`make bench-report`: plots and tables of docs/performance.md from one result of the benchmarks.

    python -m benchmarks.report [FILE]      the newest whole result, if none is named
    python -m benchmarks.report --check     writes nothing; exit code 1 when the page is not what the figures say

Tables stand between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`, plots in docs/performance/.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.__main__ import FORMAT, PARTS, RESULTS
from benchmarks.report_tables import TABLES, Document, cpu_rows, row_rows, wait_rows
from benchmarks.services import CHECKOUT
from benchmarks.svg_bars import Bars, draw

PAGE = CHECKOUT / "docs" / "performance.md"
BLOCK = re.compile(r"(<!-- bench:(?P<name>\w+) -->\n).*?(<!-- /bench:(?P=name) -->)", re.DOTALL)


class NoReport(Exception):
    """The text says why there can be none."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="?", type=Path, help="a JSON file of benchmarks/results/")
    parser.add_argument("--check", action="store_true", help="compare with what is written")
    options = parser.parse_args(arguments)
    try:
        document = read(options.file or newest())
        written = render(document, PAGE.read_text())
    except NoReport as error:
        print(f"bench-report: {error}", file=sys.stderr)
        return 1
    stale = [name for name, text in written.items() if _read(name) != text]
    if options.check:
        print(*(f"docs/{name} is not what {document['file']} says" for name in stale), sep="\n", end="")
        return 1 if stale else 0
    for name, text in written.items():
        file = PAGE.parent / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    print(f"{document['file']}: {len(written)} files, {len(stale)} of them changed")
    return 0


def newest(*, committed: bool = False) -> Path:
    """The newest result of a whole run that is no quick one. Raises NoReport."""
    files = sorted(RESULTS.glob("*.json"), reverse=True)
    if committed:
        command = ["git", "-C", str(RESULTS), "ls-files", "--", "*.json"]
        known = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        files = [file for file in files if file.name in known]
    for file in files:
        document = json.loads(file.read_text())
        if document.get("format") != FORMAT or document["quick"] or not document["complete"]:
            continue
        if set(document["only"]) == set(PARTS):
            return file
    raise NoReport("benchmarks/results/ has no whole run yet: `make bench` makes one.")


def read(file: Path) -> Document:
    """Raises NoReport."""
    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise NoReport(f"{file}: {error}") from error
    if document.get("format") != FORMAT:
        raise NoReport(f"{file.name} is of another format: make a new one with `make bench`.")
    return {**document, "file": file.name}


def render(document: Document, page: str) -> dict[str, str]:
    """Name of each file below docs/ and what is in it. Raises NoReport."""
    names = [found["name"] for found in BLOCK.finditer(page)]
    if sorted(names) != sorted(TABLES):
        raise NoReport(f"docs/performance.md must have each of these blocks once: {', '.join(TABLES)}.")

    def fill(found: re.Match[str]) -> str:
        return f"{found[1]}{_or_missing(TABLES[found['name']], document)}\n{found[3]}"

    return {"performance.md": BLOCK.sub(fill, page), **plots(document)}


def plots(document: Document) -> dict[str, str]:
    """The same names whatever failed: a plot without figures says so by being empty."""

    def requests() -> Bars:
        rates = {name: {"answers": each["per_sec"]} for name, each in document["lobby"]["medians"].items()}
        return Bars("Answers a second", "per second", rates)

    def cpu() -> Bars:
        return Bars("CPU time of one request, by who takes it", "µs", cpu_rows(document), stacked=True)

    def waits() -> Bars:
        return Bars("How long a user waits for the answer", "ms", wait_rows(document))

    def rows() -> Bars:
        return Bars("Rows a second", "per second", {name: {"rows": rate} for name, rate in row_rows(document).items()})

    drawn = {}
    for make in (requests, cpu, waits, rows):
        try:
            bars = make()
        except (KeyError, IndexError):
            bars = Bars("Not measured in this run", "", {})
        drawn[f"performance/{make.__name__}.svg"] = draw(bars)
    return drawn


def _or_missing(table: Callable[[Document], str], document: Document) -> str:
    try:
        return table(document)
    except (KeyError, IndexError) as error:
        return f"Not measured in this run: {error} is missing."


def _read(name: str) -> str:
    file = PAGE.parent / name
    return file.read_text() if file.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
