"""Makes the Redis state of campaigns right again after Redis lost or rewound it.

Every promise lies in Redis and in Kafka, so what Redis still has, what was not read yet, and what PostgreSQL
has, together hold every ticket. The order is the proof:

1. one rebuilder: an advisory lock, and a token in Redis that a later rebuilder takes over;
2. the epoch rises in PostgreSQL: a consumer's transaction that asked the gate before cannot commit any more, and a
   process that knows the new epoch takes the old state for stale;
3. wait until no answer can be given any more for what was admitted before, so all that was promised is in the log;
4. note what PostgreSQL has of the topic, then where it ends, and read between;
5. read Coupon and failed events last: what the consumer took from the topic meanwhile is there;
6. one script swaps the new state in, if the token is still this rebuilder's.

A rebuilder that stood still may go on when another one has finished. So each write names what it began with: the epoch
in PostgreSQL, the token in Redis. What it no longer finds there ends it.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import cast
from uuid import UUID, uuid4

from django.conf import settings
from django.db.models import F
from django.db.models.functions import Now

from coupons.admission import campaign_store, gate
from coupons.admission.gate import Held
from coupons.admission.rebuild import BuiltState, Rebuilding, begin_rebuild, finish_rebuild
from coupons.admission.scan import scan_held
from coupons.campaigns.push import settings_of
from coupons.errors import StateStale, UnknownMessageKey
from coupons.messaging.log import LoggedMessage, read_log
from coupons.messaging.messages import InvalidMessage
from coupons.messaging.signing import UnknownKey, open_message
from coupons.messaging.topics import partition_lags
from coupons.models import Campaign
from coupons.reconciliation.rows import failed_tickets, issued_tickets, refused_payloads
from coupons.recovery.cut_logs import look_at_logs
from coupons.recovery.late import came_late, with_ends
from coupons.recovery.locks import Work, only_one
from coupons.recovery.recount import recount
from coupons.recovery.unverified import Unverified, is_forged, refuse_unaccounted
from coupons.runtime.failpoints import (
    REBUILD_BEGUN,
    REBUILD_ENDS_ASKED,
    REBUILD_EPOCH_RAISED,
    REBUILD_LOG_READ,
    REBUILD_SWAPPED,
    failpoint,
)

logger = logging.getLogger(__name__)
SLACK_SEC = 1.0

# campaign -> user -> (sequence, score of the message's position), of what was not read yet
Logged = dict[UUID, dict[str, tuple[int, float]]]


@dataclass(slots=True)
class _Log:
    """What the topic says: tickets, messages of unknown keys by campaign, and where each partition ended."""

    tickets: Logged
    unverified: dict[UUID, list[Unverified]]
    ends: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class RebuildReport:
    """Of one campaign: what its state holds now, in tickets, and how long the rebuild took."""

    campaign_id: UUID
    tickets: int
    pending: int
    seconds: float

    def __str__(self) -> str:
        return f"campaign={self.campaign_id} tickets={self.tickets} pending={self.pending} after={self.seconds:.1f}s"


def stale_campaigns(*, spare_opening: bool = False) -> list[UUID]:
    """Loaded campaigns whose state in Redis is not the current one. Raises GateUnavailable.

    `spare_opening`: not those that were opened a moment ago and that Redis has not heard of. Whoever opens one commits
    to PostgreSQL first; a rebuild that comes between would close for seconds what is about to open.
    """
    opening = timedelta(seconds=settings.REDIS_SOCKET_TIMEOUT_MS / 1000 + SLACK_SEC if spare_opening else 0)
    stale = []
    loaded = Campaign.objects.filter(epoch__gt=0).annotate(unchanged_for=Now() - F("updated_at"))
    rows = loaded.values_list("pk", "epoch", "mended_epoch", "unchanged_for")
    for campaign_id, epoch, mended_epoch, unchanged_for in rows:
        error = _why_stale(campaign_id, epoch, mended_epoch)
        if error is None or (epoch == 1 and error.reason == "missing" and timedelta() <= unchanged_for < opening):
            continue  # negative when PostgreSQL's clock has stepped back: it may have been open for long
        logger.warning("rebuild.stale reason=%s", error)
        stale.append(campaign_id)
    return stale


def _why_stale(campaign_id: UUID, epoch: int, mended_epoch: int) -> StateStale | None:
    try:
        campaign_store.describe(campaign_id=campaign_id, epoch=epoch)
    except StateStale as error:
        # One whose epoch has risen was rebuilt since it was read.
        return None if isinstance(error, gate.EpochAhead) and _has_risen(campaign_id, epoch) else error
    if 1 < epoch != mended_epoch:
        _note_rebuilt(campaign_id, epoch)  # its rebuilder died after the swap
    return None


def _still_stale(campaign_ids: Iterable[UUID]) -> list[UUID]:
    rows = Campaign.objects.filter(pk__in=list(campaign_ids)).values_list("pk", "epoch", "mended_epoch")
    return [campaign_id for campaign_id, *epochs in rows if _why_stale(campaign_id, *epochs)]


def _note_rebuilt(campaign_id: UUID, epoch: int) -> None:
    Campaign.objects.filter(pk=campaign_id, epoch=epoch).update(mended_epoch=epoch)


def _has_risen(campaign_id: UUID, epoch: int) -> bool:
    """An epoch rises in PostgreSQL first. Where it has not, PostgreSQL is an older copy: a dump was restored."""
    return Campaign.objects.filter(pk=campaign_id, epoch__gt=epoch).exists()


def rebuild_campaigns(
    *,
    campaign_ids: Iterable[UUID],
    only_stale: bool = False,
    whole_topic: bool = False,
    forged_keys: Collection[str] = (),
    sleep: Callable[[float], None] = time.sleep,
) -> list[RebuildReport] | None:
    """Rebuild these campaigns in one pass, also if they were current; None when another rebuilder is at work.

    `only_stale`: not those that another rebuilder has made current since the caller looked.

    Until it is through they answer 503. `whole_topic`: read also what was read already, for rows that PostgreSQL has
    lost. Raises RetryLater when Redis or Kafka does not answer, or when another rebuilder has begun since: then they
    stay closed, and the next rebuild starts from the beginning. Raises UnknownMessageKey when only a message of an
    unknown key, and none of `forged_keys`, may know a promise: then that campaign stays closed.
    """
    started = time.monotonic()
    with only_one(Work.REBUILD) as mine:
        if not mine:
            return None
        ids = list(campaign_ids)
        stale = _still_stale(ids)
        ids = stale if only_stale else ids
        if not ids:
            return []
        look_at_logs()  # what was read of a log that was cut since says nothing; and without Kafka no rebuild begins
        token = uuid4().hex
        former = dict(Campaign.objects.filter(pk__in=ids).values_list("pk", "epoch"))
        rebuilds = {campaign_id: begin_rebuild(campaign_id=campaign_id, token=token) for campaign_id in former}
        # Crash from here on => closed with a risen epoch, which is stale; the next rebuild begins anew.
        failpoint(REBUILD_BEGUN)
        epochs = {
            rebuilding.campaign_id: _raise_epoch(rebuilding, former[rebuilding.campaign_id])
            for rebuilding in rebuilds.values()
        }
        failpoint(REBUILD_EPOCH_RAISED)
        sleep(promise_window_sec())
        campaigns = [_still_mine(campaign_id, epoch) for campaign_id, epoch in epochs.items()]
        log = _read_log(campaigns, whole_topic=whole_topic, forged_keys=forged_keys)
        failpoint(REBUILD_LOG_READ)
        reports = []
        refused: list[UnknownMessageKey] = []
        for campaign in campaigns:
            try:
                state = _swap_in(campaign, rebuilds[campaign.pk], log, was_stale=campaign.pk in stale)
            except UnknownMessageKey as error:
                refused.append(error)  # the others open
                continue
            report = RebuildReport(campaign.pk, len(state.tickets), len(state.pending), time.monotonic() - started)
            reports.append(report)
            logger.info("rebuild.done epoch=%d %s", campaign.epoch, report)
        for report in reports:  # when all of them are open again
            recount(report.campaign_id)
        if refused:
            raise refused[0]
        return reports


def _raise_epoch(rebuilding: Rebuilding, former: int) -> int:
    """Above Redis's and PostgreSQL's, which may be an older copy. Raises StateStale when another rebuilder has
    begun."""
    epoch = max(former, rebuilding.epoch) + 1
    mine = Campaign.objects.filter(pk=rebuilding.campaign_id, epoch=former)
    _check_mine(rebuilding.campaign_id, mine.update(epoch=epoch, updated_at=Now()))
    return epoch


def _still_mine(campaign_id: UUID, epoch: int) -> Campaign:
    """The row with the changes that operators made meanwhile. Raises StateStale when another rebuilder has begun
    since."""
    campaign = Campaign.objects.filter(pk=campaign_id, epoch=epoch).first()
    _check_mine(campaign_id, campaign)
    return cast("Campaign", campaign)


def _check_mine(campaign_id: UUID, found: object) -> None:
    if not found:
        message = f"campaign {campaign_id}: another rebuild began since, this one ends"
        raise StateStale(message, campaign_id=campaign_id, reason="epoch")


def _swap_in(campaign: Campaign, rebuilding: Rebuilding, log: _Log, *, was_stale: bool) -> BuiltState:
    campaign = _still_mine(campaign.pk, campaign.epoch)
    state = _gather(campaign, rebuilding, log.tickets[campaign.pk])
    if was_stale:  # a current state has every ticket
        refuse_unaccounted(campaign.pk, log.unverified[campaign.pk], state.tickets)
    # Crash here => the next rebuild takes these ends for a former one's. No promise is lost by that: the window has
    # passed, so what lands from now on for an older epoch was promised to nobody.
    log_ends = with_ends(campaign.log_ends, campaign.epoch, log.ends)
    mine = Campaign.objects.filter(pk=campaign.pk, epoch=campaign.epoch)
    _check_mine(campaign.pk, mine.update(log_ends=log_ends))
    _part_twins(state)
    finish_rebuild(rebuilding, epoch=campaign.epoch, settings=settings_of(campaign), state=state)
    failpoint(REBUILD_SWAPPED)
    # Crash before this => an older copy of Redis would be taken for a newer one; see _why_stale.
    _note_rebuilt(campaign.pk, campaign.epoch)
    return state


def promise_window_sec() -> float:
    """After so long nobody is told "accepted" any more for what was admitted before the epoch rose."""
    window_ms = settings.ACCEPT_TIMEOUT_MS + settings.REDIS_SOCKET_TIMEOUT_MS + settings.REDIS_REPLICA_LAG_MS
    return float(window_ms / 1000 + SLACK_SEC)


def _read_log(campaigns: Sequence[Campaign], *, whole_topic: bool, forged_keys: Collection[str]) -> _Log:
    """What was not read, or all that the topic still has.

    Not among it: what landed after a former rebuild had noted the end (late.py), and messages that were recorded as
    refused, whoever publishes their bytes once more: nobody was promised them.
    """
    lags = partition_lags()  # what was read first, then the ends
    failpoint(REBUILD_ENDS_ASKED)
    log = _Log({each.pk: {} for each in campaigns}, {each.pk: [] for each in campaigns})
    log.ends = {partition: lag.end for partition, lag in lags.items()}
    former = {campaign.pk: campaign.log_ends for campaign in campaigns}
    stretches = {partition: (lag.start if whole_topic else lag.next_offset, lag.end) for partition, lag in lags.items()}
    refused = {campaign.pk: refused_payloads(campaign.pk) for campaign in campaigns}
    for message in read_log(stretches):
        ticket, key_id = None, None
        try:
            ticket = open_message(message.payload, message.headers)
        except UnknownKey as error:
            ticket, key_id = error.ticket, error.key_id
        except InvalidMessage:
            continue  # the consumer makes a failed event of it
        if ticket is None or ticket.campaign_id not in log.tickets:
            continue
        campaign_id = ticket.campaign_id
        if came_late(ticket.epoch, message.position, former[campaign_id]) or _is_refused(message, refused[campaign_id]):
            continue
        if key_id is not None:
            if not is_forged(key_id, forged_keys):
                log.unverified[campaign_id].append(Unverified(key_id, ticket, message.position))
            continue
        tickets = log.tickets[campaign_id]
        if ticket.sequence >= tickets.get(ticket.user_id, (0, 0.0))[0]:
            tickets[ticket.user_id] = (ticket.sequence, float(message.position.score))
    return log


def _is_refused(message: LoggedMessage, refused: set[str]) -> bool:
    return bool(refused) and sha256(message.payload).hexdigest() in refused


def _gather(campaign: Campaign, rebuilding: Rebuilding, logged: dict[str, tuple[int, float]]) -> BuiltState:
    """Join the log, what Redis still has, and PostgreSQL; the later in this list overrules the earlier.

    A Redis of before the last rebuild (an old primary, older files) is left out. What it has and that rebuild did not
    find was promised to nobody, and its places have been given to others since.
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
    for ticket in () if is_older_copy else scan_held(campaign_id):
        known = logged.get(ticket.user_id)
        score = known[1] if known and known[0] == ticket.sequence else _unlogged_score(ticket)
        state.add_pending(ticket.user_id, ticket.sequence, score)
    for row in failed_tickets(campaign_id):
        state.add_settled(row.user_id, row.sequence)
    for row in issued_tickets(campaign_id):
        state.add_settled(row.user_id, row.sequence)
    state.highest_sequence = max(state.highest_sequence, rebuilding.next_sequence - 1)
    return state


