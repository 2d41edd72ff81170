"""The tests that the documents name are there."""

import re
from pathlib import Path

import pytest

from tests.support.process import ROOT

DOCUMENTS = [ROOT / "docs" / "design.md", *sorted((ROOT / "docs" / "decisions").glob("*.md"))]
TESTS = {file.name for file in (ROOT / "tests").rglob("test_*.py")}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_each_test_that_a_document_names_is_there(document: Path) -> None:
    named = set(re.findall(r"test_\w+\.py", document.read_text()))

    assert named <= TESTS
