"""What the three servers have in common: start until it answers, stop, kill, pause, resume."""

from __future__ import annotations

import abc
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import packages, ports, processes, settings
from .errors import StackError
from .home import Home

_FROZEN_SEC = 10.0
_TRIES = 3


@dataclass(frozen=True)
class Command:
    """How a server is started. `cwd` lets its settings name files without the checkout's path in them."""

    words: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)


class PortLost(Exception):
    """The server ended because somebody else listens on its port: choose another one, try again."""


class Server(abc.ABC):
    """One server of a stack."""

    name: str
    program: str
    """The file name of the running program, for finding one whose record was lost."""
    port_names: tuple[str, ...]
    stop_signal = signal.SIGTERM

    def __init__(self, home: Home) -> None:
        self.home = home

    @property
    def marker(self) -> str:
        """A word of the server's command line that no other stack's has."""
        return str(self.home.data(self.name))

    @abc.abstractmethod
    def needs(self) -> list[packages.Need]:
        """The programs it needs."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Its data folder and settings are there; safe to do again."""

    @abc.abstractmethod
    def command(self) -> Command: ...

    @abc.abstractmethod
    def answers(self) -> bool:
        """One bounded question to the server."""

    def finish_start(self) -> None:  # noqa: B027  most have nothing to do
        """Called once it answers, before the start counts as done."""

    def record(self) -> processes.ProcessRecord | None:
        """The running server, None when there is none."""
        record = processes.load(self.home.record_file(self.name))
        if record is not None and processes.is_ours(record):
            return record
        if not self.home.data(self.name).exists():
            return None
        # its starter was killed before it could note the pid; a second server on the same data would ruin it
        found = processes.find(program=self.program, marker=self.marker)
        if found is not None:
            processes.save(self.home.record_file(self.name), found)
        return found

    def state(self) -> str:
        """`up`, `paused`, `not answering` or `stopped`."""
        record = self.record()
        if record is None:
            return "stopped"
        if processes.is_stopped(record.pid):
            return "paused"
        return "up" if self.answers() else "not answering"

    def port(self) -> int:
        return self.home.state().ports[self.port_names[0]]

    def start(self) -> None:
        """It answers when this returns; a paused one is resumed, a running one is left as it is."""
        with self.home.lock(self.name):
            record = self.record()
            if record is not None:
                processes.thaw(record.pid)
                self._wait_until_it_answers(record.pid, None)
                self.finish_start()
                return
            for attempt in range(1, _TRIES + 1):
                try:
                    self._start_once()
                    return
                except PortLost:
                    if attempt == _TRIES:
                        raise StackError(f"{self.name}: its port was taken {_TRIES} times; try again") from None

    def _start_once(self) -> None:
        for name in self.port_names:
            if not ports.is_free(self.home.state().ports[name]):
                self.home.move_port(name)
        self.prepare()
        command = self.command()
        process = processes.spawn(command.words, cwd=command.cwd, env=command.env, log=self.home.log_file(self.name))
        # crash here => no record; record() finds the process by its command line
        record = processes.note(process.pid, marker=self.marker)
        if record is not None:
            processes.save(self.home.record_file(self.name), record)
        try:
            self._wait_until_it_answers(process.pid, process)
            self.finish_start()
        except BaseException:
            processes.wait_gone(processes.kill_tree(process.pid), timeout_sec=5)
            process.wait()
            raise
        processes.let_go(process)

    def _wait_until_it_answers(self, pid: int, process: subprocess.Popen[bytes] | None) -> None:
        limit_sec = settings.START_DEADLINE_SEC[self.name]
        deadline = time.monotonic() + limit_sec
        while not self.answers():
            ended = process.poll() is not None if process else processes.start_ticks(pid) is None
            if ended and process and not all(ports.is_free(self.home.state().ports[name]) for name in self.port_names):
                raise PortLost
            if ended:
                raise self.failure("ended right after its start")
            if time.monotonic() > deadline:
                raise self.failure(f"did not answer within {limit_sec} s")
            time.sleep(0.05)

    def failure(self, what: str) -> StackError:
        """An error with the end of the server's log and what to do."""
        return StackError(
            f"{self.name} {what}. The end of its log:\n{self.log_tail(15)}\n"
            f"If its data is at fault: `bin/stack wipe {self.name}`, then `bin/stack start {self.name}`."
        )

    def log_tail(self, lines: int) -> str:
        try:
            text = self.home.log_file(self.name).read_text(errors="replace")
        except FileNotFoundError:
            return "    (no log)"
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])

    def stop(self) -> bool:
        """It ended cleanly, paused or not; False when there was nothing to stop."""
        if not self.home.root.exists():
            return False
        with self.home.lock(self.name):
            record = self.record()
            if record is None:
                return False
            tree = [record.pid, *processes.children_of(record.pid)]
            # the signal first: a paused server then ends before it executes what clients had sent to it
            processes.send([record.pid], self.stop_signal)
            processes.thaw(record.pid)
            if not processes.wait_gone(tree, timeout_sec=settings.STOP_DEADLINE_SEC[self.name]):
                print(f"{self.name}: did not stop in time, killed")
                processes.wait_gone(processes.kill_tree(record.pid), timeout_sec=10)
            self.home.record_file(self.name).unlink(missing_ok=True)
            return True

    def kill(self) -> None:
        """It and all of its children are gone at once, as if the machine had lost power for them alone."""
        tree = processes.kill_tree(self._running("kill").pid)
        if not processes.wait_gone(tree, timeout_sec=10):
            raise StackError(f"{self.name}: still there 10 s after SIGKILL (pids {tree})")
        self.home.record_file(self.name).unlink(missing_ok=True)

    def pause(self) -> None:
        """It and its children hang: connections stay open, nobody answers."""
        frozen = processes.freeze(self._running("pause").pid)
        if not processes.wait_frozen(frozen, timeout_sec=_FROZEN_SEC):
            raise StackError(
                f"{self.name} did not stand still within {_FROZEN_SEC:.0f} s: `bin/stack resume {self.name}`"
            )

    def resume(self) -> None:
        processes.thaw(self._running("resume").pid)

    def wipe(self) -> None:
        """Its data is gone; the next start begins from nothing."""
        with self.home.lock(self.name):
            if self.record() is not None:
                raise StackError(f"{self.name} is running; `bin/stack stop {self.name}` (or kill) first")
            self.home.remove_data(self.name)

    def _running(self, verb: str) -> processes.ProcessRecord:
        record = self.record()
        if record is None:
            raise StackError(f"{self.name} is not running, nothing to {verb}")
        return record
