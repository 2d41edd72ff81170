"""Times as Redis and the messages carry them: whole milliseconds since 1970, UTC."""

from datetime import UTC, datetime

from django.db import connection


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def moment_of(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def database_now() -> datetime:
    """PostgreSQL's time: this host's own may be wrong, and differs from that of others."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        moment: datetime = cursor.fetchone()[0]
    return moment
