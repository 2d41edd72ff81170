"""The session in which PostgreSQL compares: what it takes, what it leaves open, and who may not have it."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from django.db import OperationalError, connection, connections

from coupons.reconciliation import temporary_tables
from coupons.reconciliation.temporary_tables import INSERT_PENDING, INSERT_TICKETS, TemporaryTables
from tests.support.commands import run
from tests.support.service import Service

ROLE = "without_temporary_tables"


@pytest.fixture
def tables(transactional_db: None) -> Iterator[TemporaryTables]:
    with closing(TemporaryTables()) as tables:
        yield tables


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def no_privilege(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The next session is of a user that may read and make no temporary tables; the database's name."""
    database = connection.settings_dict["NAME"]
    execute(f"CREATE ROLE {ROLE}; REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
    options = connections.settings["default"]["OPTIONS"]
    monkeypatch.setitem(options, "options", f"{options['options']} -c role={ROLE}")
    yield database
    execute(f"GRANT TEMPORARY ON DATABASE {database} TO PUBLIC; DROP ROLE {ROLE}")


def test_a_user_without_the_privilege_is_shown_the_grant(no_privilege: str) -> None:
    ran = run("reconcile_campaigns")

    assert ran.code == 2
    assert f"GRANT TEMPORARY ON DATABASE {no_privilege} TO {ROLE};" in ran.err


def test_any_text_comes_back_as_it_was_written(tables: TemporaryTables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary_tables, "ROWS_AT_ONCE", 2)
    rows = [('"quoted"', 1), ("back\\slash", -2), ("{a,b}", 3), ("", 4), ("NULL", 2**53 - 1)]
    tables.insert(INSERT_TICKETS, rows)

    assert sorted(tables.rows("SELECT * FROM ticket")) == sorted(rows)


def test_a_nul_in_a_tampered_redis_ends_nothing(tables: TemporaryTables) -> None:
    tables.insert(INSERT_PENDING, [("a\0b", 5.0)])

    assert tables.row("SELECT * FROM pending") == ("a\N{REPLACEMENT CHARACTER}b", 5.0)


def test_no_transaction_is_open_between_two_rows(tables: TemporaryTables, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that stays open would hold back vacuum, and end while Redis is asked."""
    monkeypatch.setattr(temporary_tables, "ROWS_AT_ONCE", 1)
    [backend] = tables.row("SELECT pg_backend_pid()")
    rows = tables.rows("SELECT * FROM generate_series(1, 3)")
    next(rows)
    with connection.cursor() as cursor:
        cursor.execute("SELECT state, backend_xid, backend_xmin FROM pg_stat_activity WHERE pid = %s", [backend])
        assert cursor.fetchone() == ("idle", None, None)
    assert list(rows) == [(2,), (3,)]


def test_a_statement_that_takes_too_long_ends(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary_tables, "STATEMENT_SEC", 1)
    with closing(TemporaryTables()) as tables, pytest.raises(OperationalError, match="statement timeout"):
        tables.run("SELECT pg_sleep(60)")


def test_a_server_that_hangs_ends_the_wait(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary_tables, "STATEMENT_SEC", 0.3)
    monkeypatch.setattr(temporary_tables, "NETWORK_SEC", 0.0)
    tables = TemporaryTables()
    service.stack("pause", "postgres")
    try:
        with pytest.raises(OperationalError):
            tables.run("SELECT 1")
    finally:
        service.stack("resume", "postgres")
        tables.close()
