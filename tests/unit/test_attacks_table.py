"""docs/security-tests.md is what the command makes of the results; each row is a test that is still there."""

import json

from faults import attacks
from tests.support.process import ROOT


def test_the_document_is_what_the_results_say() -> None:
    assert attacks.DOCUMENT.read_text() == attacks.document(), "`.venv/bin/python -m faults.attacks` makes it anew"


def test_every_row_is_a_test_that_is_marked_so() -> None:
    records = json.loads(attacks.ATTACKS.read_text())["records"]

    assert len(records) >= 20
    for record in records:
        file, _, name = record["test"].partition("::")
        source = (ROOT / file).read_text()
        assert f"def {name}(" in source
        assert "@pytest.mark.attack(" in source
