"""The operators' pages write numbers in their templates as they do in their columns."""

from django import template

from coupons.admin.pages import number

register = template.Library()
register.filter("thousands", number)
