"""What a test does to its service from outside: failpoints in its processes, proxies before its servers."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

from coupons.runtime.failpoints import POINTS
from faults import failpoints
from faults.links import VARIABLES, server_ports, with_address
from faults.proxy import LOOPBACK, Proxy
from tests.support.waiting import wait_until


class Injection:
    """A part of `Service`; the points and actions are those of coupons/runtime/failpoints.py."""

    def __init__(self) -> None:
        self.failpoints = Path(tempfile.mkdtemp(prefix="failpoints-"))
        self._proxies: dict[str, Proxy] = {}

    def through_proxies(self, environment: dict[str, str]) -> dict[str, str]:
        """The environment with the failpoints' folder, and with each server that has a proxy at the proxy's address."""
        addresses = {
            variable: with_address(environment[variable], self._proxies[part].address)
            for part, variable in VARIABLES.items()
            if part in self._proxies
        }
        return {**environment, **addresses, "COUPON_FAILPOINTS": str(self.failpoints)}

    def proxy(self, part: str) -> Proxy:
        """The proxy before "redis", "kafka" or "postgres". The first call starts it, for processes that start later.

        This process's own clients never use it.
        """
        if part not in self._proxies:
            target, listen = server_ports(part)
            self._proxies[part] = Proxy(LOOPBACK, target, listen_port=listen).start()
        return self._proxies[part]

    def arm(self, point: str, action: str) -> None:
        """The next process of the service that passes the point does it, also one that runs already."""
        failpoints.arm(self.failpoints, point, action)

    def disarm(self, point: str) -> bool:
        """False when it had happened already."""
        return failpoints.disarm(self.failpoints, point)

    def has_happened(self, point: str) -> bool:
        """Whether what was armed last was done."""
        return failpoints.done_by(self.failpoints, point) is not None

    def wait_for(self, point: str, *, within_sec: float = 30.0) -> int:
        """Until it was done; the pid of the process that did it."""
        return wait_until(
            lambda: failpoints.done_by(self.failpoints, point),
            within_sec=within_sec,
            what=f"failpoint {point} is reached",
        )

    def resume(self, point: str) -> None:
        """SIGCONT to the process that stopped there."""
        os.kill(self.wait_for(point), signal.SIGCONT)

    def close_injection(self) -> None:
        """Every link is well, nobody dies any more, and who stopped goes on and may end."""
        for proxy in self._proxies.values():
            proxy.let_pass()
        for point in POINTS:
            failpoints.disarm(self.failpoints, point)
            pid = failpoints.done_by(self.failpoints, point)
            if pid is not None and self._is_ours(pid):
                os.kill(pid, signal.SIGCONT)

    def remove_injection(self) -> None:
        for proxy in self._proxies.values():
            proxy.close()
        shutil.rmtree(self.failpoints)

    def _is_ours(self, pid: int) -> bool:
        """Another program may have the number by now."""
        try:
            return str(self.failpoints).encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False
