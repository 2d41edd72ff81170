"""The form for a campaign and its coupons' terms. It checks the input; lifecycle makes the final decision."""

from typing import Any, cast

from django import forms
from django.contrib.admin.widgets import AdminIntegerFieldWidget, AdminSplitDateTime, AdminTextInputWidget
from django.utils import timezone
from django.utils.formats import localize

from coupons.admin.forms import ActingForm, ReasonField, VisibleTextField
from coupons.admin.metadata_field import MetadataField
from coupons.campaigns import lifecycle
from coupons.campaigns.lifecycle import CampaignChanges
from coupons.errors import PushDidNotArrive
from coupons.models import MAX_METADATA_BYTES, MAX_QUANTITY, MAX_VALID_DAYS, Campaign, CampaignState

SALE = ("name", "quantity", "opens_at", "closes_at")  # final once the campaign is closed
TERMS = ("valid_from", "valid_until", "valid_days", "metadata")
EDITABLE = (*SALE, *TERMS)


class CampaignForm(ActingForm):
    """`shown_revision` is the revision that the page showed. The form refuses to overwrite a newer change with it."""

    name = VisibleTextField(max_length=200, widget=AdminTextInputWidget)
    quantity = forms.IntegerField(min_value=1, max_value=MAX_QUANTITY, widget=AdminIntegerFieldWidget)
    opens_at = forms.SplitDateTimeField(widget=AdminSplitDateTime)
    closes_at = forms.SplitDateTimeField(widget=AdminSplitDateTime, required=False)
    valid_from = forms.SplitDateTimeField(widget=AdminSplitDateTime, required=False)
    valid_until = forms.SplitDateTimeField(widget=AdminSplitDateTime, required=False)
    valid_days = forms.IntegerField(
        min_value=1, max_value=MAX_VALID_DAYS, widget=AdminIntegerFieldWidget, required=False
    )
    metadata = MetadataField()
    reason = ReasonField()
    shown_revision = forms.IntegerField(widget=forms.HiddenInput, required=False)

    class Meta:
        model = Campaign
        fields = EDITABLE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.adding = self.instance._state.adding
        zone, now = timezone.get_current_timezone_name(), localize(timezone.localtime())
        texts = {
            "quantity": f"1 to {MAX_QUANTITY:,}. You can raise it at any time, and lower it to the number of admitted "
            "users.",
            "opens_at": f"In {zone}; it is {now} now.",
            "closes_at": f"In {zone}. Leave empty to keep the campaign open until it is closed.",
            "valid_from": f"In {zone}. Leave empty for coupons that can be redeemed as soon as they are issued.",
            "valid_until": f"In {zone}. Leave this and the days empty for coupons that never expire.",
            "valid_days": "In place of an end for all: each coupon expires this many times 24 hours after it was "
            "issued.",
            "metadata": f'A JSON object of at most {MAX_METADATA_BYTES:,} bytes, for example {{"value": 5000}}. '
            "Checkouts get it with each coupon.",
        }
        if self.instance.epoch > 0:
            texts["valid_from"] += " It may only become earlier."
            for field in ("valid_until", "valid_days"):
                texts[field] += " Coupons may only become valid for longer."
        for field, text in texts.items():
            self.fields[field].help_text = text
        if self.adding:
            self.fields["opens_at"].required = False
            self.fields["opens_at"].help_text += " Leave empty to admit users as soon as the campaign is opened."
        else:
            self.initial["shown_revision"] = self.instance.revision
        if self.instance.state == CampaignState.CLOSED:
            for field in SALE:
                del self.fields[field]

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        opens_at, closes_at = values.get("opens_at"), values.get("closes_at")
        if opens_at and closes_at and closes_at <= opens_at:
            self.add_error("closes_at", "The closing time must be later than the opening time.")
        starts, ends = values.get("valid_from"), values.get("valid_until")
        if starts and ends and ends <= starts:
            self.add_error("valid_until", "The end of the validity must be later than its beginning.")
        if ends and values.get("valid_days"):
            self.add_error("valid_days", "Give either an end for all coupons, or days for each; not both.")
        if not self.adding and values.get("shown_revision") != self.instance.revision:
            self.add_error(
                None,
                "This campaign was changed after you opened this page, so nothing was saved. "
                "Reload the page and repeat your change.",
            )
        return values

    def act(self) -> None:
        reason = self.cleaned_data["reason"]
        if self.adding:
            values = {field: self.cleaned_data[field] for field in EDITABLE}
            self.instance = lifecycle.create_campaign(**values, actor=self.actor, reason=reason)
            return
        edited = {field: self.cleaned_data[field] for field in self.changed_data if field in EDITABLE}
        if edited:
            changes = cast("CampaignChanges", edited)
            try:
                lifecycle.change_campaign(
                    campaign_id=self.instance.pk, changes=changes, actor=self.actor, reason=reason
                )
            except PushDidNotArrive as error:
                self.warning = str(error)
        self.instance.refresh_from_db()
