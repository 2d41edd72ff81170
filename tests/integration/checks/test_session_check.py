"""PostgreSQL's session has what was asked for, or a check says so. With PgBouncer: test_behind_pgbouncer.py."""

import pytest
from django.conf import LazySettings
from django.db import connection, connections

from coupons.checks.session import check_session
from harness import free_port


def test_a_session_as_it_was_asked_for_is_no_finding(transactional_db: None) -> None:
    assert check_session(None) == []


def test_what_a_session_lacks_is_named(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {**connection.settings_dict["SESSION"], "statement_timeout": "3s"}
    monkeypatch.setitem(connections.settings["default"], "SESSION", asked)

    (error,) = check_session(None)

    assert error.id == "coupons.E023"
    assert error.msg.endswith("session: statement_timeout is 10s, not 3s.")
    assert error.hint is not None
    assert "COUPON_DATABASE_DIRECT_URL" in error.hint


def test_web_is_told_what_to_run(
    transactional_db: None, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BEHIND_POOLER = True
    asked = {**connection.settings_dict["SESSION"], "statement_timeout": "3s"}
    monkeypatch.setitem(connections.settings["default"], "SESSION", asked)
    settings.WEB_DATABASE = settings.DATABASES["default"]

    (error,) = check_session(None)

    name, user = connection.settings_dict["NAME"], connection.settings_dict["USER"]
    assert error.hint is not None
    assert f"ALTER ROLE {user} IN DATABASE {name} SET statement_timeout = '3s';" in error.hint


def test_a_database_that_is_down_is_no_finding(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:  # the end of the test needs PostgreSQL
        patch.setitem(connections.settings["default"], "PORT", str(free_port()))

        assert check_session(None) == []
