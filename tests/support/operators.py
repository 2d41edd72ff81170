"""People in front of the admin, and what they find there."""

import re
from html import unescape
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from coupons.models import ApiKey, AuditEntry, Campaign, FailEventHistory

VIEW = ("view_campaign", "view_coupon", "view_faileventhistory", "view_jobrun")
OPERATE = (*VIEW, "add_campaign", "operate_campaign", "retry_failed_event", "give_up_failed_event")
REASON = "because"
EVENTS = "admin:coupons_faileventhistory_changelist"
CAMPAIGNS = "admin:coupons_campaign_changelist"
COUPONS = "admin:coupons_coupon_changelist"
JOBS = "admin:coupons_jobrun_changelist"


def sign_in(*codenames: str, name: str = "op") -> Client:
    """A browser in which a staff user with these permissions of the app is logged in."""
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="coupons", codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def campaign_page(campaign: Campaign) -> str:
    return reverse("admin:coupons_campaign_change", args=[campaign.pk])


def event_page(event: FailEventHistory) -> str:
    return reverse("admin:coupons_faileventhistory_change", args=[event.pk])


def run_action(client: Client, page: str, action: str, *rows: Any, reason: str = REASON) -> Any:
    """Tick these rows of a list and run an action on them, as the list's form does."""
    form = {"action": action, "_selected_action": [str(row.pk) for row in rows], "reason": reason}
    return client.post(reverse(page), form, follow=True)


def text_of(page: Any) -> str:
    """The page's text as a person reads it, tags away, blanks joined."""
    without_tags = re.sub(r"<[^>]*>", " ", page.content.decode())
    return " ".join(unescape(without_tags).split())


def messages_of(page: Any) -> list[str]:
    """What the page reported of the last action, with its level: "warning: ..."."""
    return [f"{message.level_tag}: {message.message}" for message in page.context["messages"]]


def history_of(row: Campaign | FailEventHistory | ApiKey) -> list[str]:
    """What people did with this row in the admin and why, oldest first: "Opened: it is ten"."""
    entries = AuditEntry.objects.filter(kind=row._meta.label_lower, object_id=str(row.pk)).exclude(actor="test")
    return [f"{entry.what}: {entry.reason}" for entry in entries.order_by("pk")]


def press(client: Client, row: Any, action: str, *, reason: str = REASON, **values: str) -> Any:
    """Press a button of the row's page, with the reason that stands beside it."""
    page = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_changelist")
    form = {"action": action, "_selected_action": str(row.pk), "from_page": "yes", "reason": reason, **values}
    return client.post(page, form, follow=True)


def confirm(client: Client, row: Any, action: str, *, reason: str = REASON) -> Any:
    """Submit the page that asks after such a button was pressed."""
    return press(client, row, action, reason=reason, confirmed="yes")


def values_of(client: Client, campaign: Campaign, **changed: Any) -> dict[str, Any]:
    """The form of the campaign's page as it stands there, with some fields filled in anew."""
    form = client.get(campaign_page(campaign)).context["adminform"].form
    opens_at, closes_at = form.initial["opens_at"], form.initial["closes_at"]
    values = {
        "name": form.initial["name"],
        "quantity": form.initial["quantity"],
        "opens_at_0": f"{opens_at:%Y-%m-%d}",
        "opens_at_1": f"{opens_at:%H:%M:%S}",
        "closes_at_0": f"{closes_at:%Y-%m-%d}" if closes_at else "",
        "closes_at_1": f"{closes_at:%H:%M:%S}" if closes_at else "",
        "shown_revision": form.initial["shown_revision"],
        "reason": "it was wrong",
    }
    return {**values, **changed}
