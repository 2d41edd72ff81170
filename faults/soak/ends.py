"""Which ends of a process the soak itself brought about; any other is unexplained."""

import math
import signal
import time
from collections.abc import Callable, Iterable

# Ended by us, or by a failpoint; 71 and 0: by themselves because their parent or we said so.
ALWAYS = frozenset({0, 71, -signal.SIGKILL, -signal.SIGTERM})
# A consumer's group vanishes with the broker's data, which is fatal to its client: it ends, and is started again.
EXIT_FATAL = 70
FATAL_AFTER_LOSS_SEC = 45.0
# granian ends when a worker dies within 5.5 s of the moment it started it anew (granian/server/common.py). Two kills of
# the soak can do that; whoever runs the server starts it again, as docker-compose.yml does.
EXIT_CRASH_LOOP = 1
CRASH_LOOP = "Worker crash loop detected"
CRASH_LOOP_AFTER_KILL_SEC = 10.0


class ExpectedEnds:
    """Is told what the soak does, and asked about each process that ended. `clock` monotonic, in seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kafka_lost_at = -math.inf
        self._workers_die_until: dict[str, float] = {}

    def kafka_lost(self) -> None:
        self._kafka_lost_at = self._clock()

    def workers_die(self, names: Iterable[str]) -> None:
        """From now on, until `workers_die_no_more`: a failpoint of these web servers is armed."""
        self._workers_die_until.update(dict.fromkeys(names, math.inf))

    def workers_die_no_more(self, names: Iterable[str]) -> None:
        self._workers_die_until.update(dict.fromkeys(names, self._clock() + CRASH_LOOP_AFTER_KILL_SEC))

    def worker_killed(self, name: str) -> None:
        until = self._clock() + CRASH_LOOP_AFTER_KILL_SEC
        self._workers_die_until[name] = max(until, self._workers_die_until.get(name, -math.inf))

    def explain(self, name: str, exit_code: int, output: Callable[[], str]) -> bool:
        """`output`: all that the process wrote, asked for only when it decides."""
        now = self._clock()
        if exit_code in ALWAYS:
            return True
        if exit_code == EXIT_FATAL and name.startswith("consumer"):
            return now - self._kafka_lost_at < FATAL_AFTER_LOSS_SEC
        if exit_code == EXIT_CRASH_LOOP and now < self._workers_die_until.get(name, -math.inf):
            return CRASH_LOOP in output()
        return False
