"""Handles messages that are signed with a key which is not known here (docs/decisions/0015).

While the gate's state is current, the gate decides about such messages, so the consumer reads them. After Redis has
lost its data, one may be all that is left of a promise, and only an operator can tell a former key from a forger's.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004  Django's own name

from coupons.admission.ticket_store import scan_tickets
from coupons.errors import DATABASE_DOWN, OperatorError, RetryLater, UnknownMessageKey
from coupons.issuing.erased import erased_users
from coupons.issuing.ticket_rows import written_sequences
from coupons.messaging.log import read_log
from coupons.messaging.messages import Ticket
from coupons.messaging.positions import Position
from coupons.messaging.signing import read_ticket
from coupons.messaging.topics import partition_lags
from coupons.models import LOADED, Campaign, FailEventHistory
from coupons.recovery.campaign_failures import CampaignFailures
from coupons.recovery.late import came_late
from coupons.recovery.stale import stale_campaigns

CHUNK = 1_000
KEYS_NAMED = 5
SCAN_SEC = 10.0  # enough for about a million messages


class Unverified(NamedTuple):
    """The content of such a message, unverified."""

    key_id: str
    ticket: Ticket
    position: Position

    def __str__(self) -> str:
        return f"{self.ticket.user_id} #{self.ticket.sequence}, key {self.key_id}"


def unaccounted(campaign_id: UUID, messages: Sequence[Unverified]) -> list[Unverified]:
    """Returns messages that may be a lost promise: the user has neither a coupon nor a failed event that holds the
    ticket, was not erased, and no operator has given up the failed event of the message."""
    left: list[Unverified] = []
    erased = erased_users([campaign_id]).get(campaign_id, ())
    messages = [each for each in messages if each.ticket.user_id not in erased]
    for start in range(0, len(messages), CHUNK):
        chunk = messages[start : start + CHUNK]
        written = written_sequences(campaign_id, [each.ticket.user_id for each in chunk])
        unwritten = [each for each in chunk if each.ticket.user_id not in written]
        given_up = _given_up([each.position for each in unwritten])
        left += [each for each in unwritten if each.position not in given_up]
    return left


def _given_up(positions: Collection[Position]) -> set[Position]:
    if not positions:
        return set()
    events = FailEventHistory.objects.filter(
        topic=settings.TOPIC,
        partition__in={each.partition for each in positions},
        offset__in=[each.offset for each in positions],
        given_up_at__isnull=False,
    )
    return {Position(*each) for each in events.values_list("partition", "offset")}


def find_unread_unverified(
    campaigns: Iterable[Campaign], *, within_sec: float = SCAN_SEC
) -> tuple[dict[UUID, list[Unverified]], int]:
    """Returns the unread ones by campaign, and how many unread messages it had no time for. Raises LogUnavailable."""
    log_ends = {campaign.pk: campaign.log_ends for campaign in campaigns}
    found: dict[UUID, list[Unverified]] = {campaign_id: [] for campaign_id in log_ends}
    lags = partition_lags()
    until = time.monotonic() + within_sec
    ranges = {partition: (lag.next_offset, lag.end) for partition, lag in lags.items()}
    for seen, message in enumerate(read_log(ranges)):
        if time.monotonic() > until:
            return found, sum(lag.lag for lag in lags.values()) - seen
        ticket, key_id = read_ticket(message.payload, message.headers)
        if ticket is None or key_id is None or ticket.campaign_id not in log_ends:
            continue
        if not came_late(ticket.epoch, message.position, log_ends[ticket.campaign_id]):
            found[ticket.campaign_id].append(Unverified(key_id, ticket, message.position))
    return found, 0


def is_forged(key_id: str, forged_keys: Collection[str]) -> bool:
    """Returns whether the operator has named the key as forged, by its id or by a pattern such as `*`."""
    return any(fnmatchcase(key_id, pattern) for pattern in forged_keys)


def refuse_unaccounted(campaign_id: UUID, messages: Sequence[Unverified], tickets: Mapping[str, int]) -> None:
    """Raises UnknownMessageKey if a message names a user without one of these tickets and may be a lost promise."""
    without_ticket = [each for each in messages if each.ticket.user_id not in tickets]
    if left := unaccounted(campaign_id, without_ticket):
        raise UnknownMessageKey(
            f"Campaign {campaign_id} stays closed, or promises would be lost. The topic has {describe_keys(left)} "
            "If that key was never yours, they are forged: `manage.py rebuild_admission --forged-key ID`."
        )


def find_blocked_campaigns(campaign_ids: Collection[UUID]) -> dict[UUID, UnknownMessageKey]:
    """Returns which of these stale campaigns a rebuild would refuse, and why, as far as the time allows.

    Changes nothing. Raises RetryLater.
    """
    refused: dict[UUID, UnknownMessageKey] = {}
    if campaign_ids:
        found, _ = find_unread_unverified(Campaign.objects.filter(pk__in=campaign_ids))
        failures = CampaignFailures()  # a rebuild reports the others
        for campaign_id, messages in found.items():
            with failures.of(campaign_id):
                refuse_unaccounted(campaign_id, messages, dict(scan_tickets(campaign_id)) if messages else {})
        refused = {pk: error for pk, error in failures.errors.items() if isinstance(error, UnknownMessageKey)}
    return refused


def describe_keys(messages: Iterable[Unverified]) -> str:
    """Describes how many messages of which keys there are, and what to do."""
    counts = Counter(each.key_id for each in messages).most_common()
    keys = [f"{count} of key {key_id}" for key_id, count in counts[:KEYS_NAMED]]
    if others := counts[KEYS_NAMED:]:
        keys.append(f"{sum(count for _, count in others)} of {len(others)} other keys")
    return (
        f"messages that are signed with a key which is not known here, {', '.join(keys)}. Name the key in "
        'COUPON_MESSAGE_KEYS, or the former Django secret in DJANGO_SECRET_KEY_FALLBACKS (docs/runbook.md, "Change a '
        'key").'
    )


def report_unknown_keys() -> Sequence[CheckMessage]:
    """Serves `check --deploy`, before the service starts with other keys. Other checks report outages."""
    try:
        found, unscanned = find_unread_unverified(Campaign.objects.filter(LOADED))
    except (RetryLater, *DATABASE_DOWN):
        return []
    messages: list[CheckMessage] = []
    if any(found.values()):
        text = describe_keys(each for campaign in found.values() for each in campaign)
        hint = "If Redis loses its data before they are read, their campaigns stay closed until the key is named."
        messages.append(Error(f"The topic has unread {text}", hint=hint, id="coupons.E018"))
    if unscanned:
        text = f"{unscanned} unread messages were not checked for unknown keys: the time was up."
        messages.append(Warning(text, hint="Check again when the consumer has caught up.", id="coupons.W006"))
    return messages


def refuse_unknown_keys() -> None:
    """Raises OperatorError when Redis has lost its data and perhaps only messages of an unknown key carry its promises:
    no consumer could go on until an operator names the key. While Redis is current, the gate decides about them.

    Raises RetryLater and database errors when a part is down.
    """
    for error in find_blocked_campaigns(stale_campaigns(failures=CampaignFailures())).values():
        raise OperatorError(str(error))
