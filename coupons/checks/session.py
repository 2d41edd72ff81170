"""Compares what was asked for with what PostgreSQL's session has: a pooler refuses startup options, or drops them, and
then no time-out of the server holds."""

import re
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  Django's own name
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from coupons.errors import DATABASE_DOWN
from coupons.runtime.process import SESSION

DOCUMENT = "docs/deploy/pgbouncer.md"
REFUSED = re.compile("unsupported startup parameter|command-line options")
"""PgBouncer's words, and those of Amazon's RDS Proxy."""
ASKED_SQL = """
SELECT name, current_setting(name), set_config(name, asked, true), pg_backend_pid(),
    format('ALTER ROLE %%I IN DATABASE %%I SET %%I = %%L;', current_user, current_database(), name, asked)
FROM unnest(%s::text[], %s::text[]) AS each (name, asked)
"""


@register(SESSION, deploy=True)
def check_session(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """Every program that runs for long, and `check --deploy`, asks this once. A PostgreSQL that does not answer is no
    finding: whoever needs it waits for it."""
    session = connections.create_connection("default")
    try:
        return _differences(session)
    except DATABASE_DOWN as error:
        if REFUSED.search(str(error)):
            return [_error("a pooler refuses the options of PostgreSQL's sessions.")]
        return []
    finally:
        session.close()


def _differences(session: BaseDatabaseWrapper) -> Sequence[CheckMessage]:
    asked = session.settings_dict["SESSION"]
    with session.cursor() as cursor:
        cursor.execute(ASKED_SQL, [list(asked), list(asked.values())])
        rows = cursor.fetchall()
    lost = [row for row in rows if row[1] != row[2]]
    if lost:
        text = ", ".join(f"{name} is {found}, not {wanted}" for name, found, wanted, *_ in lost)
        statements = " ".join(statement for *_, statement in lost)
        return [_error(f"a pooler has dropped the options of PostgreSQL's session: {text}.", statements)]
    # A pooler makes up the process that it names when a client connects.
    if not _is_pooled_by_design() and session.connection.info.backend_pid != rows[0][3]:
        text = f"{_variable()}: a pooler stands before PostgreSQL; in transaction mode it breaks what needs a session."
        return [Warning(text, hint=_remedy(), id="coupons.W021")]
    return []


def _error(found: str, statements: str = "") -> CheckMessage:
    return Error(f"{_variable()}: {found}", hint=_remedy(statements), id="coupons.E023")


def _variable() -> str:
    is_direct = settings.BEHIND_POOLER and not _is_pooled_by_design()
    return "COUPON_DATABASE_DIRECT_URL" if is_direct else "DATABASE_URL"


def _remedy(statements: str = "") -> str:
    if not settings.BEHIND_POOLER:
        return f"Name PostgreSQL itself in COUPON_DATABASE_DIRECT_URL as well: {DOCUMENT}."
    if not _is_pooled_by_design():
        return f"This URL must lead to PostgreSQL itself, not to the pooler: {DOCUMENT}."
    return f"Run this in PostgreSQL, then RECONNECT in PgBouncer: {statements} See {DOCUMENT}."


def _is_pooled_by_design() -> bool:
    """Of a web process, where the others have a URL of their own."""
    return settings.BEHIND_POOLER and settings.DATABASES["default"] is settings.WEB_DATABASE
