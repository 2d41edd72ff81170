"""What lies in the topic and in Redis right now, user by user, for tests that compare the two."""

import json
from collections.abc import Iterable

from coupons.admission.ticket_store import scan_pending, scan_tickets
from coupons.messaging.log import LoggedMessage, read_log
from coupons.messaging.topics import partition_lags
from coupons.models import Campaign
from tests.support.group import committed


def read_topic() -> list[LoggedMessage]:
    """Every message, partition by partition in the order of the offsets."""
    found = read_log({number: (lag.start, lag.end) for number, lag in partition_lags().items()})
    return sorted(found, key=lambda message: message.position)


def published_users() -> set[str]:
    """Who has a message of our own kind."""
    return _users(read_topic())


def committed_users() -> set[str]:
    """Whose messages the group has done with. By user: who repeats may have two messages."""
    return _users(read_log({number: (0, offset) for number, offset in committed().items()}))


def uncommitted_users() -> set[str]:
    """Whose messages the group would be given again, or for the first time."""
    ends = {number: lag.end for number, lag in partition_lags().items()}
    return _users(read_log({number: (offset, ends[number]) for number, offset in committed().items()}))


def ticket_holders(campaign: Campaign) -> dict[str, int]:
    """user -> sequence, as Redis has it."""
    return dict(scan_tickets(campaign.pk))


def pending_holders(campaign: Campaign) -> set[str]:
    return {user for user, _ in scan_pending(campaign.pk)}


def unread() -> int:
    """Messages that the consumers have not read."""
    return sum(lag.lag for lag in partition_lags().values())


def _users(messages: Iterable[LoggedMessage]) -> set[str]:
    return {json.loads(message.payload)["user_id"] for message in messages}
