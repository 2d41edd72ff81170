"""What a test does to the processes of its service from outside: failpoints armed in a folder that they all look at."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

from coupons import failpoints
from tests.support.waiting import wait_until


class Injection:
    """A part of `Service`; the points and actions are those of coupons/failpoints.py."""

    def __init__(self) -> None:
        self.failpoints = Path(tempfile.mkdtemp(prefix="failpoints-"))

    @property
    def injection_environment(self) -> dict[str, str]:
        return {"COUPON_FAILPOINTS": str(self.failpoints)}

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
        """Nobody dies any more, and who stopped goes on and may end."""
        for point in failpoints.POINTS:
            failpoints.disarm(self.failpoints, point)
            pid = failpoints.done_by(self.failpoints, point)
            if pid is not None and self._is_ours(pid):
                os.kill(pid, signal.SIGCONT)

    def remove_injection(self) -> None:
        shutil.rmtree(self.failpoints)

    def _is_ours(self, pid: int) -> bool:
        """Another program may have the number by now."""
        try:
            return str(self.failpoints).encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False
