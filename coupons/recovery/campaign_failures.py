"""Keeps the error of one campaign from stopping the work for the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from coupons.admission.scripts import is_refusal
from coupons.errors import DATABASE_DOWN, CampaignsFailed, RetryLater, StateStale, UnknownMessageKey

SHARED_SQLSTATES = ("", "08", "25", "53", "57")
"""Classes of PostgreSQL's errors that are about the server, and none: no connection, read-only, full, shutting down. A
row that is locked (55) or a deadlock (40) is about one campaign."""


class CampaignFailures:
    """The errors of single campaigns in one piece of work. An error that all of them share ends the work at once."""

    def __init__(self) -> None:
        self.errors: dict[UUID, Exception] = {}

    @contextmanager
    def of(self, campaign_id: UUID) -> Iterator[None]:
        """Notes an error that is about this campaign alone, a defect too, and lets the caller go on with the next."""
        try:
            yield
        except Exception as error:
            if _is_shared(error):
                raise
            self.errors[campaign_id] = error

    @property
    def unknown_keys(self) -> list[UnknownMessageKey]:
        return [error for error in self.errors.values() if isinstance(error, UnknownMessageKey)]

    @property
    def summary(self) -> Exception | None:
        """What a caller of one campaign would get, UnknownMessageKey first, or CampaignsFailed for several."""
        errors = [*self.unknown_keys, *self.errors.values()]
        if len(self.errors) > 1 and not self.unknown_keys:
            return CampaignsFailed(self.errors)
        return errors[0] if errors else None

    def report(self) -> None:
        """Raises the summary, if there is one."""
        if (error := self.summary) is not None:
            raise error


def _is_shared(error: Exception) -> bool:
    if isinstance(error, DATABASE_DOWN):
        return (getattr(error.__cause__, "pgcode", None) or "")[:2] in SHARED_SQLSTATES
    if isinstance(error, (StateStale, UnknownMessageKey)):
        return False
    return isinstance(error, RetryLater) and not is_refusal(error)
