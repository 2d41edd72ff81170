"""Recognises messages that landed too late to be a promise (docs/decisions/0010-messages-that-come-late.md)."""

from collections.abc import Mapping

from coupons.messaging.positions import Position

# Epoch of a rebuild -> partition -> where that rebuild found the end of the log. JSON's keys are text.
LogEnds = Mapping[str, Mapping[str, int]]
REBUILDS_KEPT = 1_000


def came_late(message_epoch: int | None, position: Position, log_ends: LogEnds) -> bool:
    """Returns whether a message of an epoch before a rebuild landed after that rebuild had noted the topic's end.

    Then the rebuild did not see it, no user was promised its ticket, and another user may have its sequence by now. It
    stays late for ever, also for later rebuilds. A message that names no epoch is never late.
    """
    if message_epoch is None:
        return False
    next_rebuild = min((int(epoch) for epoch in log_ends if int(epoch) > message_epoch), default=None)
    return next_rebuild is not None and position.offset >= log_ends[str(next_rebuild)].get(str(position.partition), 0)


def add_log_ends(log_ends: LogEnds, epoch: int, ends: Mapping[int, int]) -> dict[str, dict[str, int]]:
    """Returns `log_ends` with those of one more rebuild. Keeps the newest REBUILDS_KEPT."""
    newest = sorted(map(int, log_ends))[-(REBUILDS_KEPT - 1) :]
    kept = {str(each): dict(log_ends[str(each)]) for each in newest}
    return {**kept, str(epoch): {str(partition): end for partition, end in ends.items()}}
