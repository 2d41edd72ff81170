"""Runs PostgreSQL over TCP only; for root as the user `postgres`, since its server refuses root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from . import packages, probes, processes, settings
from .errors import StackError
from .ports import LOOPBACK
from .server import Command, Server

SYSTEM_USER = "postgres"
TRIES = 5


class Postgres(Server):
    name = "postgres"
    program = "postgres"
    port_names = ("postgres",)
    # fast shutdown: terminates sessions and writes a checkpoint
    stop_signal = signal.SIGINT

    def needs(self) -> list[packages.Need]:
        return [packages.POSTGRES, *([packages.SETPRIV] if os.geteuid() == 0 else [])]

    @property
    def bin(self) -> Path:
        folder = packages.postgres_bin()
        if folder is None:
            raise StackError(f"missing program: {packages.POSTGRES.what}")
        return folder

    @property
    def password(self) -> str:
        return self.home.state().secrets["postgres"]

    def prepare(self) -> None:
        data = self.home.data(self.name)
        if (data / "PG_VERSION").exists():
            self._check_version(data)
            self._drop_stale_lock(data)
        else:
            self._initialize(data)

    def command(self) -> Command:
        options = settings.POSTGRES_SETTINGS | {
            "listen_addresses": LOOPBACK,
            "port": str(self.port()),
            # the path of a socket is limited to 107 bytes, and TCP always works
            "unix_socket_directories": "",
            "logging_collector": "off",
            "log_line_prefix": "%m [%p] ",
        }
        words = [str(self.bin / "postgres"), "-D", str(self.home.data(self.name))]
        for name, value in options.items():
            words += ["-c", f"{name}={value}"]
        return Command(self._as_server_user(words), cwd=Path("/"), env=_clean_environment())

    def answers(self) -> bool:
        return probes.postgres_answers(psql=self.bin / "psql", port=self.port(), password=self.password)

    def finish_start(self) -> None:
        """Creates the database if it is missing."""
        for _ in range(TRIES):  # on a busy machine a missing answer does not tell whether the server did it
            if self._query(f"SELECT 1 FROM pg_database WHERE datname = '{settings.DATABASE}'") == "1":  # noqa: S608
                return
            self._query(f"CREATE DATABASE {settings.DATABASE}")
        raise self.failure(f"did not create the database {settings.DATABASE}")

    def _query(self, sql: str) -> str | None:
        return probes.postgres_query(
            psql=self.bin / "psql", port=self.port(), password=self.password, database="postgres", sql=sql
        )

    def _initialize(self, data: Path) -> None:
        """Makes a new data folder, completely or not at all."""
        fresh = data.with_name("postgres.new")
        password_file = data.with_name("postgres.password")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        password_file.write_text(self.password)
        self._give_to_server_user(fresh, password_file)
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
        words = [str(self.bin / "initdb"), "-D", str(fresh), "-U", settings.DATABASE_USER, *options]
        done = subprocess.run(
            self._as_server_user([*words, f"--pwfile={password_file}"]),
            cwd="/",
            env=_clean_environment(),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        password_file.unlink()
        if done.returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            raise StackError(f"initdb failed:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
        if data.exists():
            shutil.rmtree(data)
        # crash before here => the next start discards postgres.new and makes it again
        fresh.rename(data)

    def _check_version(self, data: Path) -> None:
        made_by = (data / "PG_VERSION").read_text().strip()
        here = subprocess.run([self.bin / "postgres", "-V"], capture_output=True, text=True, check=True).stdout
        if f" {made_by}." not in here:
            raise StackError(
                f"PostgreSQL {made_by} made the data folder, but the programs are {here.strip()}; "
                "`bin/stack wipe postgres` starts over with an empty database"
            )

    def _drop_stale_lock(self, data: Path) -> None:
        """Removes a lock file whose pid now belongs to another process: after a crash the server would refuse it."""
        lock = data / "postmaster.pid"
        if not lock.exists():
            return
        pid = int(lock.read_text().split("\n", 1)[0])
        if str(data) not in processes.command_line(pid):
            lock.unlink()

    def _give_to_server_user(self, *paths: Path) -> None:
        for path in paths:
            path.chmod(0o700 if path.is_dir() else 0o600)
            if os.geteuid() == 0:
                user = _server_user()
                os.chown(path, user.pw_uid, user.pw_gid)

    def _as_server_user(self, words: list[str]) -> list[str]:
        """Wraps the command so that it runs as a user who may run the server.

        The data may lie below a folder that only root can enter (/root, `mktemp -d`); a capability lets the server
        through. Containers may lack it but have the wider one; without both the command runs without a capability.
        """
        if os.geteuid() != 0:
            return words
        _server_user()
        base = ["setpriv", f"--reuid={SYSTEM_USER}", f"--regid={SYSTEM_USER}", "--init-groups"]
        for capability in ("dac_read_search", "dac_override"):
            prefix = [*base, f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}"]
            if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
                return [*prefix, *words]
        return [*base, *words]


def _server_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        raise StackError(
            f"PostgreSQL does not run as root and there is no user {SYSTEM_USER}; create it with\n"
            f"    useradd --system --shell /usr/sbin/nologin {SYSTEM_USER}"
        ) from None


def _clean_environment() -> dict[str, str]:
    """The environment without the caller's PG... variables, and with a locale that every system has."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/"}
