"""Rows of many users on disk, in parts that fit into memory: what all sources say of a user is in parts of one number.

The users are spread by Python's hash of their names, which is another one in every process, so that nobody can choose
names that fill one part.
"""

import marshal
import os
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

ROWS_HELD = 100_000  # of all sheets together, in memory, until they are written
USERS_IN_A_PART = 32_768
MAX_PARTS = 512

Row = tuple[Any, ...]  # the user first, then numbers


def parts_for(users: int) -> int:
    """A power of two."""
    parts = 1
    while parts * USERS_IN_A_PART < users and parts < MAX_PARTS:
        parts *= 2
    return parts


class Binder:
    """One temporary file below TMPDIR with the sheets of one or many campaigns; `close` removes it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="coupon-ledger-")  # noqa: SIM115  `close` is the caller's
        self._written = 0
        self._held = 0
        self._filled: list[Sheet] = []  # those with rows in memory

    def close(self) -> None:
        self._file.close()

    def sheet(self, parts: int) -> "Sheet":
        return Sheet(self, parts)

    def count(self, sheet: "Sheet", rows: int) -> None:
        """So many rows more are in memory; beyond ROWS_HELD all go to disk."""
        self._held += rows
        if not sheet.is_counted:
            sheet.is_counted = True
            self._filled.append(sheet)
        if self._held >= ROWS_HELD:
            for each in self._filled:
                each.write()
                each.is_counted = False
            self._filled.clear()
            self._held = 0
            self._file.flush()

    def write(self, block: bytes) -> int:
        """Where it lies."""
        place = self._written
        self._file.write(block)
        self._written += len(block)
        return place

    def read(self, place: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, place)


class Sheet:
    """Rows of one source and campaign."""

    def __init__(self, binder: Binder, parts: int) -> None:
        self._binder = binder
        self._mask = parts - 1
        self._rows: defaultdict[int, list[Row]] = defaultdict(list)
        self._blocks: defaultdict[int, array[int]] = defaultdict(lambda: array("Q"))  # place and size of each block
        self.is_counted = False

    def add(self, rows: Sequence[Row]) -> None:
        mask, lists = self._mask, self._rows
        if mask:
            for row in rows:
                lists[hash(row[0]) & mask].append(row)
        else:
            lists[0].extend(rows)
        self._binder.count(self, len(rows))

    def part(self, number: int) -> list[Row]:
        """In the order in which they came."""
        rows: list[Row] = []
        blocks = self._blocks.get(number, array("Q"))
        for place, size in zip(blocks[::2], blocks[1::2], strict=True):
            rows += marshal.loads(self._binder.read(place, size))  # noqa: S302  our own file, which has no name
        return rows + self._rows.get(number, [])

    def write(self) -> None:
        for number, rows in self._rows.items():
            block = marshal.dumps(rows)
            self._blocks[number].extend((self._binder.write(block), len(block)))
        self._rows.clear()
