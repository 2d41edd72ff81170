"""One number for a time or a place in the topic: nothing in between, nothing twice."""

from datetime import UTC, datetime

import pytest

from coupons.messaging.positions import PARTITION_STEP, Position, position_of
from coupons.runtime.clock import milliseconds, moment_of

EDGES = [
    Position(0, 0),
    Position(0, PARTITION_STEP - 1),
    Position(1, 0),
    Position(7, 12_345),
    Position(1_022, 2**43 - 1),
]


@pytest.mark.parametrize("position", EDGES)
def test_a_position_survives_as_a_double(position: Position) -> None:
    assert position_of(float(position.score)) == position


def test_scores_are_in_the_order_of_partition_and_offset() -> None:
    assert [position.score for position in EDGES] == sorted(position.score for position in EDGES)


def test_the_last_score_is_the_last_exact_double() -> None:
    assert Position(1_022, PARTITION_STEP - 1).score == 2**53 - 1


@pytest.mark.parametrize("score", [0.0, 1_790_000_000_000.0, PARTITION_STEP - 1.0])
def test_a_score_below_the_first_position_is_a_time(score: float) -> None:
    assert position_of(score) is None


def test_times_stay_below_the_positions_for_two_hundred_years() -> None:
    assert milliseconds(datetime(2248, 1, 1, tzinfo=UTC)) < PARTITION_STEP


def test_milliseconds_and_moments_are_each_other_s_way_back() -> None:
    moment = datetime(2026, 12, 1, 10, 0, 0, 123_000, tzinfo=UTC)

    assert moment_of(milliseconds(moment)) == moment
