from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.gate import Gate


@pytest.fixture
def a_gate() -> Iterator[Callable[..., Gate]]:
    made: list[Gate] = []

    def make(**values: Any) -> Gate:
        made.append(Gate(**values))
        return made[-1]

    yield make
    for each in made:
        each.remove()


@pytest.fixture
def no_promise_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebuild need not wait for answers under way: nobody is applying."""
    monkeypatch.setattr("coupons.recovery.rebuild.promise_window_sec", lambda: 0.0)
