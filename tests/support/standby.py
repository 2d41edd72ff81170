"""A streaming standby of the stack's PostgreSQL, which may be promoted: for failovers. Tests with it run as root."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import psycopg2
import pytest
from django.db import connection
from stack_parts.home import Home
from stack_parts.postgres import SYSTEM_USER, Postgres

from faults.links import server_ports
from faults.proxy import LOOPBACK, Proxy
from tests.support.service import Service
from tests.support.waiting import wait_until

NAME = "standby"
WAITS_FOR_IT = f"synchronous_standby_names = '{NAME}'"


class Standby:
    """A context around one failover. What it hears of its primary comes through `link`, a proxy.

    `synchronous`: the primary commits nothing that the standby does not have.
    """

    def __init__(self, service: Service, *, synchronous: bool) -> None:
        self._service = service
        self._synchronous = synchronous
        primary_port = server_ports("postgres")[0]
        self.link = Proxy(LOOPBACK, primary_port).start()
        self._home = Home(Path(tempfile.mkdtemp(prefix="standby-")))
        state = vars(self._home.state())
        self._home.state_file.write_text(json.dumps(state | {"secrets": vars(Home.current().state())["secrets"]}))
        self._server = Postgres(self._home)
        self._ports = f"{primary_port},{self._server.port()}"

    def __enter__(self) -> Self:
        self._copy_primary()
        self._server.start()
        wait_until(self._streams, what="the standby streams")
        if self._synchronous:
            _primary(f"ALTER SYSTEM SET {WAITS_FOR_IT}", "SELECT pg_reload_conf()")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        connection.close()
        self._server.kill()
        self.link.close()
        shutil.rmtree(self._home.root)
        if self._synchronous:  # the primary would wait for ever
            if Postgres(Home.current()).record() is not None:
                self._service.stack("kill", "postgres")
            file = Home.current().data("postgres") / "postgresql.auto.conf"
            file.write_text(file.read_text().replace(WAITS_FOR_IT, ""))

    def url(self) -> str:
        """Both hosts, of which the one is taken that writes."""
        database = connection.settings_dict
        hosts = ",".join(f"{LOOPBACK}:{port}" for port in self._ports.split(","))
        user = f"{quote(database['USER'])}:{quote(database['PASSWORD'])}"
        return f"postgres://{user}@{hosts}/{database['NAME']}?target_session_attrs=read-write"

    def take_over_here(self, patch: pytest.MonkeyPatch) -> None:
        """This process, too, uses whichever writes."""
        database: dict[str, Any] = connection.settings_dict
        patch.setitem(database, "PORT", self._ports)
        patch.setitem(database, "HOST", f"{LOOPBACK},{LOOPBACK}")
        patch.setitem(database["OPTIONS"], "target_session_attrs", "read-write")
        connection.close()

    def promote(self) -> None:
        self.value("SELECT pg_promote()")

    def value(self, query: str) -> Any:
        database = connection.settings_dict
        session = psycopg2.connect(
            host=LOOPBACK,
            port=self._server.port(),
            user=database["USER"],
            password=database["PASSWORD"],
            dbname=database["NAME"],
        )
        try:
            with session.cursor() as cursor:
                cursor.execute(query)
                [row] = cursor.fetchall()
                return row[0]
        finally:
            session.close()

    def _streams(self) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")
            return bool(cursor.fetchone() == (1,))

    def _copy_primary(self) -> None:
        database = connection.settings_dict
        source = f"postgres://{quote(database['USER'])}:{quote(database['PASSWORD'])}@{self.link.address}"
        folder = self._home.data("postgres")
        options = ["--wal-method=stream", "--checkpoint=fast", "--no-sync", "--write-recovery-conf"]
        subprocess.run(
            [self._server.bin / "pg_basebackup", f"--dbname={source}/?application_name={NAME}", "-D", folder, *options],
            check=True,
            capture_output=True,
        )
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, SYSTEM_USER)


def _primary(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
