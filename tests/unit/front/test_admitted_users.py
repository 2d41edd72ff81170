"""The filter of winners: small, never wrong about a winner, seldom about a stranger."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import UUID, uuid4

import pytest
from rbloom import Bloom

from coupons.admission.campaign_store import TicketsVersion
from coupons.front import admitted_users as module
from coupons.front.admitted_users import (
    IDLE_SEC,
    MIN_CAPACITY,
    AdmittedUsers,
    AdmittedUsersLoader,
    load_admitted_users,
)
from tests.support.clocks import Clock
from tests.support.waiting import wait_until

USERS = 50_000
ONE, TWO, THREE = (uuid4() for _ in range(3))
HALF = TicketsVersion(1, 1, 50_000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_loader(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Callable[[int], AdmittedUsersLoader]]:
    """Of so many winners; Redis has none to read here."""
    monkeypatch.setattr(module, "scan_tickets", lambda campaign_id: iter([(str(campaign_id), 1)]))
    with ExitStack() as closing:

        def make(capacity: int) -> AdmittedUsersLoader:
            return closing.enter_context(contextlib.closing(AdmittedUsersLoader(capacity=capacity, clock=clock)))

        yield make


@pytest.fixture
def loader(make_loader: Callable[[int], AdmittedUsersLoader]) -> AdmittedUsersLoader:
    return make_loader(100_000)


def read(loader: AdmittedUsersLoader, campaign_id: UUID, version: TicketsVersion = HALF) -> AdmittedUsers | None:
    """What it knows when it has read what it can."""
    loader.find(campaign_id, version)
    wait_until(lambda: not loader.is_loading, what="all is read")
    return loader.find(campaign_id, version)


def filter_of(monkeypatch: pytest.MonkeyPatch, winners: int) -> Bloom:
    tickets = [(f"winner-{number}", number) for number in range(winners)]
    monkeypatch.setattr(module, "scan_tickets", lambda campaign_id: iter(tickets))
    return load_admitted_users(ONE, TicketsVersion(1, 1, winners)).filter


@pytest.mark.parametrize("winners", [1_000, 100_000])
def test_a_winner_takes_two_bytes_at_most(monkeypatch: pytest.MonkeyPatch, winners: int) -> None:
    assert filter_of(monkeypatch, winners).size_in_bits / 8 <= 2 * winners


def test_every_winner_is_in_it_and_few_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = filter_of(monkeypatch, USERS)

    assert all(f"winner-{number}" in found for number in range(USERS))
    assert sum(f"stranger-{number}" in found for number in range(USERS)) < USERS / 200


@pytest.mark.parametrize("winners", [0, 1, 9, 100])
def test_a_small_campaign_takes_no_stranger_for_a_winner(monkeypatch: pytest.MonkeyPatch, winners: int) -> None:
    found = filter_of(monkeypatch, winners)

    assert not any(f"stranger-{number}" in found for number in range(USERS))


def test_winners_are_kept_as_long_as_there_is_room(loader: AdmittedUsersLoader, clock: Clock) -> None:
    first = read(loader, ONE)
    assert first is not None
    clock.advance(7 * 86_400)
    assert read(loader, TWO) is not None

    assert loader.find(ONE, HALF) is first, "nothing is read again"


def test_of_other_contents_nothing_is_known(loader: AdmittedUsersLoader) -> None:
    read(loader, ONE)

    assert loader.find(ONE, TicketsVersion(1, 1, 50_001)) is None


def test_who_was_asked_for_longest_ago_makes_room(loader: AdmittedUsersLoader, clock: Clock) -> None:
    read(loader, ONE)
    clock.advance(1)
    read(loader, TWO)
    clock.advance(IDLE_SEC + 1)

    assert read(loader, THREE) is not None

    assert loader.find(TWO, HALF) is not None
    assert loader.find(ONE, HALF) is None


def test_who_is_asked_for_makes_no_room(loader: AdmittedUsersLoader, clock: Clock) -> None:
    read(loader, ONE)
    read(loader, TWO)
    clock.advance(IDLE_SEC - 1)

    assert read(loader, THREE) is None

    assert loader.find(ONE, HALF) is not None
    assert loader.find(TWO, HALF) is not None


def test_small_campaigns_are_bounded_too(make_loader: Callable[[int], AdmittedUsersLoader], clock: Clock) -> None:
    """Each filter takes 2 KB at least, however few have won."""
    loader, many = make_loader(5 * MIN_CAPACITY), [uuid4() for _ in range(6)]
    for campaign_id in many:
        assert read(loader, campaign_id, TicketsVersion(1, 1, 1)) is not None
        clock.advance(IDLE_SEC + 1)

    assert loader.find(many[0], TicketsVersion(1, 1, 1)) is None
    assert loader.find(many[-1], TicketsVersion(1, 1, 1)) is not None
