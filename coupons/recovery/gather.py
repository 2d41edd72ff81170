"""Builds a campaign's state for a rebuild, from the topic, the remaining state in Redis, and PostgreSQL."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from msgspec.structs import replace

from coupons.admission.gate import Held
from coupons.admission.rebuild import BuiltState, Rebuilding
from coupons.admission.ticket_store import scan_held
from coupons.issuing.erased import ErasedUsers, erased_users
from coupons.issuing.ticket_rows import failed_tickets, issued_tickets, refused_payloads
from coupons.messaging.log import LoggedMessage, read_log
from coupons.messaging.messages import Ticket
from coupons.messaging.positions import Position
from coupons.messaging.signing import read_ticket
from coupons.messaging.topics import partition_lags
from coupons.models import Campaign
from coupons.recovery.campaign_failures import CampaignFailures
from coupons.recovery.late import came_late
from coupons.recovery.unknown_keys import Unverified, is_forged
from coupons.runtime.failpoints import REBUILD_ENDS_ASKED, failpoint

logger = logging.getLogger(__name__)

Logged = dict[str, tuple[int, float]]  # user -> sequence and the score of the message's position


@dataclass(slots=True)
class Log:
    """The topic's tickets and messages of unknown keys, by campaign, and where each partition ended."""

    tickets: dict[UUID, Logged]
    unverified: dict[UUID, list[Unverified]]
    ends: dict[int, int]

    def add(self, ticket: Ticket, position: Position) -> None:
        """Adds a ticket. Of two tickets of a user the later one counts."""
        tickets = self.tickets[ticket.campaign_id]
        if ticket.sequence >= tickets.get(ticket.user_id, (0, 0.0))[0]:
            tickets[ticket.user_id] = (ticket.sequence, float(position.score))


def read_logged_tickets(
    campaigns: Sequence[Campaign], failures: CampaignFailures, *, whole_topic: bool, forged_keys: Collection[str]
) -> Log:
    """Reads the unread messages, or with `whole_topic` all that the topic still has.

    Leaves out messages that landed after a former rebuild had noted the end (late.py), and those that were recorded as
    refused, even if their bytes are published once more: no user was promised such a ticket. What it has of a campaign
    that is in `failures` is not complete.
    """
    lags = partition_lags()  # read offsets first, then the ends
    failpoint(REBUILD_ENDS_ASKED)
    ends = {partition: lag.end for partition, lag in lags.items()}
    log = Log({each.pk: {} for each in campaigns}, {each.pk: [] for each in campaigns}, ends)
    former = {campaign.pk: campaign.log_ends for campaign in campaigns}
    ranges = {partition: (lag.start if whole_topic else lag.next_offset, lag.end) for partition, lag in lags.items()}
    refused = {campaign.pk: refused_payloads(campaign.pk) for campaign in campaigns}
    erased = erased_users(former)
    for message in read_log(ranges):
        ticket, key_id = read_ticket(message.payload, message.headers)
        if ticket is None or ticket.campaign_id not in log.tickets:
            continue  # the consumer makes a failed event of it
        campaign_id = ticket.campaign_id
        try:
            came_after = came_late(ticket.epoch, message.position, former[campaign_id])
        except Exception as error:  # noqa: BLE001  its row is damaged, and no other campaign waits for that
            failures.errors[campaign_id] = error
            continue
        if came_after or _is_refused(message, refused[campaign_id]):
            continue
        ticket = _under_its_pseudonym(ticket, erased.get(campaign_id))
        if key_id is None:
            log.add(ticket, message.position)
        elif not is_forged(key_id, forged_keys):
            log.unverified[campaign_id].append(Unverified(key_id, ticket, message.position))
    return log


def _under_its_pseudonym(ticket: Ticket, erased: ErasedUsers | None) -> Ticket:
    """Returns the ticket as PostgreSQL has it: a user who was erased must not come back from the topic."""
    return ticket if erased is None else replace(ticket, user_id=erased.current_id(ticket.user_id))


def _is_refused(message: LoggedMessage, refused: set[str]) -> bool:
    return bool(refused) and sha256(message.payload).hexdigest() in refused


def build_state(campaign: Campaign, rebuilding: Rebuilding, logged: Logged) -> BuiltState:
    """Joins the log, the old state in Redis, and PostgreSQL. Each source overrules those before it.

    Ignores a Redis from before the last rebuild (an old primary, older files): a ticket that only such a Redis has was
    never promised, and another user may have its sequence by now.
    """
    campaign_id = campaign.pk
    state = BuiltState()
    for user_id, (sequence, score) in logged.items():
        state.add_pending(user_id, sequence, score)
    is_older_copy = 0 < rebuilding.epoch < campaign.mended_epoch
    if is_older_copy:
        logger.warning(
            "rebuild.older_copy campaign=%s epoch=%d rebuilt=%d", campaign_id, rebuilding.epoch, campaign.mended_epoch
        )
    erased = erased_users([campaign_id]).get(campaign_id)
    for ticket in () if is_older_copy else scan_held(campaign_id):
        user_id = ticket.user_id if erased is None else erased.current_id(ticket.user_id)
        known = logged.get(user_id)
        score = known[1] if known and known[0] == ticket.sequence else _unlogged_score(ticket)
        state.add_pending(user_id, ticket.sequence, score)
    for row in failed_tickets(campaign_id):
        state.add_settled(row.user_id, row.sequence)
    for row in issued_tickets(campaign_id):
        state.add_settled(row.user_id, row.sequence)
    state.highest_sequence = max(state.highest_sequence, rebuilding.next_sequence - 1)
    _separate_shared_sequences(state)
    return state


def _unlogged_score(ticket: Held) -> float:
    """Returns the score of a ticket whose message was not among those read: the time of its admission, or 0, so that
    the relay publishes it unless a row of PostgreSQL overrules it. A position in Redis is of no use: it belongs to a
    message that was read before, or that landed too late for this rebuild and all others."""
    return 0.0 if ticket.on_its_way else ticket.score or 0.0


def _separate_shared_sequences(state: BuiltState) -> None:
    """Gives two users of one sequence a sequence each, or one of them would be in conflict for ever. The user with a
    row keeps it, else the first found; the other gets the next sequence and a new message. Only a Redis that was
    tampered with, or that went back further than the promise covers (docs/decisions/0013), has such tickets."""
    taken = {sequence for user_id, sequence in state.tickets.items() if user_id not in state.pending}
    for user_id in state.pending:
        sequence = state.tickets[user_id]
        if sequence in taken:
            new = state.highest_sequence + 1
            logger.error("rebuild.shared_sequence user=%s sequence=%d becomes=%d", user_id, sequence, new)
            state.add_pending(user_id, new, 0.0)
        taken.add(sequence)
