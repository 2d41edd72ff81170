"""A thread that looks again and again: waiting for a look that began after now, instead of for a time."""

from typing import Any

import pytest

from tests.support.waiting import wait_until


class Looks:
    """Counts the calls of `known._read`, which its own thread makes one after the other."""

    def __init__(self, known: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._begun = self._ended = 0
        self._read = known._read
        monkeypatch.setattr(known, "_read", self._counted)

    def _counted(self, *arguments: Any) -> Any:
        self._begun += 1
        answer = self._read(*arguments)
        self._ended += 1
        return answer

    def wait_for_next(self) -> None:
        """Until one has ended that began after this call."""
        later = self._begun + 1
        wait_until(lambda: self._ended >= later, what="a look that begins from now on")
