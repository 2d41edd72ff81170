"""Two PostgreSQL servers: the stack's own, and one beside it. One is the primary, the other is its streaming standby.

Any of the two may be promoted, as often as you like: the old primary becomes the standby by a fresh base backup.

Replication is synchronous, so a promotion loses nothing that was committed: a commit returns when the standby has it,
too. Without that a killed primary would take the last commits with it. One gap is left, and `wait_until_in_step` closes
it: a primary that was killed, or a session that was ended, while a commit waited for the standby keeps the commit, and
shows it to everybody from then on.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import psycopg2
from stack_parts.home import Home
from stack_parts.postgres import SYSTEM_USER, Postgres
from stack_parts.settings import DATABASE_USER

from faults.links import with_address
from faults.proxy import LOOPBACK
from tests.support.waiting import wait_until

STANDBY: Final = "standby"
RELOAD: Final = "SELECT pg_reload_conf()"
FORGET: Final = "ALTER SYSTEM RESET ALL"
# A standby that was cut off for a while must still find the WAL that it lacks.
KEEP_WAL: Final = "ALTER SYSTEM SET wal_keep_size = '256MB'"
WAIT_FOR_STANDBY: Final = f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'"
IN_STEP: Final = (
    "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync' AND flush_lsn >= '{}'"
)


class PostgresPair:
    """`follow` makes the standby, `promote` exchanges the roles, and after `close` the stack's own server is alone."""

    def __init__(self, folder: Path) -> None:
        """`folder` is for the data and the log of the server beside the stack's."""
        self._own = self.primary = Postgres(Home.current())
        home = Home(folder)
        secrets = {"secrets": Home.current().state().secrets}
        home.state_file.write_text(json.dumps(vars(home.state()) | secrets))
        self.standby = Postgres(home)
        self.ports = (self.primary.port(), self.standby.port())

    def url(self, url: str) -> str:
        """The URL with both servers in place of its host. Clients take the one that writes."""
        hosts = ",".join(f"{LOOPBACK}:{port}" for port in self.ports)
        return f"{with_address(url, hosts)}?target_session_attrs=read-write"

    def follow(self, *, through: str = "", synchronous: bool = True) -> None:
        """Makes the standby a copy of the primary; returns when it streams. `through` is a proxy before the primary."""
        if self.standby.record() is not None:
            self.standby.kill()
        # A soak that was killed may have left the stack's own server as a standby, or waiting for one.
        execute(self.primary, "SELECT pg_promote() WHERE pg_is_in_recovery()", FORGET, KEEP_WAL, RELOAD)
        self._copy_primary(through or f"{LOOPBACK}:{self.primary.port()}")
        self.standby.start()
        wait_until(self._streams, what="the standby streams")
        if synchronous:
            execute(self.primary, WAIT_FOR_STANDBY, RELOAD)
            self.wait_until_in_step()

    def wait_until_in_step(self) -> None:
        """Returns when the standby has all that the primary has written by now. For a synchronous standby."""
        written = value_of(self.primary, "SELECT pg_current_wal_flush_lsn()")
        wait_until(
            lambda: value_of(self.primary, IN_STEP.format(written)) == 1, what="the standby has what is committed"
        )

    def promote(self) -> None:
        """The standby takes over. First the old primary is cut off: two that write are outside the promise."""
        if self.primary.record() is not None:
            self.primary.kill()
        execute(self.standby, "SELECT pg_promote(wait => false)")
        wait_until(lambda: value_of(self.standby, "SELECT NOT pg_is_in_recovery()"), what="the standby writes")
        self.primary, self.standby = self.standby, self.primary

    def close(self) -> None:
        """Leaves all data in the stack's own server, which waits for no standby any more."""
        self.primary.start()  # also one that hangs
        if self.primary is not self._own:
            self.follow()
            self.primary.stop()
            self.promote()
        execute(self.primary, FORGET, RELOAD)
        if self.standby.record() is not None:
            self.standby.kill()
        self.standby.home.remove_data(self.standby.name)

    def _streams(self) -> bool:
        count = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = '{}'"
        return bool(value_of(self.primary, count.format(STANDBY)) == 1)

    def _copy_primary(self, address: str) -> None:
        """A whole copy takes a second or two here. pg_rewind would need wal_log_hints, and a user other than root."""
        self.standby.home.remove_data(self.standby.name)
        folder = self.standby.home.data(self.standby.name)
        source = f"postgres://{DATABASE_USER}:{self.primary.password}@{address}/?application_name={STANDBY}"
        options = ["--wal-method=stream", "--checkpoint=fast", "--no-sync", "--write-recovery-conf"]
        subprocess.run(
            [self.standby.bin / "pg_basebackup", f"--dbname={source}", "-D", folder, *options],
            check=True,
            capture_output=True,
        )
        if os.geteuid() == 0:
            for path in (folder, *folder.rglob("*")):
                shutil.chown(path, SYSTEM_USER)


def value_of(server: Postgres, query: str, *, database: str = "postgres") -> Any:
    """The only value of the answer; None when there is no row."""
    session = psycopg2.connect(
        host=LOOPBACK, port=server.port(), user=DATABASE_USER, password=server.password, dbname=database
    )
    session.autocommit = True
    try:
        with session.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None
    finally:
        session.close()


def execute(server: Postgres, *statements: str) -> None:
    for statement in statements:
        value_of(server, statement)
