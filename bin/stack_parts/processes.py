"""Processes that outlive the command that started them, and are never mistaken for somebody else's.

A pid alone proves nothing: it is used again after the process ended. A process is ours when its start time
and the machine's boot are those noted at the start, and its command line still names the stack's folder.
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
    """What was noted when a process was started."""

    pid: int
    started_ticks: int
    boot_id: str
    marker: str


def boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command's name, None when there is no such process."""
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
    """Whether the noted process still runs, and is that one."""
    return (
        record.boot_id == boot_id()
        and start_ticks(record.pid) == record.started_ticks
        and record.marker in command_line(record.pid)
    )


def note(pid: int, *, marker: str) -> ProcessRecord | None:
    """A record of a running process, None when it has ended already."""
    ticks = start_ticks(pid)
    return None if ticks is None else ProcessRecord(pid, ticks, boot_id(), marker)


def find(*, program: str, marker: str) -> ProcessRecord | None:
    """A running process of this program and folder that has no record: its starter was killed meanwhile."""
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        words = command_line(int(entry.name))
        if words and Path(words[0]).name == program and marker in words[1:]:
            return note(int(entry.name), marker=marker)
    return None


def load(path: Path) -> ProcessRecord | None:
    try:
        return ProcessRecord(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def save(path: Path, record: ProcessRecord) -> None:
    write_private(path, json.dumps(asdict(record)) + "\n")


def spawn(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """A process in a session of its own, which no terminal's Ctrl-C or hang-up reaches."""
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


def let_go(process: subprocess.Popen[bytes]) -> None:
    """The process will outlive this one: nobody waits for it, and Popen need not warn that nobody did."""
    process.returncode = 0


def children_of(pid: int) -> list[int]:
    """Every descendant of the process, parents before children."""
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
    """The signal, to each that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def freeze(pid: int) -> list[int]:
    """SIGSTOP to the process and all below it; returns them. The parent first: it starts no more then."""
    send([pid], signal.SIGSTOP)
    below = children_of(pid)
    send(below, signal.SIGSTOP)
    return [pid, *below]


def wait_frozen(pids: Iterable[int], *, timeout_sec: float) -> bool:
    """Whether SIGSTOP holds all of them within the time: on a busy machine a process goes on until it is its turn."""
    deadline = time.monotonic() + timeout_sec
    while not all(_does_nothing(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _does_nothing(pid: int) -> bool:
    """Stopped, or ended: a frozen parent takes no note of a child's end."""
    fields = _stat(pid)
    return fields is None or fields[0] in "TZX"


def thaw(pid: int) -> None:
    """SIGCONT to the process and all below it, the children first: the parent finds them awake."""
    send([*reversed(children_of(pid)), pid], signal.SIGCONT)


def kill_tree(pid: int) -> list[int]:
    """SIGKILL to the process and all below it at once; returns them."""
    tree = freeze(pid)
    send(tree, signal.SIGKILL)
    return tree


def wait_gone(pids: Iterable[int], *, timeout_sec: float) -> bool:
    """Whether all of them ended within the time."""
    watched = {pid: start_ticks(pid) for pid in pids}
    deadline = time.monotonic() + timeout_sec
    while any(ticks is not None and start_ticks(pid) == ticks for pid, ticks in watched.items()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
