"""Shows and searches the audit. Nothing can edit it, not even a superuser: PostgreSQL refuses the change."""

from django.contrib import admin
from django.db.models import Q
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from coupons.admin.pages import ReadOnlyAdmin
from coupons.models import AuditEntry


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "what", "about", "reason")
    ordering = ("-id",)
    search_fields = ("actor__exact", "object_id__exact")
    search_help_text = "A complete user name (or manage.py:USER, api:KEY), or the complete id of the changed object"
    fields = ("at", "actor", "what", "about", "object_id", "reason")

    def matches(self, term: str) -> Q:
        """Compares exactly, so that two indexes serve the search."""
        kinds = ["coupons.campaign", "coupons.coupon", "coupons.faileventhistory", "coupons.apikey"]
        kinds += ["auth.user", "auth.group"]
        return Q(actor=term) | Q(kind__in=kinds, object_id=term)

    @admin.display
    def about(self, entry: AuditEntry) -> SafeString:
        kind = entry.kind.rpartition(".")[2]
        try:
            page = reverse(f"admin:{entry.kind.replace('.', '_')}_change", args=[entry.object_id])
        except NoReverseMatch:
            return format_html("{} {}", kind, entry.object_name)
        return format_html('{} <a href="{}">{}</a>', kind, page, entry.object_name)
