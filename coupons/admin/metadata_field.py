"""The form field for a campaign's metadata, which is edited as JSON text."""

import json
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget

from coupons.runtime.text import read_visible

MAX_TYPED = 32_768
"""Characters with all blanks; lifecycle limits what is stored."""


class MetadataField(forms.CharField):
    """Shows an object as indented JSON, the empty one as nothing. Its errors say where the text is wrong.

    Not Django's JSONField: that answers deep nesting and long numbers with an error page.
    """

    def __init__(self) -> None:
        widget = AdminTextareaWidget(attrs={"rows": 4, "spellcheck": "false"})
        super().__init__(required=False, max_length=MAX_TYPED, widget=widget)

    def to_python(self, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        text = read_visible(super().to_python(value) or "")
        return _parse(text) if text else {}

    def run_validators(self, value: Any) -> None:
        """`_parse` has checked the text; the validators are for strings."""

    def validate(self, value: Any) -> None:
        """Lifecycle decides what may be stored."""

    def prepare_value(self, value: Any) -> Any:
        """Escapes invisible characters as JSON does, so that the page shows them and a save keeps them."""
        if not isinstance(value, dict):
            return value  # what was typed
        text = json.dumps(value, ensure_ascii=False, indent=2) if value else ""
        return "".join(each if each == "\n" or each.isprintable() else json.dumps(each)[1:-1] for each in text)


def _parse(text: str) -> Any:
    if len(text) > MAX_TYPED:
        raise forms.ValidationError(f"It is longer than {MAX_TYPED:,} characters.")
    try:
        value = json.loads(text)
        json.dumps(value)  # nested so deeply that it can be read and not written
    except json.JSONDecodeError as error:
        raise forms.ValidationError(
            f"This is no JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        ) from None
    except (ValueError, RecursionError):
        raise forms.ValidationError("It has a number that is too long, or is nested too deeply.") from None
    return value
