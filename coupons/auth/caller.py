"""Who is calling, once that is known: a service with an API key, or a user with a token."""

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID


class NotKnown(Exception):
    """These credentials open nothing. The text is for the caller, and never repeats what was sent."""


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` stands in logs and in the record of what was done: a fingerprint or a prefix, never the credentials."""

    name: str
    scopes: frozenset[str]
    user_id: str | None = None
    """The one user whom this caller may act for; None = a service, which acts for all."""
    campaigns: frozenset[UUID] | None = None
    """The campaigns that this caller may touch; None = all."""
    is_authenticated: ClassVar[bool] = True

    def may_act_for(self, user_id: str) -> bool:
        return self.user_id is None or self.user_id == user_id

    def may_touch(self, campaign_id: UUID) -> bool:
        return self.campaigns is None or campaign_id in self.campaigns
