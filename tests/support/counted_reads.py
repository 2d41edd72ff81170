"""Waits for a read of PostgreSQL that began after now, instead of for a time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from coupons.auth.api_key_cache import api_key_cache
from coupons.runtime.refresher import Refresher
from tests.support.waiting import wait_until


class CountedReads:
    """Counts the reads of this process's API key cache, which its refresher makes one after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._begun = self._ended = 0
        monkeypatch.setattr("coupons.auth.api_key_cache.Refresher", self._make_refresher)
        api_key_cache.reset()  # the next one is made with it

    def wait_for_next(self) -> None:
        """Until one has ended that began after this call."""
        later = self._begun + 1
        wait_until(lambda: self._ended >= later, what="a read that begins from now on")

    def _make_refresher(self, name: str, read: Callable[[], object], **more: Any) -> Refresher:
        return Refresher(name, partial(self._counted, read), **more)

    def _counted(self, read: Callable[[], object]) -> None:
        self._begun += 1
        read()
        self._ended += 1
