"""Runs the three servers in containers: with STACK=docker, or where they cannot run natively and an engine answers.

`make test-compose` runs each command once, on a container engine of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import zlib
from collections.abc import Sequence

from . import settings
from .errors import StackError
from .home import CHECKOUT, Home

_FILES = ("docker-compose.yml", "docker-compose.stack.yml")
_START_DEADLINE_SEC = max(settings.START_DEADLINE_SEC.values())


def engine_answers() -> bool:
    """Whether a container engine and compose work here; the client alone is not enough."""
    if shutil.which("docker") is None:
        return False
    try:
        # the compose plugin is a separate package and may be missing
        return all(
            subprocess.run(["docker", *words], capture_output=True, timeout=20, check=False).returncode == 0
            for words in (["info"], ["compose", "version"])
        )
    except subprocess.TimeoutExpired:
        return False


def compose(home: Home, *arguments: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
    """Runs `docker compose` with this stack's project name, passwords and ports."""
    state = home.state()
    variables = {
        "POSTGRES_PASSWORD": state.secrets["postgres"],
        "STACK_POSTGRES_PORT": str(state.ports["postgres"]),
        "STACK_REDIS_PORT": str(state.ports["redis"]),
        "STACK_KAFKA_PORT": str(state.ports["kafka"]),
        # required by the file's other services, which are not started here
        "REDIS_PASSWORD": "unused",
        "DJANGO_SECRET_KEY": "unused",
        "DJANGO_ALLOWED_HOSTS": "unused",
        "COUPON_API_KEYS": "unused",
    }
    files = [word for name in _FILES for word in ("-f", name)]
    command = ["docker", "compose", "-p", _project(home), *files, *arguments]
    return subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, **variables}, text=True, check=False, capture_output=capture
    )


def _project(home: Home) -> str:
    return f"coupons-{zlib.crc32(str(home.root).encode(errors='surrogateescape')):08x}"


def start(home: Home, parts: Sequence[str]) -> None:
    """Starts the servers and waits until each is healthy; resumes paused ones."""
    _require_engine()
    states = _states(home)
    paused = [part for part in parts if states.get(part) == "paused"]
    _resume(home, paused)
    _wait_until_healthy(home, paused)
    _compose(home, "up", "-d", "--wait", "--wait-timeout", str(_START_DEADLINE_SEC), *parts)


def stop(home: Home, parts: Sequence[str]) -> None:
    """Stops the servers cleanly, also paused ones."""
    _require_engine()
    _compose(home, "stop", *parts)


def kill(home: Home, parts: Sequence[str]) -> None:
    _compose(home, "kill", *_running(home, "kill", parts))


def pause(home: Home, parts: Sequence[str]) -> None:
    states = _running(home, "pause", parts)
    _compose_some(home, "pause", [part for part, state in states.items() if state != "paused"])


def resume(home: Home, parts: Sequence[str]) -> None:
    states = _running(home, "resume", parts)
    _resume(home, [part for part, state in states.items() if state == "paused"])


def wipe(home: Home, parts: Sequence[str]) -> None:
    """Removes the containers and volumes of stopped servers; their next start begins empty."""
    _require_engine()
    states = _states(home)
    for part in parts:
        if states.get(part) in ("running", "paused", "restarting"):
            raise StackError(f"{part} is running; `bin/stack stop {part}` (or kill) first")
    _compose(home, "rm", "-f", *parts)
    _run(["docker", "volume", "rm", "-f", *(f"{_project(home)}_{part}" for part in parts)])


def logs(home: Home, parts: Sequence[str], *, lines: int, follow: bool) -> None:
    _require_engine()
    _compose(home, "logs", f"--tail={lines}", *(["--follow"] if follow else []), *parts)


def show_status(home: Home) -> bool:
    """Prints each server's container. Returns whether all of them run and their health checks pass."""
    _require_engine()
    _compose(home, "ps", "--all")
    return _healthy(home) == set(settings.PARTS)


ACTIONS = {"kill": kill, "pause": pause, "resume": resume, "wipe": wipe}


def _require_engine() -> None:
    if not engine_answers():
        raise StackError("no engine answers (`docker info`, `docker compose version`); start it or unset STACK=docker")


def _states(home: Home) -> dict[str, str]:
    """Docker's word for each server that has a container: running, paused, exited..."""
    done = compose(home, "ps", "--all", "--format", "{{.Service}} {{.State}}", *settings.PARTS, capture=True)
    if done.returncode != 0:
        raise StackError(f"docker compose ps failed:\n{done.stderr}")
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines())


def _healthy(home: Home) -> set[str]:
    done = compose(home, "ps", "--format", "{{.Service}} {{.Health}}", *settings.PARTS, capture=True)
    return {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" healthy")}


def _wait_until_healthy(home: Home, parts: Sequence[str]) -> None:
    """Docker calls a paused container unhealthy until its next check, and `up --wait` gives an unhealthy one up."""
    deadline = time.monotonic() + _START_DEADLINE_SEC
    while not _healthy(home).issuperset(parts):
        if time.monotonic() > deadline:
            raise StackError(f"{', '.join(parts)}: not healthy within {_START_DEADLINE_SEC} s of being resumed")
        time.sleep(0.5)


def _running(home: Home, verb: str, parts: Sequence[str]) -> dict[str, str]:
    """The state of each part, all of which must run, as `bin/stack` demands it of native servers."""
    _require_engine()
    states = _states(home)
    for part in parts:
        if states.get(part) not in ("running", "paused"):
            raise StackError(f"{part} is not running, nothing to {verb}")
    return {part: states[part] for part in parts}


def _resume(home: Home, parts: Sequence[str]) -> None:
    _compose_some(home, "unpause", parts)


def _compose_some(home: Home, verb: str, parts: Sequence[str]) -> None:
    if parts:  # compose would take none for all
        _compose(home, verb, *parts)


def _compose(home: Home, *arguments: str) -> None:
    if compose(home, *arguments).returncode != 0:
        raise StackError(f"docker compose {' '.join(arguments)} failed, see above")


def _run(command: list[str]) -> None:
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        raise StackError(f"{' '.join(command)} failed, see above")