def _unlogged_score(ticket: Held) -> float:
    """Of a ticket without a message among those that were read: 0, so that the relay publishes it, unless a row of
    PostgreSQL overrules it. A position in Redis is of a message that was read already, or that landed too late for this
    rebuild, and so for all others; only the time of an admission still tells something."""
    return 0.0 if ticket.on_its_way else ticket.score or 0.0


def _part_twins(state: BuiltState) -> None:
    """One sequence for two users would leave one of them in a conflict for ever: the one with a row keeps it, else the
    first found, and the other gets the next sequence and is published again. Only a Redis that was tampered with, or
    rewound outside the promise (DESIGN, "The old Redis primary"), holds such."""
    owners: dict[int, str] = {}
    twins: list[str] = []
    for user_id, sequence in state.tickets.items():
        owner = owners.setdefault(sequence, user_id)
        if owner != user_id:
            leaves = user_id if user_id in state.pending else owner
            owners[sequence] = owner if leaves == user_id else user_id
            twins.append(leaves)
    for user_id in twins:
        if user_id in state.pending:
            logger.error(
                "rebuild.twins user=%s sequence=%d becomes=%d",
                user_id,
                state.tickets[user_id],
                state.highest_sequence + 1,
            )
            state.add_pending(user_id, state.highest_sequence + 1, 0.0)
