"""The pages for people: README is short and shows the folders that there are; every link leads somewhere."""

import re
from pathlib import Path

import pytest

from tests.support.process import ROOT

README = (ROOT / "README.md").read_text()
MAX_README_BYTES = 7_000
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "README.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= MAX_README_BYTES


def test_the_readme_shows_the_folders_that_there_are() -> None:
    shown = set(re.findall(r"(?:^| )((?:\w+/)+)(?= )", README.split("```")[3], re.MULTILINE))
    rooms = {path.parent.name for path in (ROOT / "coupons").glob("*/__init__.py")} - {"migrations", "templatetags"}

    assert {name.removeprefix("coupons/").strip("/") for name in shown} >= rooms
    assert all((ROOT / name).is_dir() or (ROOT / "coupons" / name).is_dir() for name in shown)
    assert len(shown) > 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in LINK.findall(text):
        if re.match(r"https?:", link):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in _anchors(target), f"{page.name}: {link}"


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
