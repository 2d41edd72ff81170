"""Manages processes that outlive the command that started them, and never confuses them with other processes.

A pid alone proves nothing, since the system reuses it. A process belongs to the stack when its start time and the boot
id match its record, and its command line still names the stack's folder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .envfile import write_private

_PROC = Path("/proc")
_LOG_LIMIT_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class ProcessRecord:
    """The record of a process from its start."""

    pid: int
    started_ticks: int
    boot_id: str
    marker: str


def boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command's name; None when there is no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when it is gone, a zombie included.

    One whose other threads still end is not gone yet: it holds its ports until the last of them has ended.
    """
    fields = _stat(pid)
    if fields is None or (fields[0] in "ZX" and int(fields[17]) <= 1):
        return None
    return int(fields[19])


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP holds the process."""
    fields = _stat(pid)
    return fields is not None and fields[0] == "T"


def command_line(pid: int) -> list[str]:
    try:
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [os.fsdecode(word) for word in raw.split(b"\0")]


def is_ours(record: ProcessRecord) -> bool:
    """Whether the recorded process still runs and is the same one."""
    return (
        record.boot_id == boot_id()
        and start_ticks(record.pid) == record.started_ticks
        and record.marker in command_line(record.pid)
    )


def record_process(pid: int, *, marker: str) -> ProcessRecord | None:
    """Makes the record of a running process; None when it has already ended."""
    ticks = start_ticks(pid)
    return None if ticks is None else ProcessRecord(pid, ticks, boot_id(), marker)


def find(*, program: str, marker: str) -> ProcessRecord | None:
    """Finds a running process of this program and folder without a record, because its starter was killed."""
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        words = command_line(int(entry.name))
        if words and Path(words[0]).name == program and marker in words[1:]:
            return record_process(int(entry.name), marker=marker)
    return None


def load(path: Path) -> ProcessRecord | None:
    try:
        return ProcessRecord(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def save(path: Path, record: ProcessRecord) -> None:
    write_private(path, json.dumps(asdict(record)) + "\n")


def spawn(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own, which a terminal's Ctrl-C or hang-up does not reach."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def detach(process: subprocess.Popen[bytes]) -> None:
    """Keeps Popen from warning about a process that outlives this one, since no code waits for it."""
    process.returncode = 0


def children_of(pid: int) -> list[int]:
    """All descendants of the process, parents before children."""
    by_parent: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            by_parent.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = by_parent.get(waiting.pop(0), [])
        found += below
        waiting += below
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Sends the signal to each process that still exists."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def freeze(pid: int) -> list[int]:
    """Sends SIGSTOP to the process and its descendants, and returns them. The parent stops first, so that it starts no
    new ones."""
    send([pid], signal.SIGSTOP)
    below = children_of(pid)
    send(below, signal.SIGSTOP)
    return [pid, *below]


def wait_frozen(pids: Iterable[int], *, timeout_sec: float) -> bool:
    """Whether all stop within the time: on a busy machine SIGSTOP takes effect only when a process is scheduled."""
    deadline = time.monotonic() + timeout_sec
    while not all(_does_nothing(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _does_nothing(pid: int) -> bool:
    """Whether the process is stopped or has ended: a stopped parent does not reap its children."""
    fields = _stat(pid)
    return fields is None or fields[0] in "TZX"


def thaw(pid: int) -> None:
    """Sends SIGCONT to the process and its descendants, children first, so that the parent finds them running."""
    send([*reversed(children_of(pid)), pid], signal.SIGCONT)


def kill_tree(pid: int) -> list[int]:
    """Sends SIGKILL to the process and all its descendants at once, and returns them."""
    tree = freeze(pid)
    send(tree, signal.SIGKILL)
    return tree


def wait_gone(pids: Iterable[int], *, timeout_sec: float) -> bool:
    """Whether all of them end within the time."""
    watched = {pid: start_ticks(pid) for pid in pids}
    deadline = time.monotonic() + timeout_sec
    while any(ticks is not None and start_ticks(pid) == ticks for pid, ticks in watched.items()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
