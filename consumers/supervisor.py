"""The parent process of `run_coupon_consumer`: keeps N worker processes running and passes stop signals on to them.

It opens no client, and starts each child as a new program (no fork), so the processes share nothing of librdkafka.
"""

import logging
import signal
import subprocess
import time
from collections.abc import Sequence
from types import FrameType

from consumers.pace import Backoff
from coupons.runtime.signal_event import SignalEvent

logger = logging.getLogger(__name__)
WATCH_SEC = 0.2
# A child that lived this long had a good start: its delays begin anew.
HEALTHY_SEC = 60.0
# After minutes of back-off something is wrong that no new start heals: what supervises the consumer must notice.
MAX_DEATHS = 20


class Child:
    """One worker process, and when it may be started again."""

    def __init__(self, number: int, command: Sequence[str]) -> None:
        self.number = number
        self._command = command
        self._backoff = Backoff(first_sec=0.5, cap_sec=15)
        self.deaths_in_a_row = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.start_at = 0.0
        self._started_at = 0.0
        self._has_run = False

    def start(self) -> None:
        command = [*self._command, "--patient"] if self._has_run else self._command
        # A session of its own: a Ctrl-C of the terminal reaches the parent alone, which passes exactly one stop on.
        self.process = subprocess.Popen(command, start_new_session=True)
        self._started_at = time.monotonic()
        self._has_run = True
        logger.info("supervisor.started child=%d pid=%d", self.number, self.process.pid)

    def record_death(self, exit_code: int) -> None:
        now = time.monotonic()
        if now - self._started_at > HEALTHY_SEC:
            self._backoff.reset()
            self.deaths_in_a_row = 0
        self.deaths_in_a_row += 1
        delay_sec = self._backoff.next_delay_sec()
        self.start_at = now + delay_sec
        self.process = None
        logger.error("supervisor.died child=%d exit=%d again_in=%.1fs", self.number, exit_code, delay_sec)


class Supervisor:
    """Runs `concurrency` children of `command`. A child that exits with one of `final_exit_codes`, or dies `max_deaths`
    times in a row, ends them all. One that is started again gets `--patient`, as its topic was there before.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        concurrency: int,
        final_exit_codes: frozenset[int],
        max_deaths: int = MAX_DEATHS,
    ) -> None:
        self._children = [Child(number, command) for number in range(1, concurrency + 1)]
        self._final_exit_codes = final_exit_codes
        self._max_deaths = max_deaths
        self._stops = 0
        self._passed_on = 0
        self._wake = SignalEvent()

    def run(self) -> int:
        """Runs until a signal or a final exit of a child. Returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        exit_code = 0
        while True:
            exit_code = self._reap() or exit_code  # reaps while it stops, too: the children end one by one
            if exit_code and not self._stops:
                self._stops = 1
            self._pass_on_stops()
            running = [child for child in self._children if child.process is not None]
            if self._stops and not running:
                return exit_code
            for child in self._children:
                if not self._stops and child.process is None and time.monotonic() >= child.start_at:
                    child.start()
            self._wake.wait(WATCH_SEC)
            self._wake.clear()

    def _reap(self) -> int:
        """Collects children that ended. Returns the exit code if it ends the others too, else 0."""
        final = 0
        for child in self._children:
            exit_code = None if child.process is None else child.process.poll()
            if exit_code is None:
                continue
            if self._stops:
                child.process = None
                continue
            child.record_death(exit_code)
            if exit_code in self._final_exit_codes or child.deaths_in_a_row >= self._max_deaths:
                logger.error("supervisor.giving_up child=%d exit=%d", child.number, exit_code)
                final = exit_code if exit_code > 0 else 1
        return final

    def _pass_on_stops(self) -> None:
        """The first stop sends SIGTERM: finish the batch. The second sends SIGKILL: the batch is delivered again."""
        while self._passed_on < min(self._stops, 2):
            number = signal.SIGTERM if self._passed_on == 0 else signal.SIGKILL
            self._passed_on += 1
            logger.info("supervisor.stopping signal=%s", signal.Signals(number).name)
            for child in self._children:
                if child.process is not None:
                    child.process.send_signal(number)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stops += 1
        self._wake.set()
