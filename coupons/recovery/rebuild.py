"""Rebuilds the Redis state of campaigns after Redis lost or rewound it.

Every promise is in Redis and in Kafka. So the remaining state in Redis, the unread messages and PostgreSQL together
hold every ticket. The order is the proof:

1. One rebuilder works: it holds an advisory lock, and a token in Redis that a later rebuilder takes over.
2. The epoch rises in PostgreSQL: a consumer's transaction that asked the gate before can no longer commit, and a
   process that knows the new epoch treats the old state as stale.
3. The rebuilder waits until no admission from before can be promised any more, so every promise is in the log.
4. It notes how far PostgreSQL has the topic, then where the topic ends, and reads the messages between.
5. It reads coupons and failed events last: what the consumer took from the topic meanwhile is there.
6. One script swaps the new state in, if the token is still this rebuilder's.

A rebuilder that stood still may go on when another one has finished. So each write names what it began with, the epoch
in PostgreSQL or the token in Redis, and a rebuilder ends when it no longer finds that.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction
from django.db.models import Count
from django.db.models.functions import Now

from coupons.admission.rebuild import BuiltState, Rebuilding, begin_rebuild, finish_rebuild
from coupons.campaigns.redis_sync import settings_of
from coupons.errors import StateStale
from coupons.models import LOADED, Campaign, CampaignState
from coupons.recovery.campaign_failures import CampaignFailures
from coupons.recovery.cut_logs import check_log_ends
from coupons.recovery.gather import Log, build_state, read_logged_tickets
from coupons.recovery.late import add_log_ends
from coupons.recovery.locks import Work, work_lock
from coupons.recovery.stale import SLACK_SEC, record_rebuilt, still_stale
from coupons.recovery.unknown_keys import refuse_unaccounted
from coupons.runtime.clock import database_now
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
    failures: CampaignFailures | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[RebuildReport] | None:
    """Rebuilds these campaigns, current ones too, in one pass or two (`in_order_of_need`). Returns None when another
    rebuilder is at work.

    Until the end of their pass they answer 503. `only_stale` skips those that another rebuilder has made current
    meanwhile. `whole_topic` also reads messages that were read already, for rows that PostgreSQL has lost.

    Raises RetryLater when Redis or Kafka does not answer: the campaigns stay closed, and the next rebuild starts from
    the beginning. So does a campaign that fails for a reason of its own, while the others open: another rebuilder has
    begun since, Redis refuses its keys, or only a message of an unknown key, which is not one of `forged_keys`, may
    carry a promise (UnknownMessageKey). The caller's `failures` gets these errors; without it they are raised last.
    """
    noted = CampaignFailures() if failures is None else failures
    reports = _rebuild(
        list(campaign_ids),
        noted,
        only_stale=only_stale,
        whole_topic=whole_topic,
        forged_keys=forged_keys,
        sleep=sleep,
    )
    if failures is None:
        noted.report()
    return reports


def _rebuild(
    ids: list[UUID],
    failures: CampaignFailures,
    *,
    only_stale: bool,
    whole_topic: bool,
    forged_keys: Collection[str],
    sleep: Callable[[float], None],
) -> list[RebuildReport] | None:
    with work_lock(Work.REBUILD) as acquired:
        if not acquired:
            return None
        stale = still_stale(ids, failures)
        ids = stale if only_stale else [each for each in ids if each not in failures.errors]
        if not ids:
            return []
        check_log_ends()  # after a cut the read offset is void; and without Kafka no rebuild begins
        reports = []
        for chosen in in_order_of_need(ids):
            reports += _run_pass(chosen, stale, failures, whole_topic=whole_topic, forged_keys=forged_keys, sleep=sleep)
        return reports


def in_order_of_need(campaign_ids: Collection[UUID]) -> list[list[UUID]]:
    """Returns the campaigns of each pass. The second pass, over campaigns that have ended, begins when those of the
    first are open again: ended ones may have millions of tickets, and nobody waits for them. In the first pass those
    that can admit users come first, by their opening, then the paused and the sold-out ones."""
    now = database_now()
    passes: tuple[list[tuple[int, datetime, UUID]], ...] = ([], [])
    for campaign in Campaign.objects.filter(pk__in=campaign_ids).defer("log_ends"):
        has_ended = campaign.closes_at is not None and campaign.closes_at <= now
        is_over = has_ended or campaign.state == CampaignState.CLOSED
        is_sold_out = campaign.issued_count >= campaign.quantity
        rank = 0 if campaign.state == CampaignState.OPEN and not is_sold_out else 1
        passes[is_over].append((rank, campaign.opens_at, campaign.pk))
    return [[campaign_id for _, _, campaign_id in sorted(chosen)] for chosen in passes if chosen]


def _run_pass(
    ids: Sequence[UUID],
    stale: Collection[UUID],
    failures: CampaignFailures,
    *,
    whole_topic: bool,
    forged_keys: Collection[str],
    sleep: Callable[[float], None],
) -> list[RebuildReport]:
    started = time.monotonic()
    rebuildings = _begin(ids, failures)
    sleep(promise_window_sec())
    campaigns = {}
    for campaign_id, (_, epoch) in rebuildings.items():
        with failures.of(campaign_id):
            campaigns[campaign_id] = _reload_campaign(campaign_id, epoch)
    log = read_logged_tickets(list(campaigns.values()), failures, whole_topic=whole_topic, forged_keys=forged_keys)
    failpoint(REBUILD_LOG_READ)
    reports = []
    for campaign_id, campaign in campaigns.items():
        if campaign_id in failures.errors:
            continue
        with failures.of(campaign_id):
            state = _swap_in(campaign, rebuildings[campaign_id][0], log, was_stale=campaign_id in stale)
            report = RebuildReport(campaign_id, len(state.tickets), len(state.pending), time.monotonic() - started)
            reports.append(report)
            logger.info("rebuild.done epoch=%d %s", campaign.epoch, report)
    for report in reports:  # after all campaigns of the pass are open again
        with failures.of(report.campaign_id):
            correct_issued_count(report.campaign_id)
    return reports


def _begin(campaign_ids: Sequence[UUID], failures: CampaignFailures) -> dict[UUID, tuple[Rebuilding, int]]:
    """Closes the campaigns in Redis, then raises their epochs in PostgreSQL. Returns the new epochs."""
    token = uuid4().hex
    former = dict(Campaign.objects.filter(LOADED, pk__in=campaign_ids).values_list("pk", "epoch"))
    rebuildings = {}
    for campaign_id in campaign_ids:
        if campaign_id not in former:
            continue
        with failures.of(campaign_id):
            rebuildings[campaign_id] = begin_rebuild(campaign_id=campaign_id, token=token)
    # Crash from here on => the campaigns are closed and stale; the next rebuild begins anew.
    failpoint(REBUILD_BEGUN)
    begun = {}
    for campaign_id, rebuilding in rebuildings.items():
        with failures.of(campaign_id):
            begun[campaign_id] = rebuilding, _raise_epoch(rebuilding, former[campaign_id])
    failpoint(REBUILD_EPOCH_RAISED)
    return begun


def _raise_epoch(rebuilding: Rebuilding, former: int) -> int:
    """Raises the epoch above Redis's and PostgreSQL's, either of which may be an older copy. Raises StateStale when
    another rebuilder has begun."""
    epoch = max(former, rebuilding.epoch) + 1
    current = Campaign.objects.filter(pk=rebuilding.campaign_id, epoch=former)
    _require_current_epoch(rebuilding.campaign_id, current.update(epoch=epoch, updated_at=Now()))
    return epoch


def _reload_campaign(campaign_id: UUID, epoch: int) -> Campaign:
    """Returns the row with operators' changes since. Raises StateStale when another rebuilder has begun."""
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
    if was_stale:  # a current state holds every ticket
        refuse_unaccounted(campaign.pk, log.unverified[campaign.pk], state.tickets)
    # Crash here => the next rebuild takes these ends for a former rebuild's. That loses no promise: the window has
    # passed, so a message of an older epoch that lands from now on is no promise.
    log_ends = add_log_ends(campaign.log_ends, campaign.epoch, log.ends)
    current = Campaign.objects.filter(pk=campaign.pk, epoch=campaign.epoch)
    _require_current_epoch(campaign.pk, current.update(log_ends=log_ends))
    finish_rebuild(rebuilding, epoch=campaign.epoch, settings=settings_of(campaign), state=state)
    failpoint(REBUILD_SWAPPED)
    record_rebuilt(campaign.pk, campaign.epoch)
    return state


