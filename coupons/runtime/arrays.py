"""Formats columns of many rows as PostgreSQL arrays for `unnest`, by which issuing and reconciliation insert rows."""

from collections.abc import Iterable


def array(items: Iterable[str]) -> str:
    """Formats a PostgreSQL array of items without special characters: numbers, UUIDs, codes.

    PostgreSQL parses one string as one constant. A Python list, which psycopg2 writes item by item, took four times as
    long (docs/decisions/0022).
    """
    return "{" + ",".join(items) + "}"


def quoted_array(texts: Iterable[str]) -> str:
    """Formats a PostgreSQL array of any texts. Within quotes only backslash and quote need an escape."""
    return array('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts)
