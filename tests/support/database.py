"""The database of the tests, which is the same for all tests of a worker."""

from functools import cache
from typing import Final

from django.db import connection, transaction

# What `migrate` has made and no test changes.
KEPT: Final = {"django_migrations", "django_content_type", "auth_permission"}


def delete_all_rows() -> None:
    """As a replica does it: no trigger refuses it, and no foreign key asks for an order."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("; ".join(f"DELETE FROM {table}" for table in _tables()))  # noqa: S608  our own names


def forget_session() -> None:
    """The next test meets the connection as if it were new."""
    with connection.cursor() as cursor:
        cursor.execute("DISCARD ALL")


@cache
def _tables() -> list[str]:
    return sorted(set(connection.introspection.table_names()) - KEPT)
