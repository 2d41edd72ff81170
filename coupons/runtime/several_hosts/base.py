"""Connects to the first of several PostgreSQL hosts that answers and that `target_session_attrs` accepts.

libpq tries one host after the other by itself, but goes on only after an error. Its connections are asynchronous here
(coupons/runtime/db_timeouts.py), and then it leaves the time-out to its caller: a host that hangs would use it up, and
the next one would never be tried. So each host gets a connection, and a time-out, of its own.
"""

from typing import Any

from django.db.backends.postgresql import base
from psycopg2 import OperationalError


class DatabaseWrapper(base.DatabaseWrapper):
    begin_with = 0
    """The host that answered last, in the whole process. After one that did not the next comes first: a request's
    deadline may end within the time-out of one host."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        hosts = _each_host(conn_params)
        for number in range(self.begin_with, self.begin_with + len(hosts)):
            try:
                connection = super().get_new_connection({**conn_params, **hosts[number % len(hosts)]})
            except OperationalError as error:
                DatabaseWrapper.begin_with = number + 1
                failure = error
            else:
                DatabaseWrapper.begin_with = number
                return connection
        raise failure


def _each_host(conn_params: dict[str, Any]) -> list[dict[str, str]]:
    """One port is for all hosts, as libpq has it."""
    count = len(conn_params["host"].split(","))
    found: list[dict[str, str]] = [{} for _ in range(count)]
    for name in ("host", "hostaddr", "port"):
        values = str(conn_params.get(name, "")).split(",")
        for each, value in zip(found, values * count if len(values) == 1 else values, strict=False):
            each[name] = value
    return found
