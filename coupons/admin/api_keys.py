"""The API keys' pages: create a key, show it once, revoke it. Keys are never edited, so old log lines stay true."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminSplitDateTime, AdminTextInputWidget
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from coupons.admin.forms import ActingForm, ConfirmationForm, ReasonField, VisibleTextField
from coupons.admin.one_time import keep
from coupons.admin.pages import NOTHING, OperatorAdmin, actor_of, badge, campaign_link, errors_as_messages
from coupons.auth.api_keys import create_api_key, revoke_api_key
from coupons.models import ApiKey, Campaign, CampaignState, Scope

MAX_CAMPAIGNS = 200  # the newest ones, on the form and on a key's page


class KeyForm(ActingForm):
    name = VisibleTextField(max_length=100, widget=AdminTextInputWidget, help_text="The service that uses the key.")
    scopes = forms.MultipleChoiceField(
        choices=[
            (Scope.APPLY, "apply: for any user"),
            (Scope.READ, "read: campaigns, any user's ticket and code"),
            (Scope.MANAGE, "manage: create, open, change and close campaigns, revoke coupons"),
            (Scope.REDEEM, "redeem: check, redeem, hold and return coupons, see codes"),
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

    class Meta:
        model = ApiKey
        fields = ("name",)  # create_api_key checks the others

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        newest = Campaign.objects.exclude(state=CampaignState.CLOSED).order_by("-created_at")[:MAX_CAMPAIGNS]
        chosen = Campaign.objects.filter(pk__in=[campaign.pk for campaign in newest])
        self.fields["campaigns"].queryset = chosen  # type: ignore[attr-defined]
        self.fields["expires_at"].help_text += f" In {timezone.get_current_timezone_name()}."

    def act(self) -> None:
        values = self.cleaned_data
        self.instance, self.instance.shown_once = create_api_key(
            name=values["name"],
            scopes=values["scopes"],
            campaign_ids=[campaign.pk for campaign in values["campaigns"]],
            expires_at=values["expires_at"],
            actor=self.actor,
            reason=values["reason"],
        )


@admin.register(ApiKey)
class ApiKeyAdmin(OperatorAdmin):
    acting_form = KeyForm
    actions = ("revoke_keys",)
    final_actions = ("revoke_keys",)
    list_display = ("name", "prefix", "state", "may", "limited_to", "expires_at", "last_used_at")
    ordering = ("-id",)
    search_fields = ("name__icontains", "prefix__exact")
    search_help_text = "A part of the name, or the prefix shown in logs"
    sortable_by = ()

    # --- permissions ----------------------------------------------------------------------------------
    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("coupons.revoke_apikey")

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return self.has_revoke_permission(request) or super().has_view_permission(request, obj)

    # --- create ---------------------------------------------------------------------------------------
    def get_fieldsets(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        if obj is None:
            return [(None, {"fields": ("name", "scopes", "campaigns", "expires_at", "reason")})]
        history = ("created_at", "created_by", "revoked_at", "revoked_by", "revoked_reason")
        return [(None, {"fields": self.list_display}), ("History", {"fields": history})]

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Shows the key. Its digest alone is stored; a double click or F5 shows it again (one_time.py)."""
        response = self.show_page(request, "apikey/made.html", title=f"API key of {obj.name}", row=obj)
        add_never_cache_headers(response)
        return keep(response)

    # --- revoke ---------------------------------------------------------------------------------------
    def buttons(self, row: ApiKey) -> dict[str, str]:
        return {"revoke_keys": "Revoke …"} if row.revoked_at is None else {}

    @admin.action(permissions=["revoke"], description="Revoke the selected keys …")
    def revoke_keys(self, request: HttpRequest, chosen: QuerySet[ApiKey]) -> HttpResponse | None:
        rows, form = self.take(request, chosen), ConfirmationForm(request)
        if not form.is_valid():
            return self.show_page(request, "apikey/revoke.html", title="Revoke?", form=form, rows=rows)
        for row in rows:
            with errors_as_messages(request, about=row):
                revoke_api_key(prefix=row.prefix, actor=actor_of(request), reason=form.cleaned_data["reason"])
                messages.success(request, f"{row} is revoked: every process refuses it within seconds.")
        return None

    # --- display --------------------------------------------------------------------------------------
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
