"""A second Redis, which begins as a replica of the stack's: for failovers."""

import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError
from stack_parts import packages, settings

from coupons.admission.scripts import admission_redis
from faults.proxy import LOOPBACK, Proxy
from harness import free_port
from tests.support.waiting import wait_until

ONLINE_SEC = 20.0


class Replica:
    """A context around one failover. What it hears of its primary comes through `link`, a proxy, unless it is `direct`:
    Sentinels compare the addresses."""

    def __init__(self, primary_port: int, *, direct: bool = False) -> None:
        self.port = free_port()
        self.link = Proxy(LOOPBACK, primary_port).start()
        self.redis = Redis(host=LOOPBACK, port=self.port, socket_timeout=5)
        self._folder = Path(tempfile.mkdtemp(prefix="replica-"))
        values = {"bind": LOOPBACK, "port": str(self.port), "dir": str(self._folder), **settings.REDIS_SETTINGS}
        lines = [f'{name} "{value}"' for name, value in values.items()]
        lines.append(f"replicaof {LOOPBACK} {primary_port if direct else self.link.port}")
        (self._folder / "redis.conf").write_text("\n".join(lines) + "\n")
        # A primary waits 5 s for more replicas before it begins. Nothing else depends on it, so it stays.
        admission_redis().config_set("repl-diskless-sync-delay", 0)
        self._process = subprocess.Popen(
            [str(packages.REDIS.find()), str(self._folder / "redis.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Self:
        wait_until(lambda: answers(self.redis), what="the replica answers")
        follows(self.redis)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
        self.redis.close()
        self.link.close()
        shutil.rmtree(self._folder)

    def promote(self) -> None:
        promote(self.redis)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)


def promote(redis: Redis) -> None:
    redis.replicaof("NO", "ONE")


def follow(redis: Redis, port: int) -> None:
    """Makes it a replica; returns when it holds what its primary holds."""
    redis.replicaof(LOOPBACK, str(port))
    follows(redis)


def hand_over(primary: Any, port: int) -> None:
    """Makes its `direct` replica the primary, and itself a replica of that one. Redis holds writes up until both agree,
    so no moment has two primaries. It refuses a replica that has not acknowledged yet what it was sent."""
    wait_until(lambda: _is_online(primary, port), within_sec=ONLINE_SEC, what="the primary's replica is online")
    primary.execute_command("FAILOVER", "TO", LOOPBACK, port)
    follows(primary)


def _is_online(primary: Any, port: int) -> bool:
    told = primary.info("replication").values()
    return any((each["port"], each["state"]) == (port, "online") for each in told if isinstance(each, dict))


def follows(redis: Redis) -> None:
    def in_step() -> bool:
        try:
            return redis.info("replication").get("master_link_status") == "up"
        except RedisError:
            return False

    wait_until(in_step, what=lambda: f"the replica is in step: {redis.info('replication')}")


def answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False
