"""Why: whoever acts in the admin says it, and it is kept with what was done (coupons/audit.py)."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ActionForm
from django.http import HttpRequest

from coupons.audit import MAX_REASON

REASON_REQUIRED = "Say why: it is kept with what you did, for whoever asks later."


class ReasonField(forms.CharField):
    def __init__(self, *, rows: int = 2, **kwargs: Any) -> None:
        widget = forms.Textarea(attrs={"rows": rows, "cols": 80})
        super().__init__(max_length=MAX_REASON, widget=widget, error_messages={"required": REASON_REQUIRED}, **kwargs)

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return text.replace("\r\n", "\n") if isinstance(text, str) else text  # as a form sends a line's end


class ReasonActionForm(ActionForm):
    """A list's actions with the reason beside them. Those that ask on a page of their own do not need it here."""

    reason = forms.CharField(
        required=False,
        max_length=MAX_REASON,
        label="Reason:",
        widget=forms.TextInput(attrs={"size": 30, "placeholder": "kept with what you do"}),
    )


def read_reason(request: HttpRequest) -> str:
    """The one beside a button or an action. Empty: the person was told to give one, and nothing may be done."""
    reason = " ".join(request.POST.get("reason", "").split())[:MAX_REASON]
    if not reason:
        messages.error(request, f"{REASON_REQUIRED} Nothing was changed.")
    return reason
