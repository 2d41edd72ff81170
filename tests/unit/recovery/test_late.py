"""Which messages came too late for a rebuild: for ever, however many rebuilds follow."""

import pytest

from coupons.messaging.positions import Position
from coupons.recovery.late import REBUILDS_KEPT, add_log_ends, came_late

# The rebuild to epoch 2 found 10 messages in partition 0, that to epoch 3 found 20, that to epoch 5 found 30.
LOG_ENDS = {"2": {"0": 10}, "3": {"0": 20}, "5": {"0": 30}}


@pytest.mark.parametrize(
    ("epoch", "offset", "late"),
    [
        (1, 9, False),
        (1, 10, True),
        (1, 25, True),
        (2, 10, False),
        (2, 19, False),
        (2, 20, True),
        (3, 29, False),
        (4, 30, True),
        (5, 99, False),
        (None, 99, False),
    ],
)
def test_the_first_rebuild_after_a_messages_epoch_decides(epoch: int | None, offset: int, late: bool) -> None:
    assert came_late(epoch, Position(0, offset), LOG_ENDS) is late


def test_a_message_in_a_new_partition_came_late() -> None:
    assert came_late(1, Position(7, 0), LOG_ENDS)


def test_the_ends_of_the_newest_rebuilds_are_kept() -> None:
    log_ends: dict[str, dict[str, int]] = {}
    for epoch in range(2, REBUILDS_KEPT + 12):
        log_ends = add_log_ends(log_ends, epoch, {0: epoch})

    assert len(log_ends) == REBUILDS_KEPT
    assert min(map(int, log_ends)) == 12
