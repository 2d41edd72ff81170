"""What the soak does to a partition's files, and what it writes down of an operator's change."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from coupons.errors import OperatorError
from coupons.models import Campaign
from faults.history import HistoryWriter, read_history
from faults.soak import operators
from faults.soak.log_faults import cut_log

CAMPAIGN = UUID("0198c2a4-6f3e-7a51-9c0e-5d1f0b1c2d3e")
NEWEST, OLDEST = "00000000000000000600", "00000000000000000000"


@pytest.fixture
def partition(tmp_path: Path) -> Path:
    folder = tmp_path / "coupon_create-3"
    folder.mkdir()
    for first in (OLDEST, NEWEST):
        for ending in ("log", "index", "timeindex", "snapshot"):
            (folder / f"{first}.{ending}").touch()
    (folder / "partition.metadata").touch()
    return folder


def test_the_newest_segment_goes_with_all_of_its_files(partition: Path) -> None:
    cut_log(partition, whole=False)

    assert not list(partition.glob(f"{NEWEST}*"))
    assert len(list(partition.glob(f"{OLDEST}*"))) == 4
    assert (partition / "partition.metadata").exists()


def test_or_the_partition_goes_as_a_whole(partition: Path) -> None:
    cut_log(partition, whole=True)

    assert not partition.exists()


@pytest.mark.parametrize(
    ("refused", "by", "noted"),
    [
        (False, -20, {"before": 100, "after": 80, "failed": False}),
        (True, -20, {"before": 100, "after": 80, "failed": True}),
        (False, -500, {"before": 100, "after": 1, "failed": False}),
    ],
)
def test_a_change_is_written_down_with_whether_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool, by: int, noted: dict[str, Any]
) -> None:
    now = {"quantity": 100}

    def change(*, changes: dict[str, int], **_: object) -> None:
        if refused:
            raise OperatorError("the audit table is locked")
        now.update(changes)

    monkeypatch.setattr(operators, "change_campaign", change)
    monkeypatch.setattr(operators, "quantity_of", lambda _: now["quantity"])
    monkeypatch.setattr(operators, "redis_quantity", lambda _: now["quantity"])
    with HistoryWriter(tmp_path / "history.jsonl") as history:
        operators.change_quantity(Campaign(pk=CAMPAIGN, quantity=100), by=by, history=history)

    event = read_history(tmp_path / "history.jsonl").events[-1]
    assert (event.what, event.campaign_id, event.details) == ("quantity-changed", str(CAMPAIGN), noted)
