"""Exceptions that tell the caller what to do. Expected results (sold out, already admitted) are enum values instead."""

from collections.abc import Mapping
from uuid import UUID

from django.db import InterfaceError, InternalError, OperationalError

# PostgreSQL is down, hangs, is full, is read-only (an InternalError), or broke a deadlock: nothing is wrong with the
# work itself. Callers treat these like RetryLater.
DATABASE_DOWN = (OperationalError, InterfaceError, InternalError)


FAILURES_NAMED = 5


class RetryLater(Exception):
    """A part is down or not current; nothing is wrong with the work itself.

    The caller must neither record a failure nor move an offset: it backs off and repeats the same.
    """


class GateUnavailable(RetryLater):
    """Redis did not answer, or refused to run the script. The script may have run: repeat it, as it is idempotent."""


class StateStale(RetryLater):
    """Redis's state of a campaign is not the current one (docs/design.md, "The gate knows"). The keeper rebuilds it.

    `reason` is one word: missing, run_id, epoch, tickets, pending, rebuilding (lua/state.lua), refused (the keys are
    damaged), or what ended a rebuild.
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
    """A batch begins beyond the last one: the group's offsets were moved from outside, or PostgreSQL is an older copy.
    Nothing was written; the consumer continues at `next_offsets`, partition -> offset."""

    def __init__(self, message: str, *, next_offsets: Mapping[int, int]) -> None:
        super().__init__(message)
        self.next_offsets = next_offsets


class Unconfirmed(RetryLater):
    """Kafka did not acknowledge the message in time, or Redis did not confirm the ticket after that. The message may be
    in the log all the same: the user keeps the place."""


class UnknownMessageKey(RetryLater):
    """Messages that may be promises are signed with an unknown key. An operator adds the key or declares them forged;
    the text says how."""


class UnknownCodeKey(RetryLater):
    """A campaign's coupons need a code key that is not known here. An operator names it; the text says how."""


class CampaignsFailed(RetryLater):
    """Some campaigns could not be worked on, each for a reason of its own; the others could."""

    def __init__(self, errors: Mapping[UUID, Exception]) -> None:
        named = [f"campaign {campaign_id}: {one_line(error)}" for campaign_id, error in errors.items()]
        super().__init__(f"{len(errors)} campaigns failed: {'; '.join(named[:FAILURES_NAMED])}")
        self.errors = errors


class OperatorError(Exception):
    """The operator's change is impossible; the text says why and what to do instead."""


class PushDidNotArrive(Exception):
    """PostgreSQL has the change and Redis does not yet. The keeper pushes it again; the operator need not repeat it."""


def one_line(error: BaseException) -> str:
    """Returns the error's text for a log."""
    return " ".join(str(error).split())
