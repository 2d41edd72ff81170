"""The API keys' pages: create a key, show it once, revoke it. Keys are never edited, so old log lines stay true."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminSplitDateTime, AdminTextInputWidget
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.decorators import method_decorator
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.csrf import csrf_protect

from coupons.admin.pages import (
    NOTHING,
    OperatorAdmin,
    actor_of,
    badge,
    campaign_link,
    errors_as_messages,
    moment_column,
)
from coupons.admin.reasons import ReasonField
from coupons.auth.api_keys import create_api_key, revoke_api_key
from coupons.models import ApiKey, Campaign, CampaignState, Scope

MAX_CAMPAIGNS = 200  # the newest ones, on the form and on a key's page


class KeyForm(forms.Form):
    name = forms.CharField(max_length=100, widget=AdminTextInputWidget, help_text="The service that uses the key.")
    scopes = forms.MultipleChoiceField(
        choices=[
            (Scope.APPLY, "apply: for any user"),
            (Scope.READ, "read: campaigns, any user's ticket and code"),
            (Scope.MANAGE, "manage: create, open, change and close campaigns"),
        ],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Select at least one scope."},
    )
    campaigns = forms.ModelMultipleChoiceField(
        queryset=Campaign.objects.none(),
        required=False,
        help_text="Limits the key to these campaigns. Select none to allow all.",
    )
    expires_at = forms.SplitDateTimeField(
        required=False, widget=AdminSplitDateTime, help_text="Leave empty for a key that is valid until it is revoked."
    )

    reason = ReasonField()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        newest = Campaign.objects.exclude(state=CampaignState.CLOSED).order_by("-created_at")[:MAX_CAMPAIGNS]
        chosen = Campaign.objects.filter(pk__in=[campaign.pk for campaign in newest])
        self.fields["campaigns"].queryset = chosen  # type: ignore[attr-defined]
        self.fields["expires_at"].help_text += f" In {timezone.get_current_timezone_name()}."

    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            raise forms.ValidationError("The time must be in the future.")
        return expires_at


class RevokeForm(forms.Form):
    reason = ReasonField(rows=4)


@admin.register(ApiKey)
class ApiKeyAdmin(OperatorAdmin[ApiKey]):
    list_display = ("name", "prefix", "state", "may", "limited_to", "expires", "used")
    search_fields = ("name__icontains", "prefix__exact")
    search_help_text = "A part of the name, or the prefix shown in logs"
    sortable_by = ()
    fieldsets = (
        (None, {"fields": ("name", "prefix", "state", "may", "limited_to", "expires", "used")}),
        ("History", {"fields": ("made", "created_by", "revoked", "revoked_by", "revoked_reason")}),
    )
    expires = moment_column("expires_at", "expires at")
    used = moment_column("last_used_at", "last used at")
    made = moment_column("created_at", "created at")
    revoked = moment_column("revoked_at", "revoked at")
    change_form_template = "admin/coupons/apikey/change_form.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.revoke_view)
        return [path("<int:key_id>/revoke/", view, name="coupons_apikey_revoke"), *super().get_urls()]

    # --- permissions ----------------------------------------------------------------------------------
    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("coupons.revoke_apikey")

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return self.has_revoke_permission(request) or super().has_view_permission(request, obj)

    # --- create ---------------------------------------------------------------------------------------
    @method_decorator(csrf_protect)
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Django's would save the form's row; a key is made by a function, which also writes the audit."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = KeyForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            values = form.cleaned_data
            with errors_as_messages(request):
                row, key = create_api_key(
                    name=values["name"],
                    scopes=values["scopes"],
                    campaign_ids=[campaign.pk for campaign in values["campaigns"]],
                    expires_at=values["expires_at"],
                    actor=actor_of(request),
                    reason=values["reason"],
                )
                return self._show_once(request, row, key)
        return self._page(request, "add_form.html", title="Add API key", form=form, adminform=form)

    def _show_once(self, request: HttpRequest, row: ApiKey, key: str) -> HttpResponse:
        response = self._page(request, "made.html", title=f"API key of {row.name}", row=row, key=key)
        add_never_cache_headers(response)
        return response

    # --- revoke ---------------------------------------------------------------------------------------
    @method_decorator(csrf_protect)
    def revoke_view(self, request: HttpRequest, key_id: int) -> HttpResponse:
        """GET asks for the reason, POST revokes."""
        if not self.has_revoke_permission(request):
            raise PermissionDenied
        row = ApiKey.objects.filter(pk=key_id).first()
        if row is None:
            return HttpResponseRedirect(reverse("admin:coupons_apikey_changelist"))
        form = RevokeForm(request.POST or None)
        if request.method != "POST" or not form.is_valid():
            return self._page(request, "revoke.html", title="Revoke?", row=row, form=form)
        with errors_as_messages(request):
            revoke_api_key(prefix=row.prefix, actor=actor_of(request), reason=form.cleaned_data["reason"])
            messages.success(request, f"{row} is revoked: every process refuses it within seconds.")
        return HttpResponseRedirect(reverse("admin:coupons_apikey_change", args=[row.pk]))

    def _page(self, request: HttpRequest, template: str, **context: Any) -> HttpResponse:
        shared = {**self.admin_site.each_context(request), "opts": self.opts, "media": self.media}
        return TemplateResponse(request, f"admin/coupons/apikey/{template}", {**shared, **context}).render()

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context["may_revoke"] = context["original"].revoked_at is None and self.has_revoke_permission(request)
        return super().render_change_form(request, context, *args, **kwargs)

    # --- display --------------------------------------------------------------------------------------
    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        return super().get_queryset(request).order_by("-id")

    @admin.display
    def state(self, row: ApiKey) -> SafeString:
        if row.revoked_at is not None:
            return badge("revoked", "bad")
        if row.expires_at is not None and row.expires_at <= timezone.now():
            return badge("expired", "plain")
        return badge("valid", "good")

    @admin.display
    def may(self, row: ApiKey) -> str:
        return ", ".join(row.scopes)

    @admin.display(description="limited to")
    def limited_to(self, row: ApiKey) -> SafeString | str:
        if row.campaigns is None:
            return NOTHING
        named = Campaign.objects.filter(pk__in=row.campaigns[:MAX_CAMPAIGNS]).only("name")
        return format_html_join(", ", "{}", ((campaign_link(campaign),) for campaign in named))
