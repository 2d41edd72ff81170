"""Detects a log that is shorter than it was, so that the relay publishes the tickets pending there again at once.

A partition that lost messages (a disk, an unclean election, a topic made anew) lacks tickets that Redis still holds.
Each check compares the log's end with the furthest end seen before. Without it these tickets would wait until a
consumer has read past their former offsets, and would be lost if Redis lost its data before that.
"""

import logging

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from coupons.admission import ticket_store
from coupons.admission.scripts import is_refusal
from coupons.errors import GateUnavailable, StateStale
from coupons.messaging import read_offsets
from coupons.messaging.topics import PartitionLag, partition_lags, topic_id
from coupons.models import LOADED, Campaign, PartitionOffset

logger = logging.getLogger(__name__)
MISSING_PARTITION = PartitionLag(0, 0, None)


def check_log_ends() -> list[int]:
    """Compares each partition with its recorded end. Returns those that were cut. Raises RetryLater, database errors.

    Repeats unfinished work: a partition counts as cut until its tickets are marked as unpublished.
    """
    # Read before the ends: a log that only grows ends at or beyond each of these.
    seen = {row.partition: row for row in PartitionOffset.objects.filter(topic=settings.TOPIC)}
    lags, now_id = partition_lags(), topic_id()
    cut = [number for number, row in seen.items() if _is_cut(row, lags.get(number, MISSING_PARTITION), now_id)]
    for partition in cut:
        row, lag = seen[partition], lags.get(partition, MISSING_PARTITION)
        was = max(row.end_offset, row.next_offset)
        logger.error("log.cut topic=%s partition=%d end=%d was=%d", settings.TOPIC, partition, lag.end, was)
    if cut:
        _mark_unpublished(cut)
        # Crash before this => the next check finds the same partitions cut, and does it again.
        read_offsets.rewind({partition: lags.get(partition, MISSING_PARTITION).start for partition in cut})
    expired = read_offsets.skip_expired({number: lag.start for number, lag in lags.items() if number in seen})
    if expired:
        logger.error("log.expired topic=%s partitions=%s", settings.TOPIC, expired)
    _remember(lags, now_id)
    return cut


def _is_cut(row: PartitionOffset, lag: PartitionLag, now_id: str) -> bool:
    return lag.end < max(row.end_offset, row.next_offset) or row.topic_id not in ("", now_id)


def _mark_unpublished(partitions: list[int]) -> None:
    """Marks tickets of every campaign whose state is current. A rebuild of the others forgets the positions anyway, and
    a campaign whose keys Redis refuses must be rebuilt: its state is stale from now on."""
    for campaign_id, epoch in Campaign.objects.filter(LOADED).values_list("pk", "epoch"):
        try:
            for partition in partitions:
                ticket_store.mark_unpublished(campaign_id=campaign_id, epoch=epoch, partition=partition)
        except StateStale as error:
            logger.info("log.left_to_rebuild reason=%s", error)
        except GateUnavailable as error:
            if not is_refusal(error):
                raise
            Campaign.objects.filter(pk=campaign_id, epoch=epoch).update(epoch=F("epoch") + 1, updated_at=Now())
            logger.warning("log.left_to_rebuild reason=campaign %s: %s", campaign_id, error)


def _remember(lags: dict[int, PartitionLag], now_id: str) -> None:
    """Records the ends. Skips rows that a consumer writes at this moment: its offset shows how far the log goes."""
    with transaction.atomic():
        free = PartitionOffset.objects.filter(topic=settings.TOPIC).select_for_update(skip_locked=True)
        rows = [row for row in free.order_by("partition") if row.partition in lags]
        moved = [row for row in rows if (row.end_offset, row.topic_id) != (lags[row.partition].end, now_id)]
        for row in moved:
            row.end_offset, row.topic_id = lags[row.partition].end, now_id
        PartitionOffset.objects.bulk_update(moved, ["end_offset", "topic_id"])
