"""Finds the system's programs that the servers need. Installs missing ones with apt as root, else names the command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import settings
from .errors import StackError


@dataclass(frozen=True)
class Need:
    """A required program: its name, a function that finds a version new enough, and its key in APT_PACKAGES."""

    what: str
    find: Callable[[], Path | None]
    apt: str


_POSTGRES_PROGRAMS = ("initdb", "postgres", "psql")


def postgres_bin() -> Path | None:
    """The folder of the newest PostgreSQL server's programs."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    on_path = shutil.which("initdb")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    complete = (folder for folder in folders if all((folder / name).exists() for name in _POSTGRES_PROGRAMS))
    usable = {_major(folder / "postgres"): folder for folder in complete}
    newest = max(usable, default=0)
    return usable[newest] if newest >= settings.POSTGRES_MAJOR else None


def redis_server() -> Path | None:
    found = shutil.which("redis-server")
    return Path(found) if found and _major(Path(found)) >= settings.REDIS_MAJOR else None


def java() -> Path | None:
    """The first new enough `java` of JAVA_HOME, the PATH, or /usr/lib/jvm."""
    home, on_path = os.environ.get("JAVA_HOME"), shutil.which("java")
    candidates = [Path(home, "bin/java")] if home else []
    candidates += [Path(on_path)] if on_path else []
    candidates += sorted(Path("/usr/lib/jvm").glob("*/bin/java"), reverse=True)
    return next((path for path in candidates if path.exists() and _java_major(path) >= settings.JAVA_MAJOR), None)


def maven() -> Path | None:
    found = shutil.which("mvn")
    return Path(found) if found else None


def setpriv() -> Path | None:
    found = shutil.which("setpriv")
    return Path(found) if found else None


def curl() -> Path | None:
    found = shutil.which("curl")
    return Path(found) if found else None


def compiler() -> Path | None:
    found = shutil.which("cc")
    return Path(found) if found and Path("/usr/include/pthread.h").exists() else None


def _major(program: Path) -> int:
    return _first_number(program, "--version", r"(?:v=|PostgreSQL\) )(\d+)")


def _java_major(program: Path) -> int:
    return _first_number(program, "-version", r'version "(\d+)')


def _first_number(program: Path, option: str, pattern: str) -> int:
    try:
        done = subprocess.run([program, option], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(pattern, done.stdout + done.stderr)
    return int(match[1]) if match else 0


POSTGRES = Need(f"PostgreSQL >= {settings.POSTGRES_MAJOR} (initdb, postgres, psql)", postgres_bin, "postgres")
REDIS = Need(f"Redis >= {settings.REDIS_MAJOR} (redis-server)", redis_server, "redis")
JAVA = Need(f"Java >= {settings.JAVA_MAJOR}", java, "java")
MAVEN = Need("Maven (mvn)", maven, "maven")
SETPRIV = Need("setpriv", setpriv, "setpriv")
CURL = Need("curl (the README's session)", curl, "curl")
COMPILER = Need("cc and libc's headers (for the tests' fake clock)", compiler, "compiler")


def missing(needs: Iterable[Need]) -> list[Need]:
    return [need for need in needs if need.find() is None]


def ensure(needs: Sequence[Need]) -> None:
    """Ensures that all programs exist: installs missing ones as root with apt, else raises an error that says how."""
    lacking = missing(needs)
    if not lacking:
        return
    names = [apt_name(settings.APT_PACKAGES[need.apt]) for need in lacking]
    if can_install():
        install(names)
        lacking = missing(needs)
    if lacking:
        raise StackError(f"missing programs: {', '.join(need.what for need in lacking)}.\n{how_to_install(names)}")


def ensure_apt(names: Sequence[str]) -> None:
    """Ensures that the packages with these names are installed."""
    lacking = [name for name in names if not _is_installed(name)]
    if lacking and not can_install():
        raise StackError(f"missing packages: {', '.join(lacking)}.\n{how_to_install(lacking)}")
    if lacking:
        install(lacking)


def _is_installed(name: str) -> bool:
    if not shutil.which("dpkg-query"):
        return False
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "installed"


def how_to_install(names: Sequence[str]) -> str:
    if shutil.which("apt-get"):
        command = f"apt-get update && sudo apt-get install -y --no-install-recommends {' '.join(names)}"
        return f"Install it with:\n    sudo {command}"
    return f"Install it with this system's package manager (Debian's name: {', '.join(names)})."


def apt_name(alternatives: Sequence[str]) -> str:
    """The first of the names for which apt has a package."""
    if len(alternatives) == 1 or not shutil.which("apt-cache"):
        return alternatives[0]
    for name in alternatives:
        shown = subprocess.run(["apt-cache", "show", name], capture_output=True, check=False)
        if shown.returncode == 0:
            return name
    return alternatives[0]


def can_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(names: Sequence[str]) -> None:
    """Installs the packages. A package may start a system-wide server; bin/stack never touches that one."""
    print(f"packages  apt-get install {' '.join(names)}", file=sys.stderr)
    # a stale list names removed versions; without a network the install may still succeed with the old list
    _apt("update", "-qq", fatal=False)
    _apt("install", "-y", "-qq", "--no-install-recommends", *names, fatal=True)


def _apt(*arguments: str, fatal: bool) -> None:
    """Runs apt-get, silently unless it fails. Waits while another apt-get holds the lock."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "a", "LC_ALL": "C.UTF-8"}
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=300", *arguments]
    deadline = time.monotonic() + 300
    while True:
        done = subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode == 0 or (not fatal and "Could not get lock" not in done.stderr):
            return
        if "Could not get lock" not in done.stderr or time.monotonic() > deadline:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
            raise StackError(f"{' '.join(command)} failed:\n{tail}")
        time.sleep(2)
