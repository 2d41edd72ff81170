"""Form fields for the reason of an operator's action, which the audit keeps (coupons/audit.py)."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ActionForm
from django.http import HttpRequest

from coupons.audit import MAX_REASON

REASON_REQUIRED = "Give a reason. The audit keeps it with your action."


class ReasonField(forms.CharField):
    def __init__(self, *, rows: int = 2, **kwargs: Any) -> None:
        widget = forms.Textarea(attrs={"rows": rows, "cols": 80})
        super().__init__(max_length=MAX_REASON, widget=widget, error_messages={"required": REASON_REQUIRED}, **kwargs)

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return text.replace("\r\n", "\n") if isinstance(text, str) else text  # browsers send CRLF


class ReasonActionForm(ActionForm):
    """Shows a reason field beside a list's actions. Actions with a confirmation page ask for the reason there."""

    reason = forms.CharField(
        required=False,
        max_length=MAX_REASON,
        label="Reason:",
        widget=forms.TextInput(attrs={"size": 30, "placeholder": "kept in the audit"}),
    )


def read_reason(request: HttpRequest) -> str:
    """Reads the reason beside a button or an action. If it is empty, shows an error; the caller must do nothing."""
    reason = " ".join(request.POST.get("reason", "").split())[:MAX_REASON]
    if not reason:
        messages.error(request, f"{REASON_REQUIRED} Nothing was changed.")
    return reason
