"""Which sequences the plain tickets of a campaign have: a byte for each, 10 MB at ten million."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

LIMIT = 2**25  # beyond it a ticket is not plain (sieve.py): the map takes 32 MiB at most
_NONE, _ONE, _MORE = 0, 1, 2
_RUN: Final = re.compile(rb"[^\0]+")


class Sequences:
    """0 = nobody's, 1 = one user's, 2 = claimed by more than one."""

    def __init__(self) -> None:
        self._claims = bytearray()

    def claim(self, sequences: Iterable[int], *, highest: int) -> None:
        """Each for another user; from 1 to `highest`, which is below LIMIT."""
        claims = self._claims
        if highest >= len(claims):
            claims.extend(bytes(max(highest + 1 - len(claims), min(len(claims), LIMIT - len(claims)))))
        for sequence in sequences:
            claims[sequence] = _MORE if claims[sequence] else _ONE

    def claim_also(self, sequences: Iterable[int]) -> None:
        """Those of users who are not plain: only whether a plain one has them too."""
        for sequence in sequences:
            if 0 < sequence < len(self._claims) and self._claims[sequence]:
                self._claims[sequence] = _MORE

    def has_twins(self) -> bool:
        return _MORE in self._claims

    def is_twin(self, sequence: int) -> bool:
        return 0 < sequence < len(self._claims) and self._claims[sequence] == _MORE

    def runs(self) -> Iterator[tuple[int, int]]:
        """First and last of each stretch without a hole, in order."""
        for run in _RUN.finditer(self._claims):
            yield run.start(), run.end() - 1
