"""The README's table of settings names every variable that couponsite/settings.py reads."""

import re

import pytest

from tests.support.process import ROOT

READ = re.findall(
    r'(?:boolean|choice|database_config|folder|integer|key_value_pairs|networks|required|secrets_by_id|string_list|url)\(\s*"([A-Z_]+)"',
    (ROOT / "couponsite" / "settings.py").read_text(),
)


def documented(name: str) -> bool:
    """A row's first cell names its settings in full, or those after the first by their ends: `_PARTITIONS`."""
    for cell in re.findall(r"^\| (`[A-Z_`, ]+`)", (ROOT / "README.md").read_text(), flags=re.MULTILINE):
        first, *others = re.findall(r"[A-Z_]+", cell)
        ends = [other for other in others if other.startswith("_")]
        if name in (first, *others) or any(_shares(first, end, name) for end in ends):
            return True
    return False


def _shares(first: str, end: str, name: str) -> bool:
    """Whether `name` is `end` after some beginning of `first`, two words of it at least."""
    beginning = name.removesuffix(end)
    return beginning != name and beginning.count("_") >= 1 and first.startswith(beginning)


def test_the_settings_are_found() -> None:
    assert {"DATABASE_URL", "COUPON_TOPIC", "COUPON_DB_IDLE_TRANSACTION_TIMEOUT_MS"} <= set(READ)


@pytest.mark.parametrize("name", READ)
def test_the_readme_names_it(name: str) -> None:
    assert documented(name), f"add {name} to the table of settings in README.md"


def test_a_setting_that_nobody_described_is_noticed() -> None:
    assert not documented("COUPON_TOPIC_OF_NOBODY")
    assert not documented("COUPON_MS")
