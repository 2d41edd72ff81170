"""Runs Redis with an append-only file."""

from __future__ import annotations

import os

from . import packages, probes, settings
from .ports import LOOPBACK
from .server import Command, Server


class Redis(Server):
    name = "redis"
    program = "redis-server"
    port_names = ("redis",)

    @property
    def marker(self) -> str:
        return str(self.home.data(self.name) / "redis.conf")

    def needs(self) -> list[packages.Need]:
        return [packages.REDIS]

    def prepare(self) -> None:
        data = self.home.data(self.name)
        data.mkdir(parents=True, exist_ok=True)
        data.chmod(0o700)
        own = {
            "bind": LOOPBACK,
            "port": str(self.port()),
            # relative to the working directory, so that any folder name works
            "dir": "./",
            "daemonize": "no",
            # keep the original command line: bin/stack identifies the process by it
            "set-proc-title": "no",
        }
        lines = (f'{name} "{value}"' for name, value in (own | settings.REDIS_SETTINGS).items())
        (data / "redis.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> Command:
        data = self.home.data(self.name)
        return Command([str(packages.REDIS.find()), self.marker], cwd=data, env=os.environ)

    def answers(self) -> bool:
        return probes.redis_answers(self.port())
