"""Three Sentinels that watch the stack's Redis and its replica: for failovers that nobody makes by hand."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError
from stack_parts import packages

from faults.proxy import LOOPBACK
from harness import free_port
from tests.support.waiting import wait_until

SERVICE = "coupons"
COUNT = 3
DOWN_AFTER_MS = 2_000


class Sentinels:
    """A context. `url` is the REDIS_URL of processes that are to ask them for the primary."""

    def __init__(self, primary_port: int) -> None:
        self.ports = [free_port() for _ in range(COUNT)]
        self.url = f"redis+sentinel://{','.join(f'{LOOPBACK}:{port}' for port in self.ports)}/{SERVICE}/0"
        self._clients: list[Any] = [
            Redis(host=LOOPBACK, port=port, socket_timeout=5, decode_responses=True) for port in self.ports
        ]
        self._folder = Path(tempfile.mkdtemp(prefix="sentinels-"))
        self._processes = [self._start(port, primary_port) for port in self.ports]

    def _start(self, port: int, primary_port: int) -> "subprocess.Popen[bytes]":
        folder = self._folder / str(port)
        folder.mkdir()
        lines = [
            f"bind {LOOPBACK}",
            f"port {port}",
            f"dir {folder}",
            f"sentinel monitor {SERVICE} {LOOPBACK} {primary_port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 10000",
        ]
        file = folder / "sentinel.conf"  # which the Sentinel writes anew
        file.write_text("\n".join(lines) + "\n")
        return subprocess.Popen(
            [str(packages.REDIS.find()), str(file), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )

    def __enter__(self) -> Self:
        wait_until(
            lambda: all(self._knows_all(client) for client in self._clients), what="the Sentinels know each other"
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._processes:
            process.kill()
            process.wait(10)
        for client in self._clients:
            client.close()
        shutil.rmtree(self._folder)

    def primary_port(self) -> int:
        _, port = self._clients[0].sentinel_get_master_addr_by_name(SERVICE)
        return int(port)

    def fail_over(self) -> None:
        """As an operator does before an update of the primary. Returns when they name another one."""
        before = self.primary_port()
        self._clients[0].execute_command("SENTINEL", "FAILOVER", SERVICE)
        self.wait_for_another_primary(than=before)

    def wait_for_another_primary(self, *, than: int) -> None:
        wait_until(lambda: self.primary_port() != than, within_sec=40, what="another primary")

    def _knows_all(self, client: Any) -> bool:
        try:
            known = client.sentinel_master(SERVICE)
        except RedisError:
            return False
        return bool((known["num-other-sentinels"], known["num-slaves"]) == (COUNT - 1, 1))
