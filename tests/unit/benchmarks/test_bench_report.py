"""docs/performance.md is what the newest result says, and a run of the benchmarks goes on when a part fails."""

import copy
import math
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import __main__ as bench
from benchmarks import report, smoke
from benchmarks.report import BLOCK, PAGE, TABLES, NoReport, newest, read, render

SMALL = Path(__file__).parents[2] / "support" / "bench_small.json"
FIGURE = re.compile(r"\d[\d.,]*\s?(x|ms|µs|us|MiB|GiB|%|/s|s|seconds|minutes|rows|requests|times)\b")


@pytest.fixture
def small() -> dict[str, Any]:
    return dict(read(SMALL))


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: dict[str, Any]) -> Path:
    """A page that is in step with the small result."""
    file = tmp_path / "docs" / "performance.md"
    file.parent.mkdir()
    file.write_text(PAGE.read_text())
    monkeypatch.setattr(report, "PAGE", file)
    assert report.main([str(SMALL)]) == 0
    return file


def test_the_page_is_what_the_newest_committed_result_says() -> None:
    command = ["git", "ls-files", "*.json"]
    listed = subprocess.run(command, cwd=bench.RESULTS, capture_output=True, text=True, check=True).stdout
    file = newest(bench.RESULTS / name for name in listed.splitlines())
    assert render(read(file), PAGE.read_text()) == PAGE.read_text()


def test_a_small_result_fills_every_table(small: dict[str, Any]) -> None:
    page = render(small, PAGE.read_text())
    assert "Not measured" not in page
    assert "nan" not in page.lower()
    assert set(TABLES) == {found["name"] for found in BLOCK.finditer(page)}


def test_a_figure_that_somebody_typed_is_replaced(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = page.read_text()
    assert report.main([str(SMALL)]) == 0
    assert "docs/performance.md is up to date" in capsys.readouterr().out
    table = next(found for found in BLOCK.finditer(written) if found["name"] == "requests")
    digit = re.compile(r"\d(?= \|)")
    typed = digit.sub(lambda found: str((int(found[0]) + 1) % 10), table[0], count=1)
    page.write_text(written.replace(table[0], typed))
    assert report.main([str(SMALL)]) == 0
    assert "docs/performance.md was changed" in capsys.readouterr().out
    assert page.read_text() == written


def test_no_figure_stands_in_the_prose() -> None:
    prose = BLOCK.sub("", PAGE.read_text())
    assert [found[0] for found in FIGURE.finditer(prose)] == []


def test_marks_that_were_missed_and_parts_that_failed_are_shown(small: dict[str, Any]) -> None:
    broken = copy.deepcopy(small)
    broken["marks"][0] |= {"value": 0.5, "limit": 8, "at_least": True, "reached": False}
    broken["failed"] = {"waits": "ServiceFailed: no coupon"}
    broken["waits"] = {"seconds": 1.0}
    page = render(broken, PAGE.read_text())
    blocks = {found["name"]: found[0] for found in BLOCK.finditer(page)}
    assert re.search(r"≥ 8x \| 0\.5x \| \*\*missed\*\*", blocks["marks"])
    assert "| waits | all of them |  |  | **failed** |" in blocks["marks"]
    assert "**waits failed**: ServiceFailed: no coupon" in blocks["run"]
    assert "Not measured" in blocks["waits"]


def test_a_page_without_one_of_the_blocks_is_refused(small: dict[str, Any]) -> None:
    with pytest.raises(NoReport, match="notes"):
        render(small, PAGE.read_text().replace("bench:notes", "bench:other"))


def test_a_result_of_another_format_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    file.write_text('{"web": {}}')
    with pytest.raises(NoReport, match="another format"):
        read(file)


def test_the_smoke_run_finds_what_a_part_did_not_give(small: dict[str, Any]) -> None:
    assert smoke.find_faults(small) == []
    broken = copy.deepcopy(small)
    broken["memory"] = {"seconds": 1.0}
    broken["marks"] = [mark for mark in broken["marks"] if mark["part"] != "consumer"]
    broken["waits"]["repeats"][0]["bare_ms"] = math.nan
    broken["failed"] = {"ledger": "RuntimeError: no"}
    del broken["machine"]
    assert sorted(smoke.find_faults(broken)) == [
        "consumer gave no figures or no marks",
        "ledger failed: RuntimeError: no",
        "machine is missing",
        "memory gave no figures or no marks",
        "waits has a figure that is not a number",
    ]


def test_a_failed_part_is_recorded_and_the_next_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def no(run: object) -> None:
        raise RuntimeError("no\nthe end of a log")

    modules: dict[str, Any] = {"benchmarks.web": no, "benchmarks.memory": lambda run: ({"figure": 1}, [])}
    monkeypatch.setattr(
        bench, "importlib", SimpleNamespace(import_module=lambda name: SimpleNamespace(measure=modules[name]))
    )
    document = bench.new_document(bench.parse(["--quick"]), datetime.now(UTC))
    for name in ("web", "memory"):
        bench.add_part(document, name, None)
    document["memory"].pop("seconds")
    assert document["failed"] == {"web": "RuntimeError: no"}
    assert document["memory"] == {"figure": 1}
    assert bench.report(tmp_path / "result.json", document) == bench.EXIT_FAILED
    assert "web: FAILED: RuntimeError: no" in capsys.readouterr().out


def test_a_run_without_servers_says_how_to_have_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(SystemExit, match="DATABASE_URL is not set: use `make bench`"):
        bench.main(["--out", str(tmp_path / "result.json")])
