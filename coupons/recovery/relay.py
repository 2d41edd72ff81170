"""Publishes pending tickets again whose message is not, or no longer, on its way.

A ticket's score shows it (messaging/positions.py). The ticket was never acknowledged and is older than
RELAY_AFTER_MS, or as far in the future, because Redis's clock has stepped back. Or its message lies at an offset
that the consumers have read, and left no row. Or it lies at an offset that the topic does not have (any more). The
relay never repeats a message that waits in the topic for a slow consumer. A second message of a ticket is a duplicate
to the consumer, never a coupon.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings

from coupons.admission import campaign_store, ticket_store
from coupons.admission.gate import Held
from coupons.errors import LogUnavailable, StateStale
from coupons.issuing.ticket_rows import written_sequences
from coupons.messaging.messages import Ticket
from coupons.messaging.positions import PARTITION_STEP, Position
from coupons.messaging.producer import publisher
from coupons.messaging.topics import PartitionLag, partition_lags
from coupons.models import LOADED, Campaign
from coupons.recovery.campaign_failures import CampaignFailures
from coupons.recovery.cut_logs import check_log_ends
from coupons.recovery.locks import Work, work_lock
from coupons.runtime.clock import moment_of
from coupons.runtime.failpoints import RELAY_PUBLISHED, failpoint

logger = logging.getLogger(__name__)
LIMIT = 1_000  # tickets of one campaign and reason at a time
RUN_SEC = 10.0  # the next run does the rest: a keeper has other steps


@dataclass(slots=True)
class RelayReport:
    """The result of a run, in tickets."""

    published: int = 0
    unacknowledged: int = 0
    settled: int = 0  # its row existed; only Redis still had it as pending

    def __str__(self) -> str:
        return f"{self.published} published again, {self.settled} settled, {self.unacknowledged} not acknowledged"


def relay_pending(
    *, campaign_ids: Iterable[UUID] | None = None, failures: CampaignFailures | None = None
) -> RelayReport | None:
    """Relays for all loaded campaigns, or these. Returns None when another relay is at work. Raises RetryLater.

    One that fails for a reason of its own does not stop the others: the caller's `failures` gets its error; without it
    the error is raised last.
    """
    noted = CampaignFailures() if failures is None else failures
    report, until = RelayReport(), time.monotonic() + RUN_SEC
    with work_lock(Work.RELAY) as acquired:
        if not acquired:
            return None
        campaigns = Campaign.objects.filter(LOADED)
        if campaign_ids is not None:
            campaigns = campaigns.filter(pk__in=list(campaign_ids))
        # First: what the relay publishes could make a cut log as long as before, and hide the cut.
        check_log_ends()
        # Read before any ticket: a ticket that is still pending below a read offset has its row, or needs a message.
        lags = partition_lags()
        for campaign_id, epoch in campaigns.values_list("pk", "epoch"):
            with noted.of(campaign_id):
                try:
                    while _relay_campaign(campaign_id, epoch, lags, report) and time.monotonic() < until:
                        pass
                except StateStale as error:
                    logger.info("relay.skipped reason=%s", error)  # the rebuild comes first
    if report.published or report.settled or report.unacknowledged:
        logger.info("relay.done %s", report)
    if failures is None:
        noted.report()
    return report


def _relay_campaign(campaign_id: UUID, epoch: int, lags: Mapping[int, PartitionLag], report: RelayReport) -> bool:
    """Returns True when there may be more to publish now."""
    description = campaign_store.describe(campaign_id=campaign_id, epoch=epoch)
    if description.pending == 0:
        return False
    tickets = _stuck(campaign_id, epoch, lags, now_ms=description.now_ms)
    if not tickets:
        return False
    written = written_sequences(campaign_id, [ticket.user_id for ticket in tickets])
    done = [ticket.user_id for ticket in tickets if written.get(ticket.user_id) == ticket.sequence]
    if done:
        report.settled += ticket_store.settle(epochs={campaign_id: epoch}, users={campaign_id: done})
    settled = set(done)
    unwritten = [ticket for ticket in tickets if ticket.user_id not in settled]
    before = report.unacknowledged
    _publish(campaign_id, epoch, unwritten, description.now_ms, report)
    return len(tickets) >= LIMIT and report.unacknowledged == before


def _stuck(campaign_id: UUID, epoch: int, lags: Mapping[int, PartitionLag], *, now_ms: int) -> list[Held]:
    """Returns pending tickets that no consumer will issue unless they are published again."""

    def between(least: int, greatest: int) -> list[Held]:
        return ticket_store.pending_between(
            campaign_id=campaign_id, epoch=epoch, min_score=least, max_score=greatest, limit=LIMIT
        )

    stuck = between(0, now_ms - settings.RELAY_AFTER_MS)
    stuck += between(now_ms + settings.RELAY_AFTER_MS + 1, PARTITION_STEP - 1)
    beyond_the_end = between(Position(max(lags) + 1, 0).score, 2**53)
    for partition, lag in lags.items():
        first = Position(partition, 0).score
        stuck += between(first, first + lag.next_offset - 1)
        beyond_the_end += between(first + lag.end, first + PARTITION_STEP - 1)
    if beyond_the_end:
        # A ticket published since the ends were read looks the same, so the relay reads the ends once more.
        now = partition_lags()
        stuck += [ticket for ticket in beyond_the_end if _is_beyond(ticket.position, now)]
    return stuck


def _is_beyond(position: Position | None, lags: Mapping[int, PartitionLag]) -> bool:
    if position is None:
        return False
    lag = lags.get(position.partition)
    return lag is None or position.offset >= lag.end


def _publish(campaign_id: UUID, epoch: int, tickets: list[Held], now_ms: int, report: RelayReport) -> None:
    """Publishes in the order of admission, as far as one partition keeps it."""
    in_order = sorted(tickets, key=lambda ticket: ticket.sequence)
    deliveries = {}
    for held in in_order:
        admitted_at_ms = now_ms if held.position is not None else int(held.score or now_ms)
        message = Ticket(campaign_id, held.user_id, held.sequence, moment_of(admitted_at_ms), "relay", epoch)
        deliveries[held.user_id, held.sequence] = publisher().publish(message)
    deadline = time.monotonic() + settings.DELIVERY_TIMEOUT_MS / 1000 + 1
    acknowledged = {}
    for key, delivery in deliveries.items():
        with suppress(LogUnavailable):
            acknowledged[key] = delivery.result(deadline - time.monotonic())
    # Crash here => the messages are in the topic and not marked; the next run publishes duplicates. No coupon is lost.
    failpoint(RELAY_PUBLISHED)
    positions = {key: position for key, position in acknowledged.items() if position is not None}
    if positions:
        ticket_store.mark_published(campaign_id=campaign_id, epoch=epoch, positions=positions)
    report.published += len(acknowledged)
    report.unacknowledged += len(deliveries) - len(acknowledged)
