"""The list filters. Each reads only a few rows to draw itself."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from coupons.models import Campaign, EventStatus

CAMPAIGNS_OFFERED = 10


class CampaignFilter(admin.SimpleListFilter):
    """Offers the newest campaigns as links, and a field for the id of any other campaign."""

    title = "campaign"
    parameter_name = "campaign__id__exact"
    template = "admin/coupons/campaign_filter.html"

    def has_output(self) -> bool:
        return True

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        newest = list(Campaign.objects.order_by("-created_at")[:CAMPAIGNS_OFFERED])
        chosen = self.campaign_id
        if chosen is not None and chosen not in {campaign.pk for campaign in newest}:
            newest += Campaign.objects.filter(pk=chosen)
        return [(str(campaign.pk), campaign.name) for campaign in newest]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        if self.campaign_id is None:
            raise IncorrectLookupParameters(f"{self.value()!r} is not a campaign id")
        return queryset.filter(campaign_id=self.campaign_id)

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        # The form with the id field submits the other parameters too.
        self.other_parameters = {key: changelist.params[key] for key in changelist.params if key != self.parameter_name}
        yield from super().choices(changelist)

    @property
    def campaign_id(self) -> UUID | None:
        try:
            return UUID((self.value() or "").strip())
        except ValueError:
            return None


class StatusFilter(admin.SimpleListFilter):
    """Lists open events by default: those are the operator's work."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("waiting", "Waiting for an operator"),
            ("due", "Scheduled for a retry"),
            ("processing", "Being retried now"),
            ("given-up", "Given up"),
            ("success", "Succeeded"),
            ("all", "All"),
        ]

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        default, *others = super().choices(changelist)
        yield {**default, "display": "Open (all but succeeded)"}
        yield from others

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "all":
            return queryset
        if self.value() == "success":
            return queryset.filter(event_status=EventStatus.SUCCESS)
        # The same condition as that of the partial index failevent_open, so that the index serves these queries.
        still_open = queryset.exclude(event_status=EventStatus.SUCCESS)
        failing = still_open.filter(event_status=EventStatus.FAIL)
        return {
            "waiting": failing.filter(next_attempt_at__isnull=True, given_up_at__isnull=True),
            "due": failing.filter(next_attempt_at__isnull=False),
            "processing": still_open.filter(event_status=EventStatus.PROCESSING),
            "given-up": still_open.filter(given_up_at__isnull=False),
        }.get(self.value() or "", still_open)
