"""Decides whether the soak itself caused the exit of a process; any other exit is unexplained."""

import math
import signal
import time
from collections.abc import Callable

# The soak or a failpoint ended the process; 0: it was asked to stop, 71: its parent is gone.
ALWAYS = frozenset({0, 71, -signal.SIGKILL, -signal.SIGTERM})
# A consumer's group vanishes with the broker's data, which is fatal to its client. The consumer exits and is restarted.
EXIT_FATAL = 70
FATAL_AFTER_LOSS_SEC = 45.0
# granian exits when a worker dies within 5.5 s of its restart (granian/server/common.py). Two kills of the soak can
# cause that. A supervisor restarts the server, as docker-compose.yml does.
EXIT_CRASH_LOOP = 1
CRASH_LOOP = "Worker crash loop detected"
CRASH_LOOP_AFTER_KILL_SEC = 10.0


class ExpectedExits:
    """Records injected faults, and decides which exits they explain. `clock` is monotonic, in seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kafka_lost_at = -math.inf
        self._armed: set[str] = set()
        self._disarmed_at = -math.inf
        self._killed_at: dict[str, float] = {}

    def kafka_lost(self) -> None:
        self._kafka_lost_at = self._clock()

    def armed(self, point: str) -> None:
        """From now until it is disarmed, this failpoint kills each process that reaches it."""
        if point.startswith(("web.", "redemption.")):
            self._armed.add(point)

    def disarmed(self, point: str) -> None:
        if point in self._armed:
            self._armed.remove(point)
            self._disarmed_at = self._clock()

    def worker_killed(self, name: str) -> None:
        self._killed_at[name] = self._clock()

    def explain(self, name: str, exit_code: int, output: Callable[[], str]) -> bool:
        """Whether this exit is expected. `output` reads the process's log; it is called only when it decides."""
        now = self._clock()
        if exit_code in ALWAYS:
            return True
        if exit_code == EXIT_FATAL and name.startswith("consumer"):
            return now - self._kafka_lost_at < FATAL_AFTER_LOSS_SEC
        if exit_code == EXIT_CRASH_LOOP and name.startswith("web"):
            last_death = now if self._armed else max(self._disarmed_at, self._killed_at.get(name, -math.inf))
            return now - last_death < CRASH_LOOP_AFTER_KILL_SEC and CRASH_LOOP in output()
        return False
