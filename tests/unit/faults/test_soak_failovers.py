"""How the soak loses the primary of PostgreSQL: in which order, and what it calls a loss."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from faults.soak import failovers
from faults.soak.deployment import Deployment

CAMPAIGN = UUID("0198c2a4-6f3e-7a51-9c0e-5d1f0b1c2d3e")


class Servers:
    """The primary's coupons are the standby's, too, but for those that `lost` names. Notes what is asked, in order."""

    def __init__(self, coupons: set[str], *, lost: set[str]) -> None:
        self._coupons, self._lost = coupons, lost
        self.asked: list[str] = []
        self.unexplained: list[str] = []
        self.postgres = SimpleNamespace(
            wait_until_in_step=lambda: self.asked.append("wait until in step"),
            promote=self._promote,
            follow=lambda: self.asked.append("follow"),
        )

    def stack(self, verb: str, part: str) -> None:
        self.asked.append(f"{verb} {part}")

    def coupons(self, _: object) -> set[str]:
        self.asked.append("read coupons")
        return set(self._coupons)

    def _promote(self) -> None:
        self.asked.append("promote")
        self._coupons -= self._lost


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Callable[[Servers], Callable[[], Any]]:
    def lose_primary(servers: Servers) -> Callable[[], Any]:
        monkeypatch.setattr(failovers, "_coupons", servers.coupons)
        return failovers.lose_primary_of_postgresql(cast("Deployment", servers), "pause", [CAMPAIGN])

    return lose_primary


def test_the_standby_has_what_was_read_before_the_primary_is_lost(lose: Callable[[Servers], Callable[[], Any]]) -> None:
    servers = Servers({"A", "B"}, lost=set())

    undo = lose(servers)
    assert servers.asked == ["read coupons", "wait until in step", "pause postgres"]

    undo()
    assert servers.asked[3:] == ["promote", "read coupons", "follow"]
    assert not servers.unexplained


def test_a_coupon_that_a_promotion_loses_is_unexplained(lose: Callable[[Servers], Callable[[], Any]]) -> None:
    servers = Servers({"A", "B"}, lost={"B"})

    lose(servers)()

    assert servers.unexplained == ["a promotion lost 1 of 2 committed coupons"]
    assert servers.asked[-1] == "follow", "the next faults need a standby"
