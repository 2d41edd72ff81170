"""A streaming standby of the stack's PostgreSQL, which may be promoted: for failovers. Tests with it run as root."""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import pytest
from django.db import connection

from faults.links import server_ports
from faults.postgres_pair import PostgresPair, value_of
from faults.proxy import LOOPBACK, Proxy


class Standby:
    """A context around one failover. What it hears of its primary comes through `link`, a proxy.

    `synchronous`: the primary commits nothing that the standby does not have.
    """

    def __init__(self, *, synchronous: bool) -> None:
        self._synchronous = synchronous
        self.link = Proxy(LOOPBACK, server_ports("postgres")[0]).start()
        self._folder = Path(tempfile.mkdtemp(prefix="standby-"))
        self._pair = PostgresPair(self._folder)
        self._server = self._pair.standby

    def __enter__(self) -> Self:
        self._pair.follow(through=self.link.address, synchronous=self._synchronous)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with ExitStack() as closing:
            closing.callback(shutil.rmtree, self._folder)
            closing.callback(self._pair.close)
            closing.callback(self.link.close)
            closing.callback(connection.close)

    def url(self) -> str:
        """Both hosts, of which the one is taken that writes."""
        database = connection.settings_dict
        user = f"{quote(database['USER'])}:{quote(database['PASSWORD'])}"
        return self._pair.url(f"postgres://{user}@{LOOPBACK}/{database['NAME']}")

    def take_over_here(self, patch: pytest.MonkeyPatch) -> None:
        """This process, too, uses whichever writes."""
        database: dict[str, Any] = connection.settings_dict
        patch.setitem(database, "PORT", ",".join(map(str, self._pair.ports)))
        patch.setitem(database, "HOST", f"{LOOPBACK},{LOOPBACK}")
        patch.setitem(database["OPTIONS"], "target_session_attrs", "read-write")
        connection.close()

    def promote(self) -> None:
        self._pair.promote()

    def value(self, query: str) -> Any:
        """What the standby answers, promoted or not."""
        return value_of(self._server, query, database=connection.settings_dict["NAME"])
