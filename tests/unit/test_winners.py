"""The filter of winners: small, never wrong about a winner, seldom about a stranger."""

import pytest

from coupons.lobby.winners import filter_for

USERS = 50_000


@pytest.mark.parametrize("winners", [1_000_000, 10_000_000])
def test_a_winner_takes_two_bytes_at_most(winners: int) -> None:
    assert filter_for(winners).size_in_bits / 8 <= 2 * winners


def test_every_winner_is_in_it_and_few_strangers() -> None:
    found = filter_for(USERS)
    found.update(f"winner-{number}" for number in range(USERS))

    assert all(f"winner-{number}" in found for number in range(USERS))
    assert sum(f"stranger-{number}" in found for number in range(USERS)) < USERS / 200


@pytest.mark.parametrize("winners", [0, 1, 9, 100])
def test_a_small_campaign_takes_no_stranger_for_a_winner(winners: int) -> None:
    found = filter_for(winners)
    found.update(f"winner-{number}" for number in range(winners))

    assert not any(f"stranger-{number}" in found for number in range(USERS))
