"""Records in PostgreSQL how far the consumers have read each partition, along with the rows that they write.

Any client can move the group's offsets in Kafka, and a broker can lose them. Rebuild, relay and ledger rely on this.
"""

from collections.abc import Mapping

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Least

from coupons.errors import MessagesSkipped
from coupons.models import PartitionOffset
from coupons.runtime.id_sequences import heals_id_sequences


def next_offsets() -> dict[int, int]:
    """Returns the next offset of each partition ever read. Every message below it is a coupon or a failed event."""
    return dict(_rows().values_list("partition", "next_offset"))


@heals_id_sequences
def start_offsets(committed: Mapping[int, int | None]) -> dict[int, int]:
    """Returns the recorded offset of each partition where it is below the group's committed offset: reading must begin
    there. Records a partition that is read for the first time at the group's offset, or at its beginning."""
    with transaction.atomic():
        for partition, offset in committed.items():
            PartitionOffset.objects.get_or_create(
                topic=settings.TOPIC, partition=partition, defaults={"next_offset": offset or 0}
            )
    recorded = next_offsets()
    return {
        partition: recorded[partition]
        for partition, offset in committed.items()
        if offset is not None and recorded[partition] < offset
    }


def advance(read: Mapping[int, tuple[int, int]]) -> None:
    """Records that batches were read: partition -> first offset, and the one after the last. Runs in their transaction.

    A batch that begins below the record moves the record back: its messages are read again, and the record covers only
    what this reader has seen. Raises MessagesSkipped when a batch begins beyond the record, so that none is left out.
    """
    rows = list(_rows().filter(partition__in=read).select_for_update().order_by("partition"))
    rows += [  # PostgreSQL has lost these rows: the whole log must be read
        PartitionOffset.objects.create(topic=settings.TOPIC, partition=partition, next_offset=0)
        for partition in read.keys() - {row.partition for row in rows}
    ]
    recorded = {row.partition: row.next_offset for row in rows}
    skipped = {partition: recorded[partition] for partition, (first, _) in read.items() if first > recorded[partition]}
    if skipped:
        begins = ", ".join(
            f"{partition}@{read[partition][0]}, read up to {offset}" for partition, offset in skipped.items()
        )
        raise MessagesSkipped(f"messages of topic {settings.TOPIC} were skipped: {begins}", next_offsets=skipped)
    for row in rows:
        row.next_offset = read[row.partition][1]
    PartitionOffset.objects.bulk_update(rows, ["next_offset"])


def skip_expired(starts: Mapping[int, int]) -> list[int]:
    """Moves on to the start of each log whose unread messages retention has removed. Returns these partitions."""
    expired = []
    for partition, start in starts.items():
        if _rows().filter(partition=partition, next_offset__lt=start).update(next_offset=start):
            expired.append(partition)
    return expired


def rewind(starts: Mapping[int, int]) -> None:
    """Moves back to the start of logs that were cut or made anew, so that what they hold now is read."""
    for partition, start in starts.items():
        _rows().filter(partition=partition).update(next_offset=Least(F("next_offset"), start), end_offset=start)


def _rows() -> QuerySet[PartitionOffset]:
    return PartitionOffset.objects.filter(topic=settings.TOPIC)
