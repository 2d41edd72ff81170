"""What is so at this moment of some users: for what looked wrong, and is asked for once more before it is told."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.db.models import F, Q
from django.db.models.functions import Now

from coupons.admission import ticket_store
from coupons.admission.gate import Held
from coupons.models import HELD_CODES, Campaign, Coupon, EventStatus, FailEventHistory

Suspect = tuple[str, int]  # user and sequence


@dataclass(slots=True)
class Present:
    """What Redis and, after it, PostgreSQL say now of some users."""

    held: dict[str, Held]
    coupons: set[Suspect] = field(default_factory=set)
    events: set[Suspect] = field(default_factory=set)
    open_held: set[Suspect] = field(default_factory=set)
    written_long_ago: set[str] = field(default_factory=set)

    def holds(self, suspect: Suspect) -> bool:
        user_id, sequence = suspect
        return user_id in self.held and self.held[user_id].sequence == sequence

    def is_written(self, suspect: Suspect) -> bool:
        return suspect in self.coupons or suspect in self.open_held


def look_at(campaign: Campaign, user_ids: Sequence[str]) -> Present:
    """Raises as `ticket_store.held_tickets` does, and database errors."""
    now = Present(ticket_store.held_tickets(campaign_id=campaign.pk, epoch=campaign.epoch, user_ids=user_ids))
    long_ago = Q(at__lt=Now() - timedelta(milliseconds=settings.RELAY_AFTER_MS))
    events = FailEventHistory.objects.filter(campaign=campaign, user_id__in=user_ids, sequence__isnull=False)
    for event in events.annotate(at=F("updated_at"), is_old=long_ago):
        suspect = (event.user_id, event.sequence or 0)
        now.events.add(suspect)
        if event.event_status != EventStatus.SUCCESS and event.error_code in HELD_CODES:
            now.open_held.add(suspect)
            if event.is_old:
                now.written_long_ago.add(event.user_id)
    coupons = Coupon.objects.filter(campaign=campaign, user_id__in=user_ids)
    for user_id, sequence, is_old in coupons.annotate(at=F("issued_at"), is_old=long_ago).values_list(
        "user_id", "sequence", "is_old"
    ):
        now.coupons.add((user_id, sequence))
        if is_old:
            now.written_long_ago.add(user_id)
    return now
