"""Debian's PgBouncer before the test's database, as docs/deploy/pgbouncer.md has it. Run as root, it becomes nobody."""

import atexit
import re
import shutil
import tempfile
from pathlib import Path

from django.db import connection

from faults.links import with_address
from faults.proxy import LOOPBACK
from harness import free_port
from tests.support.deploy_document import replaced
from tests.support.process import ROOT, Process
from tests.support.service import Service

TEXT = (ROOT / "docs" / "deploy" / "pgbouncer.md").read_text()
NOBODY = "nobody"  # PgBouncer refuses to run as root


class PgBouncer:
    def __init__(self, service: Service, *, more: str = "") -> None:
        """`more` are lines of its section [pgbouncer]."""
        self._service = service
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))  # not in pytest's, which is root's alone
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        self.port = free_port()
        database = connection.settings_dict
        (self._folder / "userlist.txt").write_text(f'"{database["USER"]}" "{database["PASSWORD"]}"\n')
        (ini,) = re.findall(r"^```ini\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
        words = {
            "coupons = host=db.example.test port=5432 dbname=coupons": (
                f"{database['NAME']} = host={database['HOST']} port={database['PORT']} dbname={database['NAME']}"
            ),
            "listen_addr = 0.0.0.0": f"listen_addr = {LOOPBACK}",
            "listen_port = 6432": f"listen_port = {self.port}",
            "/etc/pgbouncer/userlist.txt": f"{self._folder}/userlist.txt",
            "default_pool_size = 20": "default_pool_size = 3",
        }
        (self._folder / "pgbouncer.ini").write_text(f"{replaced(ini, words)}unix_socket_dir =\n{more}\n")
        for path in (self._folder, *self._folder.iterdir()):
            shutil.chown(path, NOBODY)
        self._process: Process | None = None
        self.start()

    def start(self) -> None:
        """Again, with new sessions, if it runs."""
        if self._process is not None:
            self._process.stop()
        command = ["/usr/sbin/pgbouncer", "-u", NOBODY, str(self._folder / "pgbouncer.ini")]
        self._process = self._service.start("pgbouncer", command)
        self._process.says("process up")

    @property
    def urls(self) -> dict[str, str]:
        """The service's variables, as the document has them."""
        direct = self._service.environment["DATABASE_URL"]
        return {"DATABASE_URL": with_address(direct, f"{LOOPBACK}:{self.port}"), "COUPON_DATABASE_DIRECT_URL": direct}

    @property
    def only(self) -> dict[str, str]:
        """As before there was a second URL."""
        return {"DATABASE_URL": self.urls["DATABASE_URL"]}
