"""Encodes a message's position in the topic as one number that fits a Redis score.

A pending ticket's score below PARTITION_STEP is its admission time in ms (Redis TIME): it is not known to be published.
Any other score is its message's position. So one sorted set answers both "admitted before T and still not published"
and "published on partition P before offset O and still not issued". A double holds whole numbers up to 2^53, enough for
1,023 partitions of 8.7e12 messages, or for times until the year 2248.
"""

from typing import NamedTuple

PARTITION_STEP = 2**43


class Position(NamedTuple):
    partition: int
    offset: int

    @property
    def score(self) -> int:
        return (self.partition + 1) * PARTITION_STEP + self.offset


def position_of(score: float) -> Position | None:
    """Returns the position that a pending ticket's score encodes; None: not known to be published."""
    if score < PARTITION_STEP:
        return None
    step, offset = divmod(int(score), PARTITION_STEP)
    return Position(step - 1, offset)
