"""Base classes and helpers of the operators' pages: no deletes, bounded lists, errors as messages, history."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from coupons.admin.paginator import BoundedPaginator
from coupons.errors import DATABASE_DOWN, OperatorError, RetryLater, one_line
from coupons.models import AuditEntry, Campaign

MAX_HISTORY = 200  # entries on an object's page
NOTHING = "\N{EN DASH}"  # shown where there is no value

M = TypeVar("M", bound=Model)

if TYPE_CHECKING:

    class _ModelAdmin(admin.ModelAdmin[M]): ...

else:  # at runtime ModelAdmin takes no parameters

    class _ModelAdmin(admin.ModelAdmin, Generic[M]): ...


class TitledChangeList(ChangeList):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = str(self.opts.verbose_name_plural).capitalize()


class IndexedChangeList(TitledChangeList):
    """Always uses the page's own order and ignores ?o=, which would sort the whole table."""

    def get_ordering(self, request: HttpRequest, queryset: Any) -> list[Any]:
        return list(self.model_admin.get_ordering(request))


class AuditedHistory:
    """Shows an object's audit entries as its history. Django's own log is not written."""

    def history_view(
        self: Any, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        if row is None:
            return HttpResponseRedirect(reverse("admin:index"))
        if not self.has_view_or_change_permission(request, row):
            raise PermissionDenied
        entries = AuditEntry.objects.filter(kind=row._meta.label_lower, object_id=str(row.pk)).order_by("-pk")
        context = {
            **self.admin_site.each_context(request),
            "title": f"History: {row}",
            "opts": self.opts,
            "media": self.media,
            "row": row,
            "entries": entries[:MAX_HISTORY],
        }
        return TemplateResponse(request, "admin/coupons/history.html", context)


class OperatorAdmin(AuditedHistory, _ModelAdmin[M]):
    """`lookups` are the only query parameters that may filter the list: others would read the whole table."""

    lookups: tuple[str, ...] = ()
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 100

    class Media:
        css: ClassVar = {"all": ["coupons/admin.css"]}

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Refuses an action without permission; Django would show the list as if no action had been requested."""
        if request.POST.get("action", "") not in ("", *self.get_actions(request)):
            raise PermissionDenied
        return super().changelist_view(request, extra_context)

    def log_addition(self, request: HttpRequest, obj: M, message: Any) -> Any:
        """Does nothing: the function that makes the change records it in its own transaction (coupons/audit.py)."""

    def log_change(self, request: HttpRequest, obj: M, message: Any) -> Any:
        """Does nothing, as above."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in self.lookups


class ReadOnlyAdmin(OperatorAdmin[M]):
    """Rows that only the program writes."""

    sortable_by = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return IndexedChangeList

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False


def actor_of(request: HttpRequest) -> str:
    return request.user.get_username()


@contextmanager
def errors_as_messages(request: HttpRequest, about: str = "") -> Iterator[None]:
    """Turns expected errors into messages on the next page instead of an error page."""
    before = f"{about}: " if about else ""
    try:
        yield
    except OperatorError as error:
        messages.error(request, f"{before}{error}")
    except RetryLater as error:
        messages.error(request, f"{before}{error}. Nothing is lost. Try again in a few seconds.")
    except DATABASE_DOWN as error:
        messages.error(request, f"{before}{database_down(error)}")


def database_down(error: Exception) -> str:
    reason = one_line(error)
    return f"PostgreSQL did not confirm the change ({reason}). Check the current values before you try again."


def badge(text: str, kind: str) -> SafeString:
    """Shows the text on a coloured background; `kind` is good, warn, bad or plain."""
    return format_html('<span class="coupon-badge coupon-{}">{}</span>', kind, text)


def moment_text(value: datetime | None) -> str:
    """Formats the time to the second: operators ask which user came first."""
    return NOTHING if value is None else timezone.localtime(value).strftime("%Y-%m-%d %H:%M:%S")


def moment_column(field: str, description: str) -> Any:
    """Makes a column of a list, or a read-only field, that shows a time."""

    @admin.display(description=description)
    def show(page: Any, row: Any) -> str:
        return moment_text(getattr(row, field))

    return show


def number(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def campaign_link(campaign: Campaign | None) -> SafeString | str:
    if campaign is None:
        return NOTHING
    return format_html('<a href="{}">{}</a>', campaign_url(campaign.pk), campaign.name)


def campaign_url(campaign_id: UUID) -> str:
    return reverse("admin:coupons_campaign_change", args=[campaign_id])
