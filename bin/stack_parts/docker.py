"""Runs the three servers in containers: with STACK=docker, or where they cannot run natively and an engine answers.

This code has never run, since no engine was available where it was written. Only the compose files were checked, by
schema.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib

from . import settings
from .errors import StackError
from .home import CHECKOUT, Home

_FILES = ("docker-compose.yml", "docker-compose.stack.yml")


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
    project = f"coupons-{zlib.crc32(str(home.root).encode(errors='surrogateescape')):08x}"
    files = [word for name in _FILES for word in ("-f", name)]
    command = ["docker", "compose", "-p", project, *files, *arguments]
    return subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, **variables}, text=True, check=False, capture_output=capture
    )


def run(home: Home, verb: str, parts: list[str]) -> None:
    """Runs one command of bin/stack for these parts."""
    if not engine_answers():
        raise StackError("no engine answers (`docker info`, `docker compose version`); start it or unset STACK=docker")
    if verb == "start":
        waits = str(max(settings.START_DEADLINE_SEC.values()))
        arguments = ["up", "-d", "--wait", "--wait-timeout", waits, *parts]
    elif verb == "wipe":
        arguments = ["rm", "-s", "-f", "-v", *parts]
    else:
        arguments = [{"resume": "unpause"}.get(verb, verb), *parts]
    if compose(home, *arguments).returncode != 0:
        raise StackError(f"docker compose {' '.join(arguments)} failed, see above")


def all_answer(home: Home) -> bool:
    """Whether every server's container runs and its health check passes."""
    done = compose(home, "ps", "--format", "{{.Service}} {{.Health}}", *settings.PARTS, capture=True)
    healthy = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" healthy")}
    return healthy == set(settings.PARTS)
