"""Base classes and helpers of the operators' pages: no deletes, bounded lists, errors as messages, history.

Everything that operators do to a row, except editing it, is an action of its list (Django's admin actions). The row's
page offers the same actions as buttons (templates/admin/coupons/change_form.html). Each action first shows a page that
names the rows and asks for the reason, and acts when that page is submitted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar, cast

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.formats import localize
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.views.decorators.csrf import csrf_protect

from coupons.admin.forms import EXPECTED, ActingForm, explain
from coupons.models import AuditEntry, Campaign
from coupons.runtime.text import compose, read_visible

MAX_LISTED = 10_000  # of up to ten million rows
MAX_HISTORY = 200  # entries on an object's page
NOTHING = "\N{EN DASH}"  # shown where there is no value


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # takes no parameters at runtime
    """Counts and lists the first MAX_LISTED rows. `capped` is true when there are more."""

    object_list: Any  # a QuerySet: the admin passes nothing else

    @cached_property
    def count(self) -> int:
        return min(self._counted, MAX_LISTED)

    @property
    def capped(self) -> bool:
        return self._counted > MAX_LISTED

    @cached_property
    def _counted(self) -> int:
        # The LIMIT ends the scan. In the list's order, the index of that order serves it; in none, PostgreSQL may scan
        # the table from its start and reach a recent campaign's rows only at the end.
        return int(self.object_list.values("pk")[: MAX_LISTED + 1].count())  # without what is computed for each row


class OperatorChangeList(ChangeList):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = str(self.opts.verbose_name_plural).capitalize()

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        # Django then shows no "10000 results" beside the search: the count ends there, and pagination.html says so.
        self.full_result_count = self.result_count


class IndexedChangeList(OperatorChangeList):
    """Always uses the page's own order and ignores ?o=, which would sort the whole table."""

    def get_ordering(self, request: HttpRequest, queryset: Any) -> list[Any]:
        return list(self.model_admin.get_ordering(request))


