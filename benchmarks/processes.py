"""What the processes of one session take: a service and all that it started. Other programs on the machine change none
of it. And what the whole machine does."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_sec(session: int) -> float:
    """CPU time so far."""
    return sum(int(stat[11]) + int(stat[12]) for _, stat in _processes(session)) / CLOCK_TICKS


def machine_cpu_sec() -> float:
    """CPU time so far of all programs and the kernel; not of other guests of the host."""
    user, nice, system, _idle, _waiting, irq, softirq = map(int, Path("/proc/stat").read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + irq + softirq) / CLOCK_TICKS


def pss_mib(session: int) -> float:
    """Memory: the proportional set size, in which what several processes share counts once."""
    return sum(_number(folder / "smaps_rollup", "Pss") for folder, _ in _processes(session)) / 1024


def most_threads(session: int) -> int:
    """The number of threads of the process that has the most."""
    return max(_number(folder / "status", "Threads") for folder, _ in _processes(session))


def end_session(session: int) -> None:
    """SIGKILL to all of them that still run."""
    for folder, _ in _processes(session):
        try:
            os.kill(int(folder.name), signal.SIGKILL)
        except ProcessLookupError:  # it has just ended
            continue


@contextmanager
def first_served() -> Iterator[bool]:
    """This program, the client, before all others here, as on a machine of its own; False where that is not allowed.

    Else the server, which takes all the CPU time it can get, makes the client send late and read late.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    except PermissionError:
        yield False
        return
    try:
        yield True
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, 0)


def _processes(session: int) -> Iterator[tuple[Path, list[str]]]:
    """The folder in /proc of each of them, and what its stat says after the name."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(") ")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[3]) == session:
            yield folder, fields


def _number(file: Path, name: str) -> int:
    try:
        found = re.search(rf"^{name}:\s+(\d+)", file.read_text(), re.MULTILINE)
    except OSError:  # it has just ended
        return 0
    return int(found[1]) if found else 0
