"""A program of the service under test."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """A program of the service, its output in a file."""

    def __init__(self, name: str, command: Sequence[str], environment: dict[str, str]) -> None:
        self.name = name
        self._log = tempfile.NamedTemporaryFile(prefix=f"{name}-", suffix=".log", delete=False)  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    @property
    def partitions(self) -> set[int]:
        """What a consumer process has been assigned and not revoked since, by its log lines."""
        owned: set[int] = set()
        for what, text in re.findall(r"consumer\.(assigned|revoked) partitions=([\d,]+)", self.output):
            numbers = {int(number) for number in text.split(",")}
            owned = owned | numbers if what == "assigned" else owned - numbers
        return owned

    def says(self, text: str, *, times: int = 1, within_sec: float = 30.0) -> None:
        """Waits until it has said so, so often since its start."""
        wait_until(
            lambda: self.output.count(text) >= times,
            within_sec=within_sec,
            what=lambda: f"{self.name} says {text!r}:\n{self.output}",
        )

    def has_said(self, text: str) -> int:
        """How often."""
        return self.output.count(text)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.signal(signal.SIGKILL)
        self._process.wait(10)

    def wait(self, *, within_sec: float = 30.0) -> int:
        return self._process.wait(within_sec)

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        if self.exit_code is None:
            self.signal(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end on SIGTERM:\n{self.output}") from None

    def _stacks(self) -> str:
        """Where each process of its group hangs."""
        members = subprocess.run(["pgrep", "-g", str(self.pid)], capture_output=True, text=True, check=False)
        dumps = [
            [str(Path(sys.executable).with_name("py-spy")), "dump", "--native", "--pid", pid]
            for pid in members.stdout.split()
        ]
        done = [subprocess.run(dump, capture_output=True, text=True, timeout=30, check=False) for dump in dumps]
        return "\n".join(each.stdout + each.stderr for each in done)

    def ask_to_end(self) -> None:
        """It and all that it has started; also who stands still."""
        if self.exit_code is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGCONT)
                os.killpg(self.pid, signal.SIGTERM)

    def close(self) -> None:
        try:
            self.wait(within_sec=12)
        except subprocess.TimeoutExpired:
            print(self._stacks())
            with suppress(subprocess.TimeoutExpired):
                self.wait(within_sec=3)
            self._process.kill()
            self._process.wait(10)
        # Captured by pytest, which shows it when the test failed.
        print(f"--- {self.name}, exit code {self.exit_code} ---\n{self.output[-8_000:]}")
        self._log.close()
        Path(self._log.name).unlink()
