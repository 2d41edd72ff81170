"""Shared code of the commands that generate a page of docs/ from records of passed tests."""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = CHECKOUT / "faults" / "results"


def make_document(
    arguments: Sequence[str] | None,
    *,
    prog: str,
    description: str | None,
    collect: Mapping[str, Callable[[list[Path]], None]],
    target: Path,
    text: Callable[[], str],
) -> int:
    """Writes the page and returns the exit code. Options of `collect` first read new records from folders."""
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for option in collect:
        parser.add_argument(
            option, dest=option, type=Path, nargs="+", metavar="FOLDER", help="collect records from these folders first"
        )
    given: dict[str, list[Path] | None] = vars(parser.parse_args(arguments))
    for option, folders in given.items():
        if folders:
            found = newest(folders)
            if not found:
                named = ", ".join(map(str, folders))
                print(f"{prog}: no records in {named}; `make test` writes them.", file=sys.stderr)
                return 2
            collect[option](found)
    target.write_text(text())
    print(f"wrote {target.relative_to(CHECKOUT)}")
    return 0


def newest(folders: Iterable[Path]) -> list[Path]:
    """Selects the latest record of each name from all workers of `make test`, sorted by name."""
    files = sorted(
        (file for folder in folders for file in folder.glob("*.json")), key=lambda file: file.stat().st_mtime
    )
    return [file for _, file in sorted({file.name: file for file in files}.items())]


def this_run() -> dict[str, str]:
    """The time of collection and the commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, timeout=10, check=False
    ).stdout.strip()
    return {"collected_at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit}
