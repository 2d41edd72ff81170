"""The filter of winners: small, never wrong about a winner, seldom about a stranger."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from coupons.front import admitted_users as module
from coupons.front.admitted_users import KEPT_SEC, AdmittedUsers, AdmittedUsersLoader, Contents, filter_for
from tests.support.waiting import wait_until

USERS = 50_000
ONE, TWO, THREE = (uuid4() for _ in range(3))
HALF: Contents = (1, 1, 50)


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Iterator[AdmittedUsersLoader]:
    """Of 100 winners; Redis has none to read here."""
    monkeypatch.setattr(module, "scan_tickets", lambda campaign_id: iter([(str(campaign_id), 1)]))
    made = AdmittedUsersLoader(capacity=100)
    yield made
    made.close()


def read(loader: AdmittedUsersLoader, campaign_id: UUID, contents: Contents = HALF) -> AdmittedUsers | None:
    """What it knows when it has read what it can."""
    loader.find(campaign_id, contents)
    wait_until(lambda: not loader.busy, what="all is read")
    return loader.find(campaign_id, contents)


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


def test_winners_outlast_the_crowd_and_are_forgotten_in_the_end(loader: AdmittedUsersLoader) -> None:
    first = read(loader, ONE)
    assert first is not None
    loader.asked_for({}, 1_000.0)
    loader.asked_for({}, 999.0 + KEPT_SEC)
    assert loader.find(ONE, HALF) is first, "nothing is read again"
    loader.asked_for({ONE: 1}, 999.5 + KEPT_SEC)
    loader.asked_for({}, 1_001.0 + KEPT_SEC)
    assert loader.find(ONE, HALF) is first, "the time counts from the last who asked"

    loader.asked_for({}, 1_001.0 + 2 * KEPT_SEC)

    assert loader.find(ONE, HALF) is None


def test_of_other_contents_nothing_is_known_however_long_they_were_kept(loader: AdmittedUsersLoader) -> None:
    read(loader, ONE)
    loader.asked_for({}, 1_000.0)

    assert loader.find(ONE, (1, 1, 51)) is None


def test_who_is_idle_longest_makes_room_and_who_is_not_idle_does_not(loader: AdmittedUsersLoader) -> None:
    read(loader, ONE)
    read(loader, TWO)
    loader.asked_for({ONE: 1}, 1_000.0)
    loader.asked_for({}, 1_001.0)
    assert read(loader, THREE) is not None
    assert loader.find(ONE, HALF) is not None, "asked first: TWO may take its room at once"
    assert loader.find(TWO, HALF) is None

    wait_until(lambda: not loader.busy, what="TWO is asked for again, and takes ONE's room")
    assert loader.find(TWO, HALF) is not None
    loader.asked_for({TWO: 1, THREE: 1}, 1_002.0)
    assert read(loader, ONE) is None, "both others are asked for"
    assert loader.find(TWO, HALF) is not None
    assert loader.find(THREE, HALF) is not None


def test_who_would_not_fit_anyway_takes_nobodys_room(loader: AdmittedUsersLoader) -> None:
    kept = read(loader, ONE)
    loader.asked_for({}, 1_000.0)

    assert read(loader, TWO, (1, 1, 101)) is None
    assert loader.find(ONE, HALF) is kept


def test_of_many_idle_campaigns_the_last_ones_are_kept(
    loader: AdmittedUsersLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_IDLE", 1)
    read(loader, ONE)
    loader.asked_for({}, 1_000.0)
    kept = read(loader, TWO)
    loader.asked_for({TWO: 1}, 1_001.0)
    loader.asked_for({}, 1_002.0)

    assert loader.find(TWO, HALF) is kept
    assert loader.find(ONE, HALF) is None
