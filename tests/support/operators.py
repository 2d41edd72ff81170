"""People in front of the admin, and what they find there."""

import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from coupons.models import ApiKey, AuditEntry, Campaign, Coupon, FailEventHistory

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


def run_action(client: Client, page: str, action: str, *rows: Any, reason: str = REASON, **values: str) -> Any:
    """Tick these rows of a list and run an action on them, as the list's form does."""
    form = {"action": action, "_selected_action": [str(row.pk) for row in rows], "reason": reason, **values}
    return client.post(reverse(page), form, follow=True)


def text_of(page: Any) -> str:
    """The page's text as a person reads it, tags away, blanks joined."""
    without_tags = re.sub(r"<[^>]*>", " ", page.content.decode())
    return " ".join(unescape(without_tags).split())


def messages_of(page: Any) -> list[str]:
    """What the page reported of the last action, with its level: "warning: ..."."""
    return [f"{message.level_tag}: {message.message}" for message in page.context["messages"]]


def history_of(row: Campaign | Coupon | FailEventHistory | ApiKey) -> list[str]:
    """What people did with this row in the admin and why, oldest first: "Opened: it is ten"."""
    entries = AuditEntry.objects.filter(kind=row._meta.label_lower, object_id=str(row.pk)).exclude(actor="test")
    return [f"{entry.what}: {entry.reason}" for entry in entries.order_by("pk")]


def press(client: Client, row: Any, action: str, *, reason: str = REASON, **values: str) -> Any:
    """Press a button of the row's page, which asks."""
    page = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return client.post(page, {"action": action, "reason": reason, **values}, follow=True)


def confirm(client: Client, row: Any, action: str, *, reason: str = REASON) -> Any:
    """Submit the page that asks after such a button was pressed."""
    return press(client, row, action, reason=reason, confirmed="yes")


class _Forms(HTMLParser):
    """The forms of a page, each with its fields as a browser would send them, and its buttons in the page's order."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, list[str]]] = []
        self.buttons: list[list[str]] = []
        self._ids: dict[str, int] = {}
        self._waiting: list[tuple[str, str]] = []  # buttons of a form that comes later
        self._text: str | None = None
        self._select: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = {name: value or "" for name, value in attrs}
        name = own.get("name", "")
        is_button = tag == "button" or own.get("type") == "submit"
        if tag == "form":
            self._ids[own.get("id", "")] = len(self.forms)
            self.forms.append({})
            self.buttons.append([button for form, button in self._waiting if form == own.get("id")])
        elif is_button and own.get("form"):
            self._waiting.append((own["form"], f"{name}={own.get('value', '')}"))
        elif not self.forms:
            return
        elif is_button and own.get("type") != "button":
            self.buttons[-1].append(f"{name}={own.get('value', '')}")
        elif tag == "input" and (own.get("type") not in ("checkbox", "radio") or "checked" in own):
            self.forms[-1].setdefault(name, []).append(own.get("value", ""))
        elif tag == "textarea":
            self.forms[-1].setdefault(name, []).append("")
            self._text = name
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select and "selected" in own:
            self.forms[-1].setdefault(self._select, []).append(own.get("value", ""))

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self.forms[-1][self._text][-1] += data.removeprefix("\n")  # a browser drops the first line end

    def handle_endtag(self, tag: str) -> None:
        self._text = None if tag == "textarea" else self._text
        self._select = None if tag == "select" else self._select


def form_on(page: Any, field: str = "reason", **typed: Any) -> dict[str, Any]:
    """What a browser sends of the page's form that has this field, after these values were typed."""
    forms = _Forms()
    forms.feed(page.content.decode())
    return {**next(form for form in forms.forms if field in form), **typed}


def buttons_on(page: Any, field: str = "reason") -> list[str]:
    """The buttons of that form, NAME=VALUE; Enter in one of its fields presses the first."""
    forms = _Forms()
    forms.feed(page.content.decode())
    return next(forms.buttons[number] for number, form in enumerate(forms.forms) if field in form)


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
