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
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import cast
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction
from django.db.models import Count
from django.db.models.functions import Now

from coupons.admission.rebuild import BuiltState, Rebuilding, begin_rebuild, finish_rebuild
from coupons.campaigns.push import settings_of
from coupons.errors import StateStale, UnknownMessageKey
from coupons.models import Campaign
from coupons.recovery.cut_logs import check_log_ends
from coupons.recovery.gather import Log, build_state, read_logged_tickets
from coupons.recovery.late import add_log_ends
from coupons.recovery.locks import Work, work_lock
from coupons.recovery.stale import SLACK_SEC, record_rebuilt, still_stale
from coupons.recovery.unknown_keys import refuse_unaccounted
from coupons.runtime.failpoints import (
    REBUILD_BEGUN,
    REBUILD_EPOCH_RAISED,
    REBUILD_LOG_READ,
    REBUILD_SWAPPED,
    failpoint,
)

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class RebuildReport:
    """Of one campaign: what its state holds now, in tickets, and how long the rebuild took."""

    campaign_id: UUID
    tickets: int
    pending: int
    seconds: float

    def __str__(self) -> str:
        return f"campaign={self.campaign_id} tickets={self.tickets} pending={self.pending} after={self.seconds:.1f}s"


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
    with work_lock(Work.REBUILD) as acquired:
        if not acquired:
            return None
        ids = list(campaign_ids)
        stale = still_stale(ids)
        ids = stale if only_stale else ids
        if not ids:
            return []
        check_log_ends()  # how far a log that was cut since was read says nothing; and without Kafka no rebuild begins
        started = time.monotonic()
        rebuildings = _begin(ids)
        sleep(promise_window_sec())
        campaigns = {
            campaign_id: _reload_campaign(campaign_id, epoch) for campaign_id, (_, epoch) in rebuildings.items()
        }
        log = read_logged_tickets(list(campaigns.values()), whole_topic=whole_topic, forged_keys=forged_keys)
        failpoint(REBUILD_LOG_READ)
        reports = []
        refused: list[UnknownMessageKey] = []
        for campaign_id, campaign in campaigns.items():
            try:
                state = _swap_in(campaign, rebuildings[campaign_id][0], log, was_stale=campaign_id in stale)
            except UnknownMessageKey as error:
                refused.append(error)  # the others open
                continue
            report = RebuildReport(campaign_id, len(state.tickets), len(state.pending), time.monotonic() - started)
            reports.append(report)
            logger.info("rebuild.done epoch=%d %s", campaign.epoch, report)
        for report in reports:  # when all of them are open again
            correct_issued_count(report.campaign_id)
        if refused:
            raise refused[0]
        return reports


def _begin(campaign_ids: Collection[UUID]) -> dict[UUID, tuple[Rebuilding, int]]:
    """Close the campaigns in Redis, then raise their epochs in PostgreSQL; returns the new epochs."""
    token = uuid4().hex
    former = dict(Campaign.objects.filter(pk__in=campaign_ids).values_list("pk", "epoch"))
    rebuildings = {campaign_id: begin_rebuild(campaign_id=campaign_id, token=token) for campaign_id in former}
    # Crash from here on => closed with a risen epoch, which is stale; the next rebuild begins anew.
    failpoint(REBUILD_BEGUN)
    begun = {
        campaign_id: (rebuilding, _raise_epoch(rebuilding, former[campaign_id]))
        for campaign_id, rebuilding in rebuildings.items()
    }
    failpoint(REBUILD_EPOCH_RAISED)
    return begun


def _raise_epoch(rebuilding: Rebuilding, former: int) -> int:
    """Above Redis's and PostgreSQL's, which may be an older copy. Raises StateStale when another rebuilder has
    begun."""
    epoch = max(former, rebuilding.epoch) + 1
    current = Campaign.objects.filter(pk=rebuilding.campaign_id, epoch=former)
    _require_current_epoch(rebuilding.campaign_id, current.update(epoch=epoch, updated_at=Now()))
    return epoch


def _reload_campaign(campaign_id: UUID, epoch: int) -> Campaign:
    """The row with the changes that operators made meanwhile. Raises StateStale when another rebuilder has begun
    since."""
    campaign = Campaign.objects.filter(pk=campaign_id, epoch=epoch).first()
    _require_current_epoch(campaign_id, campaign)
    return cast("Campaign", campaign)


def _require_current_epoch(campaign_id: UUID, found: object) -> None:
    if not found:
        message = f"campaign {campaign_id}: another rebuild began since, this one ends"
        raise StateStale(message, campaign_id=campaign_id, reason="epoch")


def _swap_in(campaign: Campaign, rebuilding: Rebuilding, log: Log, *, was_stale: bool) -> BuiltState:
    campaign = _reload_campaign(campaign.pk, campaign.epoch)
    state = build_state(campaign, rebuilding, log.tickets[campaign.pk])
    if was_stale:  # a current state has every ticket
        refuse_unaccounted(campaign.pk, log.unverified[campaign.pk], state.tickets)
    # Crash here => the next rebuild takes these ends for a former one's. No promise is lost by that: the window has
    # passed, so what lands from now on for an older epoch was promised to nobody.
    log_ends = add_log_ends(campaign.log_ends, campaign.epoch, log.ends)
    current = Campaign.objects.filter(pk=campaign.pk, epoch=campaign.epoch)
    _require_current_epoch(campaign.pk, current.update(log_ends=log_ends))
    finish_rebuild(rebuilding, epoch=campaign.epoch, settings=settings_of(campaign), state=state)
    failpoint(REBUILD_SWAPPED)
    record_rebuilt(campaign.pk, campaign.epoch)
    return state


def promise_window_sec() -> float:
    """After so long nobody is told "accepted" any more for what was admitted before the epoch rose."""
    window_ms = settings.ACCEPT_TIMEOUT_MS + settings.REDIS_SOCKET_TIMEOUT_MS + settings.REDIS_REPLICA_LAG_MS
    return float(window_ms / 1000 + SLACK_SEC)


def correct_issued_count(campaign_id: UUID) -> None:
    """Set issued_count right if rows were deleted, or written while the trigger was off: it would refuse good ones.

    Not while there are more coupons than the quantity, which the database could not store: that is raised first.
    """
    counted, coupons = _counts(campaign_id)
    if counted == coupons:
        return
    with transaction.atomic():
        # The trigger takes this lock too, so what counts next has seen every insert or waits for it.
        campaign = Campaign.objects.select_for_update(no_key=True).get(pk=campaign_id)
        counted, coupons = _counts(campaign_id)
        if coupons > campaign.quantity:
            return
        Campaign.objects.filter(pk=campaign_id).update(issued_count=coupons)
    logger.error("rebuild.recounted campaign=%s issued_count=%d coupons=%d", campaign_id, counted, coupons)


def _counts(campaign_id: UUID) -> tuple[int, int]:
    """issued_count, and the number of coupons, of one moment."""
    return (
        Campaign.objects.filter(pk=campaign_id).annotate(rows=Count("coupons")).values_list("issued_count", "rows")[0]
    )
