"""docs/performance.md is what the newest result says, and a run of the benchmarks goes on when a part fails."""

import copy
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import __main__ as bench
from benchmarks import report, smoke
from benchmarks.report import BLOCK, PAGE, NoReport, newest, read, render
from benchmarks.report_tables import TABLES
from benchmarks.svg_bars import Bars, draw, number
from benchmarks.vegeta_load import read_results
from tests.support.waiting import wait_until

SMALL = Path(__file__).parents[1] / "support" / "bench_small.json"
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


def test_the_page_is_what_the_newest_committed_result_says(capsys: pytest.CaptureFixture[str]) -> None:
    file = newest(committed=True)
    assert report.main(["--check", str(file)]) == 0, capsys.readouterr().out


def test_a_small_result_fills_every_table_and_plot(small: dict[str, Any]) -> None:
    drawn = render(small, PAGE.read_text())
    assert len(drawn) == 5
    for name, text in drawn.items():
        assert "Not measured" not in text, name
        assert "nan" not in text.lower().replace("finance", ""), name
    assert set(TABLES) == {found["name"] for found in BLOCK.finditer(drawn["performance.md"])}


def test_a_figure_that_somebody_typed_is_noticed(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--check", str(SMALL)]) == 0
    table = next(found for found in BLOCK.finditer(page.read_text()) if found["name"] == "requests")
    digit = re.compile(r"\d(?=x \|)")
    typed = digit.sub(lambda found: str((int(found[0]) + 1) % 10), table[0], count=1)
    page.write_text(page.read_text().replace(table[0], typed))
    assert report.main(["--check", str(SMALL)]) == 1
    assert "docs/performance.md is not what bench_small.json says" in capsys.readouterr().out


def test_a_plot_of_other_figures_is_noticed(page: Path, small: dict[str, Any]) -> None:
    plot = page.parent / "performance" / "requests.svg"
    plot.write_text(plot.read_text().replace("</svg>", "<!-- mine --></svg>"))
    assert report.main(["--check", str(SMALL)]) == 1


def test_no_figure_stands_in_the_prose() -> None:
    prose = BLOCK.sub("", PAGE.read_text())
    assert [found[0] for found in FIGURE.finditer(prose)] == []


def test_marks_that_were_missed_and_parts_that_failed_are_shown(small: dict[str, Any]) -> None:
    broken = copy.deepcopy(small)
    broken["marks"][0] |= {"value": 0.5, "limit": 8, "at_least": True, "reached": False}
    broken["failed"] = {"click": "ServiceFailed: no coupon"}
    broken["click"] = {"seconds": 1.0}
    page = render(broken, PAGE.read_text())["performance.md"]
    blocks = {found["name"]: found[0] for found in BLOCK.finditer(page)}
    assert re.search(r"≥ 8x \| 0\.5x \| \*\*missed\*\*", blocks["marks"])
    assert "| click | all of them |  |  | **failed** |" in blocks["marks"]
    assert "**click failed**: ServiceFailed: no coupon" in blocks["run"]
    assert "Not measured" in blocks["click"]


def test_a_page_without_one_of_the_blocks_is_refused(small: dict[str, Any]) -> None:
    with pytest.raises(NoReport, match="growth"):
        render(small, PAGE.read_text().replace("bench:growth", "bench:other"))


def test_a_result_of_another_format_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    file.write_text('{"lobby": {}}')
    with pytest.raises(NoReport, match="another format"):
        read(file)


def test_the_smoke_run_finds_what_a_part_did_not_give(small: dict[str, Any]) -> None:
    assert smoke.find_faults(small) == []
    broken = copy.deepcopy(small)
    broken["redis"] = {"seconds": 1.0}
    broken["marks"] = [mark for mark in broken["marks"] if mark["part"] != "storm"]
    broken["open"]["medians"]["p99_ms"] = math.nan
    broken["failed"] = {"ledger": "RuntimeError: no"}
    del broken["machine"]
    assert smoke.find_faults(broken) == [
        "ledger failed: RuntimeError: no",
        "machine is missing",
        "open: /medians/p99_ms is no number",
        "storm gave no marks",
        "redis gave no figures",
    ]


def test_a_part_that_fails_is_recorded_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")
    out = tmp_path / "result.json"
    assert bench.main(["--quick", "--only", "redis", "retry", "--out", str(out)]) == 1
    document = json.loads(out.read_text())
    assert document["complete"]
    assert list(document["failed"]) == ["redis", "retry"]
    assert all("OperationalError" in reason for reason in document["failed"].values())
    assert "redis: FAILED: OperationalError" in capsys.readouterr().out


def test_a_part_that_hangs_is_told_to_clean_up_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned, hangs, program = tmp_path / "cleaned", tmp_path / "it-hangs", tmp_path / "hangs"
    program.write_text(
        f"#!{sys.executable}\nimport pathlib, signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"try:\n    pathlib.Path({str(hangs)!r}).touch()\n"
        f"    time.sleep(60)\nexcept KeyboardInterrupt:\n    pathlib.Path({str(cleaned)!r}).touch()\n"
    )
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(bench, "PART_LIMIT_SEC", 1.0)

    class Process(subprocess.Popen[bytes]):
        def wait(self, timeout: float | None = None) -> int:
            wait_until(hangs.exists, what="it has started, and hangs")
            return super().wait(timeout)

    errors = {"TimeoutExpired": subprocess.TimeoutExpired}
    monkeypatch.setattr(bench, "subprocess", SimpleNamespace(Popen=Process, **errors))
    part = bench.run_part("redis", bench.parse(["--quick"]))
    assert part["failed"] == "not done after 1 s"
    assert cleaned.exists()


def test_an_open_loop_counts_from_when_a_request_was_due() -> None:
    """Ten a second; the third was sent 50 ms late and answered 20 ms after that."""
    second = 1_000_000_000
    sent = [second, second + 100_000_000, second + 250_000_000]
    rows = "\n".join(f"{at},202,20000000,0,0,,,,{number},POST,http://x,," for number, at in enumerate(sent))
    opened = read_results(rows, per_sec=10, client_share=0.1)
    assert opened.waits_ms == pytest.approx([20, 20, 70])
    assert opened.late_ms == pytest.approx([0, 0, 50])
    assert opened.outcomes == {"202": 3}
    assert opened.offered_per_sec == pytest.approx(10)


def test_an_open_loop_counts_who_got_no_answer() -> None:
    rows = '5,0,10000000,0,0,"dial tcp: refused",,,0,POST,http://x,,'
    assert read_results(rows, per_sec=1, client_share=0).outcomes == {"no answer: dial tcp: refused": 1}


def test_bars_are_the_same_bytes_each_time_and_escape_what_they_show() -> None:
    bars = Bars("a < b", "ms", {"one & two": {"p50": 1.0, "p99": 4.0}})
    assert draw(bars) == draw(bars)
    assert "a &lt; b" in draw(bars)
    assert "one &amp; two" in draw(bars)


def test_a_stacked_row_is_as_long_as_its_sum() -> None:
    widths = [float(found) for found in re.findall(r'width="([\d.]+)" height="18"', draw(_stacked()))]
    assert widths[0] + widths[1] == pytest.approx(widths[2], abs=0.2)


def _stacked() -> Bars:
    return Bars("", "", {"two": {"a": 1.0, "b": 3.0}, "one": {"a": 4.0}}, stacked=True)


@pytest.mark.parametrize(("value", "text"), [(0.12345, "0.123"), (12.345, "12.3"), (1234.5, "1,234"), (0, "0")])
def test_a_number_has_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text
