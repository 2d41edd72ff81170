"""Where a message lies in the topic, as one number that a Redis score can carry.

A pending ticket's score below PARTITION_STEP is its admission time in ms (Redis TIME): not known to be published. From
there on it is the message's position. One sorted set so answers both "admitted before T and still not published" and
"published on partition P before offset O and still not issued". A double holds whole numbers up to 2^53: that is 1,023
partitions of 8.7e12 messages, or times until the year 2248.
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
    """The position that a pending ticket's score stands for; None: not known to be published."""
    if score < PARTITION_STEP:
        return None
    step, offset = divmod(int(score), PARTITION_STEP)
    return Position(step - 1, offset)
