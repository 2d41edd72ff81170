"""`make bench-report`: writes the tables of docs/performance.md from one result of the benchmarks.

Each table is between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.__main__ import FORMAT, RESULTS
from benchmarks.figures import number
from couponsite.terminal import make_printing_harmless
from harness import CHECKOUT

PAGE = CHECKOUT / "docs" / "performance.md"
FIRST_PARTS = ("web", "waits", "consumer", "memory", "ledger", "growth")
"""The parts of a result that does not name them. A part that is added later makes no older result incomplete."""
BLOCK = re.compile(r"(<!-- bench:(?P<name>\w+) -->\n).*?(<!-- /bench:(?P=name) -->)", re.DOTALL)
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
    parser = argparse.ArgumentParser(prog="report", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="a JSON file; default: the newest of benchmarks/results/")
    options = parser.parse_args(arguments)
    try:
        document = read(options.file or newest(RESULTS.glob("*.json")))
        before = PAGE.read_text()
        page = render(document, before)
    except NoReport as error:
        print(f"bench-report: {error}", file=sys.stderr)
        return 1
    PAGE.write_text(page)
    print(f"{document['file']}: docs/performance.md {'is up to date' if page == before else 'was changed'}")
    return 0


def newest(files: Iterable[Path]) -> Path:
    """The newest result of a complete run that was not a quick one. Raises NoReport."""
    for file in sorted(files, reverse=True):
        document = json.loads(file.read_text())
        if document.get("format") != FORMAT or document["quick"] or not document["complete"]:
            continue
        if set(document["only"]) == set(document.get("parts", FIRST_PARTS)):
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
    older = f"the product at {document['older']}"
    rows = [
        [title, *(_winners(winners[f"{name}, {on}"]) for on in (64, 256, 1_000))]
        for name, title in (("product", "product"), ("older", older), ("blog", "blog"), ("bare DRF", "bare DRF"))
        if f"{name}, 64" in winners
    ]
    return markdown(["winners a second, p99", "64 connections", "256", "1,000"], rows)


def _winners(each: Mapping[str, float]) -> str:
    told = f", **{each['wrong']:.0%} told 503**" if each["wrong"] else ""
    return f"{number(each['per_sec'])}/s, {number(each['p99_ms'])} ms{told}"


def run(document: Document) -> str:
    machine, versions = document.get("machine", {}), document.get("versions", {})
    loads = " / ".join(f"{document[f'load_average_at_{when}'][0]:.1f}" for when in ("start", "end"))
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "commit")
    hardware = f"{machine.get('cpus')} CPUs ({machine.get('cpu')}), {machine.get('memory_gib')} GiB"
    quick = ", **small and quick: not for quoting**" if document["quick"] else ""
    began = f"begun {document['began_at']}, {document['seconds'] / 60:.0f} minutes, {document['repeats']} repeats"
    lines = [
        f"- Raw figures: `benchmarks/results/{document['file']}`, {began}{quick}.",
        f"- Commit {versions.get('commit', 'unknown')}.",
        f"- Machine: {hardware}, Linux {machine.get('kernel')}; everything runs on it, clients too.",
        f"- Load average before / after: {loads}.",
        f"- Versions: {named}.",
        *(f"- **{name} failed**: {reason}" for name, reason in document["failed"].items()),
    ]
    return "\n".join(lines)


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

    def middle(figures: list[dict[str, float]], name: str) -> str:
        found = [each[name] for each in figures if name in each]
        return number(median(found)) if found else ""

    rows = []
    for case, title in CASES.items():
        loops = [each[case] for each in repeats]
        admitted, refused = ([loop[kind] for loop in loops] for kind in ("admitted_ms", "refused_ms"))
        cells = [middle(loops, "offered_per_sec"), middle(loops, "goodput_per_sec")]
        cells += [middle(admitted, figure) for figure in ("p50", "p99", "max")]
        cells += [middle(refused, figure) for figure in ("p50", "max")]
        rows.append([title, *cells, middle(loops, "sent_late_p99_ms")])
    head = ["load", "asked/s", "admitted/s", "202: p50 ms", "p99", "longest", "503: p50 ms", "longest"]
    return markdown([*head, "sent late, p99 ms"], rows)


def notes(document: Document) -> str:
    found = [note for part in document["only"] for note in document[part].get("notes", {}).items()]
    return markdown(["what", "takes"], found)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


TABLES = {table.__name__: table for table in (against, run, marks, requests, waits, notes)}

if __name__ == "__main__":
    make_printing_harmless()
    sys.exit(main())
