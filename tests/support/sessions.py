"""Sessions of the test's database, as its administrator ends them."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from tests.support.waiting import wait_until


def end_other_sessions() -> None:
    """All but this process's own."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )


def cancel_who_waits_for(table: str) -> None:
    """As if its time-out for the lock had passed."""

    def canceled() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_cancel_backend(pid)) FROM pg_locks WHERE NOT granted AND relation = %s::regclass",
                [table],
            )
            return bool(cursor.fetchone()[0])

    wait_until(canceled, what=f"somebody waits for {table}")


@contextmanager
def read_only_for_new_sessions() -> Iterator[None]:
    """This process's own session has begun before."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        try:
            yield
        finally:
            cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
