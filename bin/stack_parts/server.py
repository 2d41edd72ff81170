"""The base class of the three servers: start and wait until it answers, stop, kill, pause, resume."""

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
    """A server's start command. `cwd` lets its settings name files without the checkout's path."""

    words: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)


class PortLost(Exception):
    """The server ended because another program listens on its port: choose another port and try again."""


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
        """An argument of the server's command line that is unique to this stack."""
        return str(self.home.data(self.name))

    @abc.abstractmethod
    def needs(self) -> list[packages.Need]:
        """The programs that the server needs."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Prepares the data folder and settings. May be called again."""

    @abc.abstractmethod
    def command(self) -> Command: ...

    @abc.abstractmethod
    def answers(self) -> bool:
        """Whether the server answers a request with a time-out."""

    def finish_start(self) -> None:  # noqa: B027  most have nothing to do
        """Runs once the server answers, before the start counts as done."""

    def record(self) -> processes.ProcessRecord | None:
        """The record of the running server; None when it does not run."""
        record = processes.load(self.home.record_file(self.name))
        if record is not None and processes.is_ours(record):
            return record
        if not self.home.data(self.name).exists():
            return None
        # its starter may have been killed before it stored the record; a second server would corrupt the data
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
        """Starts the server and waits until it answers. Resumes a paused one and leaves a running one alone."""
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
        record = processes.record_process(process.pid, marker=self.marker)
        if record is not None:
            processes.save(self.home.record_file(self.name), record)
        try:
            self._wait_until_it_answers(process.pid, process)
            self.finish_start()
        except BaseException:
            processes.wait_gone(processes.kill_tree(process.pid), timeout_sec=5)
            process.wait()
            raise
        processes.detach(process)

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
        """Stops the server cleanly, even a paused one. Returns False when it was not running."""
        if not self.home.root.exists():
            return False
        with self.home.lock(self.name):
            record = self.record()
            if record is None:
                return False
            tree = [record.pid, *processes.children_of(record.pid)]
            # the signal goes first: a paused server then ends before it executes queued commands of clients
            processes.send([record.pid], self.stop_signal)
            processes.thaw(record.pid)
            if not processes.wait_gone(tree, timeout_sec=settings.STOP_DEADLINE_SEC[self.name]):
                print(f"{self.name}: did not stop in time and was killed")
                processes.wait_gone(processes.kill_tree(record.pid), timeout_sec=10)
            self.home.record_file(self.name).unlink(missing_ok=True)
            return True

    def kill(self) -> None:
        """Kills the server and all its children at once, as if they had lost power."""
        tree = processes.kill_tree(self._running("kill").pid)
        if not processes.wait_gone(tree, timeout_sec=10):
            raise StackError(f"{self.name}: still there 10 s after SIGKILL (pids {tree})")
        self.home.record_file(self.name).unlink(missing_ok=True)

    def pause(self) -> None:
        """Makes the server and its children hang: connections stay open, but no answers come."""
        frozen = processes.freeze(self._running("pause").pid)
        if not processes.wait_frozen(frozen, timeout_sec=_FROZEN_SEC):
            raise StackError(
                f"{self.name} did not pause within {_FROZEN_SEC:.0f} s; `bin/stack resume {self.name}` continues it"
            )

    def resume(self) -> None:
        processes.thaw(self._running("resume").pid)

    def wipe(self) -> None:
        """Removes the server's data; its next start begins empty."""
        with self.home.lock(self.name):
            if self.record() is not None:
                raise StackError(f"{self.name} is running; `bin/stack stop {self.name}` (or kill) first")
            self.home.remove_data(self.name)

    def _running(self, verb: str) -> processes.ProcessRecord:
        record = self.record()
        if record is None:
            raise StackError(f"{self.name} is not running, nothing to {verb}")
        return record