class AuditedHistory:
    """Shows an object's audit entries as its history, and keeps the object. Django's own log is not written."""

    object_history_template: Any = "admin/coupons/object_history.html"

    def history_view(
        self: Any, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        entries = AuditEntry.objects.filter(kind=self.opts.label_lower, object_id=unquote(object_id)).order_by("-pk")
        return cast("HttpResponse", super().history_view(request, object_id, {"entries": entries[:MAX_HISTORY]}))  # type: ignore[misc]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_search_results(self: Any, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        return super().get_search_results(request, queryset, as_stored(search_term))  # type: ignore[misc]


class OperatorAdmin(AuditedHistory, admin.ModelAdmin):  # type: ignore[type-arg]  # takes no parameters at runtime
    """`lookups` are the only query parameters that may filter the list: others would read the whole table."""

    acting_form: type[ActingForm] | None = None  # creates a row, and changes one where that is allowed
    changelist: type[ChangeList] = OperatorChangeList
    lookups: tuple[str, ...] = ()
    max_at_once = 100  # rows that one action takes
    final_actions: tuple[str, ...] = ()  # those that cannot be undone
    paginator = BoundedPaginator
    empty_value_display = NOTHING
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 100

    class Media:
        css: ClassVar = {"all": ["coupons/admin.css"]}
        js: ClassVar = ["coupons/form-ids.js"]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return self.changelist

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in self.lookups

    # --- actions --------------------------------------------------------------------------------------
    def buttons(self, row: Any) -> dict[str, str]:
        """Returns the actions that the row's page offers, with their labels. Those that the user may run appear."""
        return {}

    def panel(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Returns what the row's page shows above its fields."""
        return {}

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        show_as_stored(context)
        if row := context["original"]:
            context.update(self.panel(request, row))
            allowed = self.get_actions(request)
            context["buttons"] = {name: label for name, label in self.buttons(row).items() if name in allowed}
            context["final_actions"] = self.final_actions
        return super().render_change_form(request, context, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Refuses an action without permission; Django would show the list as if no action had been requested."""
        if request.POST.get("action", "") not in ("", *self.get_actions(request)):
            raise PermissionDenied
        return super().changelist_view(request, extra_context)

    def press(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Runs the action of a button on the row's page, and returns to that page.

        The page's fields come with the button. If they have edits, nothing is done, and the page shows them again with
        a sentence: neither does the action save them, nor does it drop them.
        """
        act = self.get_actions(request).get(request.POST["action"])
        row = self.get_object(request, unquote(object_id))
        if act is None or row is None:
            raise PermissionDenied
        if self.has_edits(request, row):
            return cast("HttpResponse", self._changeform_view(request, object_id, "", None))  # type: ignore[attr-defined]
        chosen = self.get_queryset(request).filter(pk=row.pk)
        answer = cast("HttpResponse | None", act[0](self, request, chosen))
        return answer or HttpResponseRedirect(request.get_full_path())

    def has_edits(self, request: HttpRequest, row: Any) -> bool:
        if "shown_revision" not in request.POST or not self.has_change_permission(request, row):
            return False  # the page has no fields
        return bool(self.get_form(request, row, change=True)(request.POST, instance=row).edits)

    def take(self, request: HttpRequest, chosen: QuerySet[Any]) -> list[Any]:
        """Returns the rows of an action, at most `max_at_once`, with a message if there are more."""
        rows = list(chosen[: self.max_at_once + 1])
        if len(rows) > self.max_at_once:
            most = self.max_at_once
            messages.info(request, f"Only the first {most} of the selected rows were used. Repeat it for the others.")
        return rows[: self.max_at_once]

    def show_page(self, request: HttpRequest, template: str, **context: Any) -> HttpResponse:
        shared = {**self.admin_site.each_context(request), "opts": self.opts, "media": self.media}
        shared["final_actions"] = self.final_actions
        return TemplateResponse(request, f"admin/coupons/{template}", {**shared, **context})

    # --- forms ----------------------------------------------------------------------------------------
    @method_decorator(csrf_protect)
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Runs Django's view without its transaction: the functions that make the changes commit their own."""
        if object_id is not None and request.POST.get("action"):
            return self.press(request, object_id)
        return cast("HttpResponse", self._changeform_view(request, object_id, form_url, extra_context))  # type: ignore[attr-defined]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if self.acting_form and (obj is None or self.has_change_permission(request, obj)):
            own = {"actor": actor_of(request), "pressed": bool(request.POST.get("action"))}
            return type(self.acting_form.__name__, (self.acting_form,), own)
        return super().get_form(request, obj, change, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Only shows a warning: the form has made the change (forms.ActingForm)."""
        if form.warning:
            messages.warning(request, form.warning)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Does nothing: the function that makes the change records it in its own transaction (coupons/audit.py)."""

    log_addition = log_change


class ReadOnly:
    """Rows that only the program writes."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(ReadOnly, OperatorAdmin):
    """A long list: it is searched and sorted as an index serves it."""

    changelist = IndexedChangeList
    sortable_by = ()

    def matches(self, term: str) -> Q:
        """Returns the rows that a search finds. Django shows the search field if the class has `search_fields`."""
        return Q()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = as_stored(search_term)
        return queryset.filter(self.matches(term)) if term else queryset, False


def as_stored(term: str) -> str:
    """Returns a search term in the form in which names and reasons are stored."""
    return compose(read_visible(term)).strip()


def show_as_stored(context: dict[str, Any]) -> None:
    """Lets a page whose form was refused show the row as it is. The form has set its own values on it, which were never
    saved: a page would show them in its title, and compare them with Redis."""
    row = context["original"]
    if row is not None and context["errors"]:
        row.refresh_from_db()
        context["subtitle"] = str(row)


def actor_of(request: HttpRequest) -> str:
    return request.user.get_username()


@contextmanager
def errors_as_messages(request: HttpRequest, about: object) -> Iterator[None]:
    """Turns expected errors into messages on the next page instead of an error page."""
    try:
        yield
    except EXPECTED as error:
        messages.error(request, f"{about}: {explain(error)}")


def badge(text: str, kind: str) -> SafeString:
    """Shows the text on a coloured background; `kind` is good, warn, bad or plain."""
    return format_html('<span class="coupon-badge coupon-{}">{}</span>', kind, text)


def number(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def moment(value: datetime) -> str:
    """Writes a time as forms and lists do. The page names the zone beside it."""
    return localize(localtime(value))


def campaign_link(campaign: Campaign | None) -> SafeString | str:
    if campaign is None:
        return NOTHING
    url = reverse("admin:coupons_campaign_change", args=[campaign.pk])
    return format_html('<a href="{}">{}</a>', url, campaign.name)
