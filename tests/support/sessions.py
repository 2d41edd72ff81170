"""Sessions of the test's database, as its administrator ends them."""

from django.db import connection


def end_other_sessions() -> None:
    """All but this process's own."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
