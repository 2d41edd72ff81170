"""docs/security-tests.md is what the command makes of the results; each row is a test that is still there."""

import json
from collections import Counter
from pathlib import Path

import pytest

from faults import attacks
from tests.support.process import ROOT


def test_the_document_is_what_the_results_say() -> None:
    assert attacks.DOCUMENT.read_text() == attacks.document(), "`.venv/bin/python -m faults.attacks` makes it anew"


@pytest.mark.parametrize(("results", "least"), [(attacks.ATTACKS, 20), (attacks.FUZZ, 3)])
def test_every_row_is_a_test_that_is_marked_so(results: Path, least: int) -> None:
    records = json.loads(results.read_text())["records"]

    assert len(records) >= least
    for record in records:
        file, _, name = record["test"].partition("::")
        source = (ROOT / file).read_text()
        assert f"def {name}(" in source
        assert "@pytest.mark.attack(" in source


def test_as_many_were_fuzzed_as_is_said() -> None:
    counted: Counter[str] = Counter()
    for record in json.loads(attacks.FUZZ.read_text())["records"]:
        counted.update(record["counted"])
        assert any(f"{number:,}" in record["tried"] for number in record["counted"].values())

    assert counted["requests"] >= 10_000
    assert counted["messages"] >= 100_000
