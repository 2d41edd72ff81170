"""Times as Redis and the messages carry them: whole milliseconds since 1970, UTC."""

from datetime import UTC, datetime


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def moment_of(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
