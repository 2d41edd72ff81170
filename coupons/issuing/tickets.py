"""What issuing needs to know of a ticket; messaging's Ticket is one."""

from typing import Protocol
from uuid import UUID


class IssuableTicket(Protocol):
    @property
    def campaign_id(self) -> UUID: ...
    @property
    def user_id(self) -> str: ...
    @property
    def sequence(self) -> int: ...