def promise_window_sec() -> float:
    """Returns how long an admission from before the epoch rose may still be answered with "accepted"."""
    window_ms = settings.ACCEPT_TIMEOUT_MS + settings.REDIS_SOCKET_TIMEOUT_MS + settings.REDIS_REPLICA_LAG_MS
    return float(window_ms / 1000 + SLACK_SEC)


def correct_issued_count(campaign_id: UUID) -> None:
    """Corrects issued_count after rows were deleted, or written while the trigger was off.

    A wrong count makes the database refuse good coupons. Skips a campaign with more coupons than its quantity, a count
    that the database cannot store: an operator raises the quantity first.
    """
    counted, coupons = _counts(campaign_id)
    if counted == coupons:
        return
    with transaction.atomic():
        # The trigger takes this lock too, so the next count sees every insert or waits for it.
        campaign = Campaign.objects.select_for_update(no_key=True).get(pk=campaign_id)
        counted, coupons = _counts(campaign_id)
        if coupons > campaign.quantity:
            return
        Campaign.objects.filter(pk=campaign_id).update(issued_count=coupons)
    logger.error("rebuild.recounted campaign=%s issued_count=%d coupons=%d", campaign_id, counted, coupons)


def _counts(campaign_id: UUID) -> tuple[int, int]:
    """Returns issued_count and the number of coupons, at one moment."""
    return (
        Campaign.objects.filter(pk=campaign_id).annotate(rows=Count("coupons")).values_list("issued_count", "rows")[0]
    )
