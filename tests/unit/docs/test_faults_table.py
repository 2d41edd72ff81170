"""docs/faults.md is what the command makes of the results: nobody has typed in it."""

import json
import os
from pathlib import Path

import pytest

from faults import table
from faults.document import newest
from faults.fault_rows import ROWS


def test_the_document_is_what_the_results_say() -> None:
    assert table.DOCUMENT.read_text() == table.document(), "`.venv/bin/python -m faults.table` makes it anew"


def test_every_row_of_the_matrix_has_been_run() -> None:
    records = json.loads(table.MATRIX.read_text())["records"]

    assert sorted({record["row"] for record in records}) == list(ROWS) == [*range(1, 42)]


def test_the_latest_record_of_a_row_is_taken(tmp_path: Path) -> None:
    """The same row may have been run by another worker the day before."""
    for age, folder, name in ((20, "one", "05.json"), (10, "two", "05.json"), (30, "two", "04.json")):
        file = tmp_path / folder / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
        os.utime(file, (1_000 - age, 1_000 - age))

    found = newest([tmp_path / "two", tmp_path / "one"])

    assert found == [tmp_path / "two" / "04.json", tmp_path / "two" / "05.json"]


def test_a_folder_without_records_is_refused(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main(["--collect", str(tmp_path)]) == 2
    assert "make test" in capsys.readouterr().err
