"""What the operators' forms share: the reason, which the audit keeps (coupons/audit.py), and refusals as errors."""

import re
from typing import Any

from django import forms
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from coupons.admin.one_time import FIELD, new_form_id
from coupons.audit import MAX_REASON
from coupons.errors import DATABASE_DOWN, OperatorError, RetryLater, one_line
from coupons.runtime.text import compose, read_visible

EXPECTED = (OperatorError, RetryLater, *DATABASE_DOWN)  # an operator gets a message, and no error page
REASON_REQUIRED = "Give a reason. The audit keeps it with your action."
UNSAVED = (
    "Nothing was done: this page has edits that are not saved. Save them first, or reload the page to drop them, and "
    "press the button again."
)


class _ReasonWidget(forms.Textarea):
    """Shows the form's one-time id too: every form that does something asks for a reason (one_time.py)."""

    def render(self, *args: Any, **kwargs: Any) -> SafeString:
        hidden = format_html('<input type="hidden" name="{}" value="{}" autocomplete="off">', FIELD, new_form_id())
        return super().render(*args, **kwargs) + hidden


class VisibleTextField(forms.CharField):
    """Takes text back as it was stored: pages show invisible characters as ⟨U+202E⟩. Composes what is typed anew."""

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return compose(read_visible(text)) if isinstance(text, str) else text


class ReasonField(VisibleTextField):
    def __init__(self, *, rows: int = 2, **kwargs: Any) -> None:
        widget = _ReasonWidget(attrs={"rows": rows, "cols": 80})
        super().__init__(max_length=MAX_REASON, widget=widget, error_messages={"required": REASON_REQUIRED}, **kwargs)

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return text.replace("\r\n", "\n") if isinstance(text, str) else text  # browsers send CRLF


class ConfirmationForm(forms.Form):
    """Asks for the reason of an action. It is valid once its page was submitted with a reason."""

    confirmed = forms.CharField(widget=forms.HiddenInput, initial="yes")
    reason = ReasonField(rows=4)

    def __init__(self, request: HttpRequest) -> None:
        submitted = request.POST if "confirmed" in request.POST else None
        super().__init__(submitted, initial={"reason": request.POST.get("reason", "")})


class ActingForm(forms.ModelForm):  # type: ignore[type-arg]  # takes no parameters at runtime
    """A form that makes the change itself when it is valid, by calling the function `act`.

    Only that function knows whether the change is possible, as it looks under the row's lock. What it raises becomes an
    error of the form, so the operator's input stays on the page. Django's admin calls `is_valid` once for each POST.
    """

    actor = ""
    """pages.OperatorAdmin sets it."""
    warning = ""
    """`act` sets it: what the operator is to know about a change that was made."""
    pressed = False
    """pages.OperatorAdmin sets it: another button than Save was pressed while the form had edits."""

    @property
    def edits(self) -> set[str]:
        """The fields that the operator has changed on the page."""
        return set(self.changed_data) - {"reason", "shown_revision"}

    def act(self) -> None:
        """Makes the change with `cleaned_data`. Raises OperatorError, RetryLater or a database error if it cannot."""

    def is_valid(self) -> bool:
        if self.pressed:
            self.errors.clear()
            self.add_error(None, UNSAVED)
            return False
        if not super().is_valid():
            return False
        try:
            self.act()
        except EXPECTED as error:
            refusal = explain(error)
        else:
            return True
        first_word = re.split(r"\W", refusal, maxsplit=1)[0]  # "quantity: 3 users are already in"
        self.add_error(first_word if first_word in self.fields else None, refusal)
        return False


def explain(error: Exception) -> str:
    """Says to an operator what one of the EXPECTED errors means."""
    if isinstance(error, OperatorError):
        return str(error)
    if isinstance(error, RetryLater):
        return f"{error}. Nothing is lost. Try again in a few seconds."
    return f"PostgreSQL did not confirm the change ({one_line(error)}). Check the current values before you try again."
