"""Converts times to and from milliseconds since 1970 (UTC), as in Redis and messages, and reads PostgreSQL's clock."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import DateTimeField, ExpressionWrapper, Value
from django.db.models.functions import Now


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def moment_of(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def database_now() -> datetime:
    """Returns PostgreSQL's time, because the clocks of hosts differ and may be wrong."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def from_now(seconds: float) -> "ExpressionWrapper[Any]":
    """Uses PostgreSQL's clock, so that hosts with different clocks agree on what is due."""
    return ExpressionWrapper(Now() + Value(timedelta(seconds=seconds)), output_field=DateTimeField())
