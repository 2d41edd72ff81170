"""Exceptions that tell the caller what to do. Expected results (sold out, already admitted) are enum values instead."""

from collections.abc import Mapping
from uuid import UUID

from django.db import InterfaceError, InternalError, OperationalError

# PostgreSQL is down, hangs, is full, is read-only (an InternalError), or had to break a deadlock: nothing is wrong
# with the work itself. Callers treat these like RetryLater.
DATABASE_DOWN = (OperationalError, InterfaceError, InternalError)


class RetryLater(Exception):
    """A part is down or not current; nothing is wrong with the work itself.

    The caller must not record a failure and must not move an offset: wait with back-off, then do the same again.
    """


class GateUnavailable(RetryLater):
    """Redis did not answer, or refused to run the script. The script may have run: repeat it, it is idempotent."""


class StateStale(RetryLater):
    """Redis's state of a campaign is not the current one (docs/design.md, "The gate knows"). The keeper rebuilds it.

    `reason` is one word: missing, run_id, epoch, tickets, pending, rebuilding (lua/state.lua), or what ended a rebuild.
    """

    def __init__(self, message: str, *, campaign_id: UUID, reason: str) -> None:
        super().__init__(message)
        self.campaign_id = campaign_id
        self.reason = reason


class DatabaseUnavailable(RetryLater):
    """PostgreSQL has not answered for a while, so this call did not wait for it."""


class LogUnavailable(RetryLater):
    """Kafka did not answer in time."""


class MessagesSkipped(RetryLater):
    """A batch begins beyond what was read before it: somebody has moved the group's offsets, or PostgreSQL is an older
    copy. Nothing was written; reading goes on at `next_offsets`, partition -> offset."""

    def __init__(self, message: str, *, next_offsets: Mapping[int, int]) -> None:
        super().__init__(message)
        self.next_offsets = next_offsets


class Unconfirmed(RetryLater):
    """Kafka has not acknowledged the message in time, or Redis not confirmed the ticket after that. It may be in
    the log all the same: keep the place."""


class UnknownMessageKey(RetryLater):
    """Messages that may be promises are signed with a key which is not known here. An operator names it, or says that
    they are forged; the text says how."""


class OperatorError(Exception):
    """What the operator asked for cannot be done; the text says why and what to do instead."""


class PushDidNotArrive(Exception):
    """PostgreSQL has the change and Redis does not yet; the keeper pushes it again. Nothing is to be repeated."""


def one_line(error: BaseException) -> str:
    """Its text for a log."""
    return " ".join(str(error).split())
