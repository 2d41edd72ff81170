"""What the operators' pages share: no deletes, no list that reads a whole table, errors as messages, the history."""

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
NOTHING = "\N{EN DASH}"  # what stands where there is no value

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
    """Its page's order and no other, whatever ?o= asks for: that would sort the whole table."""

    def get_ordering(self, request: HttpRequest, queryset: Any) -> list[Any]:
        return list(self.model_admin.get_ordering(request))


class AuditedHistory:
    """The history of one object is what the audit has of it; Django's own log is not written."""

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
    """`lookups` are the only parameters by which an address may filter: others would read the whole table."""

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
        """An action that one may not do is refused; Django would show the list as if nothing had been asked."""
        if request.POST.get("action", "") not in ("", *self.get_actions(request)):
            raise PermissionDenied
        return super().changelist_view(request, extra_context)

    def log_addition(self, request: HttpRequest, obj: M, message: Any) -> Any:
        """Nothing: who does it keeps it, in the same transaction (coupons/audit.py)."""

    def log_change(self, request: HttpRequest, obj: M, message: Any) -> Any:
        """Nothing, as above."""

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
    """What the operator must know becomes a message on the next page instead of an error page."""
    before = f"{about}: " if about else ""
    try:
        yield
    except OperatorError as error:
        messages.error(request, f"{before}{error}")
    except RetryLater as error:
        messages.error(request, f"{before}{error}. Nothing is lost; try again in a few seconds.")
    except DATABASE_DOWN as error:
        messages.error(request, f"{before}{database_down(error)}")


def database_down(error: Exception) -> str:
    reason = one_line(error)
    return f"PostgreSQL did not do it ({reason}). Look at what is there now before you try again."


def badge(text: str, kind: str) -> SafeString:
    """A word on a coloured ground: `kind` is good, warn, bad or plain."""
    return format_html('<span class="coupon-badge coupon-{}">{}</span>', kind, text)


def moment_text(value: datetime | None) -> str:
    """To the second: who came first is the question here."""
    return NOTHING if value is None else timezone.localtime(value).strftime("%Y-%m-%d %H:%M:%S")


def moment_column(field: str, description: str) -> Any:
    """A column, or a read-only field, of a page."""

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
