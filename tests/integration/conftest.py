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
