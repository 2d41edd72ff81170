"""Checks the comparison's suspects once more: they may have changed while the sources were read."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import NamedTuple

from django.conf import settings
from django.db.models.functions import Now

from coupons.admission import ticket_store
from coupons.admission.gate import Held
from coupons.issuing.erased import erased_users
from coupons.messaging.topics import PartitionLag, partition_lags
from coupons.models import HELD_CODES, Campaign, Coupon, EventStatus, FailEventHistory


class Suspect(NamedTuple):
    """`sequence` is 0 where only the user is known."""

    user_id: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.user_id} #{self.sequence}" if self.sequence else self.user_id


class SecondLook:
    """Reads some suspects again, from Redis and then from PostgreSQL; each method judges one suspect.

    The caller takes `lags` before it reads any source. A ticket that was admitted since `young_from_ms` need not be
    published yet. Raises as `ticket_store.held_tickets` does, LogUnavailable and database errors.
    """

    def __init__(
        self,
        campaign: Campaign,
        suspects: Sequence[Suspect],
        *,
        lags: Mapping[int, PartitionLag],
        young_from_ms: int,
    ) -> None:
        users = [suspect.user_id for suspect in suspects]
        self._lags, self._young_from_ms = lags, young_from_ms
        self._held = ticket_store.held_tickets(campaign_id=campaign.pk, epoch=campaign.epoch, user_ids=users)
        # Failed events before coupons: a retry turns one into a coupon in one transaction.
        events = FailEventHistory.objects.filter(campaign=campaign, user_id__in=users, sequence__isnull=False)
        failed = events.exclude(event_status=EventStatus.SUCCESS).filter(error_code__in=HELD_CODES)
        coupons = Coupon.objects.filter(campaign=campaign, user_id__in=users)
        # Their tickets and rows are a pseudonym's by now; a message that the topic still has names them all the same.
        erased = erased_users([campaign.pk]).get(campaign.pk, ())
        self._erased = {user_id for user_id in users if user_id in erased}
        self._events = set(events.values_list("user_id", "sequence"))
        self._failed = set(failed.values_list("user_id", "sequence"))
        self._coupons = set(coupons.values_list("user_id", "sequence"))
        long_ago = Now() - timedelta(milliseconds=settings.RELAY_AFTER_MS)
        self._written_long_ago = {
            *failed.filter(updated_at__lt=long_ago).values_list("user_id", flat=True),
            *coupons.filter(issued_at__lt=long_ago).values_list("user_id", flat=True),
        }

    def is_lost(self, suspect: Suspect) -> bool:
        held = self._held.get(suspect.user_id)
        return not (held and held.pending) and not self._is_written(suspect) and not self._is_erased(suspect)

    def is_stuck(self, suspect: Suspect) -> bool:
        held = self._held.get(suspect.user_id)
        pending = held is not None and held.pending and not self._is_on_its_way(held)
        return pending and not self._is_written(suspect)

    def is_settled_late(self, suspect: Suspect) -> bool:
        held = self._held.get(suspect.user_id)
        return held is not None and held.pending and suspect.user_id in self._written_long_ago

    def is_not_admitted(self, suspect: Suspect) -> bool:
        return suspect.user_id not in self._held

    def is_not_held(self, suspect: Suspect) -> bool:
        held = self._held.get(suspect.user_id)
        return held is None or held.sequence != suspect.sequence

    def has_no_trace(self, suspect: Suspect) -> bool:
        is_unwritten = suspect not in self._coupons and suspect not in self._events
        return self.is_not_held(suspect) and is_unwritten and not self._is_erased(suspect)

    def has_no_coupon(self, suspect: Suspect) -> bool:
        return suspect not in self._coupons

    def _is_written(self, suspect: Suspect) -> bool:
        return suspect in self._coupons or suspect in self._failed

    def _is_erased(self, suspect: Suspect) -> bool:
        return suspect.user_id in self._erased

    def _is_on_its_way(self, held: Held) -> bool:
        """Whether the consumers may still read its message: it was unread at the start, and the topic still has it."""
        if held.position is None:
            return (held.score or 0.0) >= self._young_from_ms
        partition, offset = held.position
        unread, end = self._lags.get(partition), self._ends.get(partition)
        return unread is not None and end is not None and unread.next_offset <= offset < end.end

    @cached_property
    def _ends(self) -> Mapping[int, PartitionLag]:
        """Reads the ends after the tickets, as a message may be published at any moment."""
        return partition_lags()
