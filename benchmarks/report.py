"""`make bench-report`: writes the tables of docs/performance.md from one result of the benchmarks.

    python -m benchmarks.report [FILE]      default: the newest complete result
    python -m benchmarks.report --check     writes nothing; exit code 1 when the page differs from the figures

Each table is between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.__main__ import FORMAT, PARTS, RESULTS
from benchmarks.figures import number
from harness import CHECKOUT

PAGE = CHECKOUT / "docs" / "performance.md"
BLOCK = re.compile(r"(<!-- bench:(?P<name>\w+) -->\n).*?(<!-- /bench:(?P=name) -->)", re.DOTALL)
DESIGNS = ("product", "older", "blog", "bare DRF")
CASES = {
    "best": "256 connections, closed loop: the best",
    "within": "open loop, 70 % of the best",
    "beyond": "open loop, 200 % of the best",
    "crowd": "2,000 connections, closed loop",
}

Document = Mapping[str, Any]


class NoReport(Exception):
    """No report can be made. The text has the reason."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="?", type=Path, help="a JSON file of benchmarks/results/")
    parser.add_argument("--check", action="store_true", help="only compare the page with the figures")
    options = parser.parse_args(arguments)
    try:
        document = read(options.file or newest())
        page = render(document, PAGE.read_text())
    except NoReport as error:
        print(f"bench-report: {error}", file=sys.stderr)
        return 1
    stale = page != PAGE.read_text()
    if options.check:
        print(*([f"docs/performance.md differs from {document['file']}"] if stale else []), sep="\n", end="")
        return 1 if stale else 0
    PAGE.write_text(page)
    print(f"{document['file']}: docs/performance.md {'was changed' if stale else 'is up to date'}")
    return 0


def newest(*, committed: bool = False) -> Path:
    """The newest result of a complete run that was not a quick one. Raises NoReport."""
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
    raise NoReport("benchmarks/results/ has no complete run yet: `make bench` makes one.")


def read(file: Path) -> Document:
    """Raises NoReport."""
    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise NoReport(f"{file}: {error}") from error
    if document.get("format") != FORMAT:
        raise NoReport(f"{file.name} has another format: make a new result with `make bench`.")
    return {**document, "file": file.name}


def render(document: Document, page: str) -> str:
    """Fills the page's blocks with these figures. Raises NoReport."""
    names = [found["name"] for found in BLOCK.finditer(page)]
    if sorted(names) != sorted(TABLES):
        raise NoReport(f"docs/performance.md must have each of these blocks once: {', '.join(TABLES)}.")

    def fill(found: re.Match[str]) -> str:
        try:
            table = TABLES[found["name"]](document)
        except (KeyError, IndexError) as error:
            table = f"Not measured in this run: {error} is missing."
        return f"{found[1]}{table}\n{found[3]}"

    return BLOCK.sub(fill, page)


def against(document: Document) -> str:
    winners = document["web"]["medians"]["winners"]
    rows = []
    for design in DESIGNS:
        cells = [winners[f"{design}, {on}"] for on in (64, 256, 1_000) if f"{design}, {on}" in winners]
        if cells:
            title = f"the product at {document['older']}" if design == "older" else design
            rows.append([title, *(_winners(each) for each in cells)])
    head = ["winners a second, p99", "64 connections", "256", "1,000"]
    return markdown(head, rows)


def _winners(each: Mapping[str, float]) -> str:
    told = f", **{each['wrong']:.0%} told 503**" if each["wrong"] else ""
    return f"{number(each['per_sec'])}/s, {number(each['p99_ms'])} ms{told}"


def run(document: Document) -> str:
    machine, versions = document.get("machine", {}), document.get("versions", {})
    loads = " / ".join(f"{document[f'load_average_at_{when}'][0]:.1f}" for when in ("start", "end"))
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "commit")
    hardware = f"{machine.get('cpus')} CPUs ({machine.get('cpu')}), {machine.get('memory_gib')} GiB"
    return "\n".join(
        [
            f"- Raw figures: `benchmarks/results/{document['file']}`, begun {document['began_at']}, "
            f"{document['seconds'] / 60:.0f} minutes, {document['repeats']} repeats"
            + (", **small and quick: not for quoting**." if document["quick"] else "."),
            f"- Commit {versions.get('commit', 'unknown')}.",
            f"- Machine: {hardware}, Linux {machine.get('kernel')}; everything runs on it, clients too.",
            f"- Load average before / after: {loads}.",
            f"- Versions: {named}.",
            *(f"- **{name} failed**: {reason}" for name, reason in document["failed"].items()),
        ]
    )


def marks(document: Document) -> str:
    rows = [
        [
            mark["part"],
            mark["title"],
            f"{'≥' if mark['at_least'] else '≤'} {number(mark['limit'])}{mark['unit']}",
            f"{mark['value']:.4g}{mark['unit']}",
            "yes" if mark["reached"] else "**missed**",
        ]
        for mark in document["marks"]
    ]
    rows += [[name, "all of them", "", "", "**failed**"] for name in document["failed"]]
    reached = sum(mark["reached"] for mark in document["marks"])
    table = markdown(["part", "mark", "wanted", "measured", "reached"], rows)
    return f"{reached} of {len(document['marks'])} marks were reached.\n\n{table}"


def requests(document: Document) -> str:
    rows = [
        [
            kind,
            name,
            number(each["per_sec"]),
            f"{each['wrong']:.0%}" if kind == "winners" else "",
            *(number(each[figure]) for figure in ("p50_ms", "p99_ms", "web_cpu_us", "redis_cpu_us")),
            f"{each['client_share']:.0%}",
        ]
        for kind, targets in document["web"]["medians"].items()
        for name, each in targets.items()
    ]
    head = ["", "to whom, connections", "a second", "told 503", "p50 ms", "p99 ms", "web CPU µs", "Redis CPU µs"]
    return markdown([*head, "client, of one core"], rows)


def waits(document: Document) -> str:
    repeats = document["waits"]["repeats"]

    def middle(case: str, *names: str) -> str:
        values = [each[case] for each in repeats]
        for name in names:
            values = [value.get(name) if isinstance(value, dict) else None for value in values]
        numbers = [value for value in values if value is not None]
        return number(median(numbers)) if numbers else ""

    rows = [
        [
            title,
            middle(case, "offered_per_sec"),
            middle(case, "goodput_per_sec"),
            *(middle(case, "admitted_ms", figure) for figure in ("p50", "p99", "max")),
            *(middle(case, "refused_ms", figure) for figure in ("p50", "max")),
            middle(case, "sent_late_p99_ms"),
        ]
        for case, title in CASES.items()
    ]
    head = [
        "load",
        "asked/s",
        "admitted/s",
        "202: p50 ms",
        "p99",
        "longest",
        "503: p50 ms",
        "longest",
        "sent late, p99 ms",
    ]
    return markdown(head, rows)


def notes(document: Document) -> str:
    found = [note for part in PARTS for note in document[part].get("notes", {}).items()]
    return markdown(["what", "takes"], found)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


TABLES: dict[str, Callable[[Document], str]] = {
    "against": against,
    "run": run,
    "marks": marks,
    "requests": requests,
    "waits": waits,
    "notes": notes,
}

if __name__ == "__main__":
    sys.exit(main())
