"""Describes an authenticated caller: a service with an API key, or a user with a token."""

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID


class NotKnown(Exception):
    """The credentials are not valid. The text is for the caller, and never repeats the credentials."""


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` is for logs and audit records: "user", or a key's prefix or fingerprint, never the credentials."""

    name: str
    scopes: frozenset[str]
    user_id: str | None = None
    """The only user for whom this caller may act; None = a service, which may act for all."""
    campaigns: frozenset[UUID] | None = None
    """The campaigns that this caller may touch; None = all."""
    is_authenticated: ClassVar[bool] = True

    @property
    def actor(self) -> str:
        """Names the caller in the audit and in events. The colon tells it from users of the admin, who have none."""
        return f"api:{self.name}"

    def may_act_for(self, user_id: str) -> bool:
        return self.user_id is None or self.user_id == user_id

    def may_touch(self, campaign_id: UUID) -> bool:
        return self.campaigns is None or campaign_id in self.campaigns
