"""The form for a campaign's name, quantity and window. It checks the input; lifecycle makes the final decision."""

import re
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.admin.widgets import AdminIntegerFieldWidget, AdminSplitDateTime, AdminTextInputWidget
from django.utils import timezone

from coupons.admin.reasons import ReasonField
from coupons.models import MAX_QUANTITY, Campaign
from coupons.runtime.text import make_visible

EDITABLE = ("name", "quantity", "opens_at", "closes_at")
_NAMED_FIELD = re.compile(r"^(?:(name): )|\b(quantity|opens_at|closes_at)\b")

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[Campaign]
else:  # at runtime ModelForm takes no parameters
    _ModelForm = forms.ModelForm


class CampaignForm(_ModelForm):
    """`refusal` is the text with which lifecycle has just refused the same values; the form shows it as its error.

    `revision` is the revision that the page showed. The form refuses to overwrite a newer change with it.
    """

    refusal = ""
    adding = False

    name = forms.CharField(max_length=200, widget=AdminTextInputWidget)
    quantity = forms.IntegerField(min_value=1, max_value=MAX_QUANTITY, widget=AdminIntegerFieldWidget)
    opens_at = forms.SplitDateTimeField(widget=AdminSplitDateTime)
    closes_at = forms.SplitDateTimeField(widget=AdminSplitDateTime, required=False)
    reason = ReasonField()
    revision = forms.IntegerField(widget=forms.HiddenInput, required=False)

    class Meta:
        model = Campaign
        fields = EDITABLE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        zone = timezone.get_current_timezone_name()
        now = timezone.localtime().strftime("%Y-%m-%d %H:%M:%S")
        self.fields[
            "quantity"
        ].help_text = (
            f"1 to {MAX_QUANTITY:,}. You can raise it at any time, and lower it to the number of admitted users."
        )
        self.fields["opens_at"].help_text = f"In {zone}; it is {now} now."
        self.fields["closes_at"].help_text = f"In {zone}. Leave empty to keep the campaign open until it is closed."
        if self.adding:
            self.fields["opens_at"].required = False
            self.fields["opens_at"].help_text += " Leave empty to admit users as soon as the campaign is opened."
        else:
            self.initial["revision"] = self.instance.revision
            self.initial["name"] = make_visible(self.instance.name)  # as the page shows it, or saving would rename it

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        opens_at, closes_at = values.get("opens_at"), values.get("closes_at")
        if opens_at and closes_at and closes_at <= opens_at:
            self.add_error("closes_at", "The closing time must be later than the opening time.")
        if not self.adding and values.get("revision") != self.instance.revision:
            self.add_error(
                None,
                "This campaign was changed after you opened this page, so nothing was saved. "
                "Reload the page and repeat your change.",
            )
        if self.refusal:
            self.add_error(self._field_of(self.refusal), self.refusal)
        return values

    @property
    def changes(self) -> dict[str, Any]:
        """The new values of the fields that were edited."""
        return {field: self.cleaned_data[field] for field in self.changed_data if field in EDITABLE}

    def _field_of(self, text: str) -> str | None:
        """Finds the form field that lifecycle's error text names, if any."""
        found = _NAMED_FIELD.search(text)
        field = (found[1] or found[2]) if found else None
        return field if field in self.fields else None
