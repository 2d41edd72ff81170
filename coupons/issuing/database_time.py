"""Times by PostgreSQL's clock, so that hosts with different clocks agree on what is due."""

from datetime import timedelta
from typing import Any

from django.db.models import DateTimeField, ExpressionWrapper, Value
from django.db.models.functions import Now


def from_now(seconds: float) -> "ExpressionWrapper[Any]":
    return ExpressionWrapper(Now() + Value(timedelta(seconds=seconds)), output_field=DateTimeField())
