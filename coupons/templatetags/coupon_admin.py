"""Template filters of the operators' pages for numbers and untrusted texts."""

from django import template

from coupons.admin.pages import number
from coupons.runtime.text import make_visible

register = template.Library()


@register.filter
def thousands(value: int | None) -> str:
    return number(value)


@register.filter
def visible(text: str) -> str:
    return make_visible(text)
