"""Shared by the demo, the benchmarks, the faults and the tests: finds free ports, runs the product's parts as real
processes with log files, always ends them, and measures their CPU time and memory."""

import itertools
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import urllib3

CHECKOUT = Path(__file__).resolve().parent
MANAGE = [sys.executable, str(CHECKOUT / "manage.py")]
HOST = "127.0.0.1"
STOP_SEC = 15.0
TAIL_LINES = 20
POLL_SEC = 0.05
FIRST_PORT, PORTS = 10_000, 10_000
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class ServiceFailed(Exception):
    """A process ended, or did not become ready in time. The text has the end of its log."""


class Service:
    """One process in a session of its own, so that the terminal's Ctrl-C reaches only the program that started it."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path = CHECKOUT
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raises ServiceFailed when the process has ended."""
        exit_code = self.process.poll()
        if exit_code is not None:
            raise ServiceFailed(f"{self.name} ended with exit code {exit_code}.\n{self.tail()}")

    def tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join([f"The end of {self.log}:", *(f"  | {line}" for line in lines)])

    def has_logged(self, text: str) -> bool:
        return text in self.log.read_text(errors="replace")


class Services:
    """A context manager that starts processes and ends them all: SIGTERM, a wait, then SIGKILL."""

    def __init__(self, *, log_folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._log_folder = log_folder
        self.environment = dict(environment or {})
        self._running: list[Service] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with without_interrupts():
            self.stop(*self._running)

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        folder: Path = CHECKOUT,
    ) -> Service:
        log = self._log_folder / f"{name}.log"
        service = Service(name, command, log, {**self.environment, **(environment or {})}, folder)
        self._running.append(service)
        return service

    def check(self) -> None:
        for service in self._running:
            service.check()

    def wait(self, what: str, condition: Callable[[], bool], *, deadline_sec: float, service: Service) -> None:
        """Waits until the condition holds. Raises ServiceFailed when a process ends or the deadline passes."""
        deadline = time.monotonic() + deadline_sec
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise ServiceFailed(f"{what}: not within {deadline_sec:.0f} s.\n{service.tail()}")
            time.sleep(POLL_SEC)

    def stop(self, *services: Service) -> None:
        """Ends these services concurrently, with the processes that they have started."""
        for service in services:
            if service.process.poll() is None:
                service.process.terminate()
        deadline = time.monotonic() + STOP_SEC
        for service in services:
            try:
                service.process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                os.killpg(service.process.pid, signal.SIGKILL)
                service.process.wait()
        self._running = [service for service in self._running if service not in services]


def manage(*arguments: str, checkout: Path = CHECKOUT, environment: Mapping[str, str] | None = None) -> str:
    """Runs a command of manage.py and returns its output. Raises ServiceFailed unless it exits with 0."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=checkout,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        text = f"{done.stdout}{done.stderr}".rstrip()
        raise ServiceFailed(f"manage.py {arguments[0]} exited with {done.returncode}.\n{text}")
    return done.stdout.strip()


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Ignores Ctrl-C: a second one must not stop a clean-up half-way."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def answers_ok(url: str) -> bool:
    """Whether a GET of the URL is answered with 200 now."""
    try:
        return urllib3.request("GET", url, timeout=3, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Finds a free port that is unlikely to be taken before the caller's program listens on it.

    The range lies below the ephemeral ports, and each process begins its search at a place of its own: two web servers
    on one port would not fail, but share its connections (SO_REUSEPORT).
    """
    for number in itertools.islice(_numbers, PORTS):
        if is_free(port := FIRST_PORT + number % PORTS):
            return port
    raise ServiceFailed(f"no free port between {FIRST_PORT} and {FIRST_PORT + PORTS - 1}")


_numbers = itertools.count(os.getpid() * 1_009)  # processes with adjacent pids begin far apart


def log_folder() -> Path:
    """The log folder beside the stack's settings file, which the servers also use."""
    named = os.environ.get("COUPON_ENV_FILE")
    return (Path(named).resolve().parent if named else CHECKOUT / ".stack") / "log"


def cpu_sec(session: int) -> float:
    """The CPU time so far of all processes of a session: a service and the processes that it started."""
    return sum(int(stat[11]) + int(stat[12]) for _, stat in _processes(session)) / CLOCK_TICKS


def pss_mib(session: int) -> float:
    """The memory of a session as proportional set size, which counts shared pages once."""
    return sum(_number(folder / "smaps_rollup", "Pss") for folder, _ in _processes(session)) / 1024


def peak_mib(pid: int) -> float:
    """The highest memory so far of a running process, from the kernel. ru_maxrss is no use: a child inherits it from
    the process that started it."""
    return _number(Path(f"/proc/{pid}/status"), "VmHWM") / 1024


def max_threads(session: int) -> int:
    """The highest number of threads of a process in the session."""
    return max(_number(folder / "status", "Threads") for folder, _ in _processes(session))


def _processes(session: int) -> Iterator[tuple[Path, list[str]]]:
    """The folder in /proc of each process of the session, and the fields of its stat after the name."""
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


def describe_machine() -> dict[str, Any]:
    """Describes the hardware and its load, without any server."""
    memory_kib = int(Path("/proc/meminfo").read_text().split(maxsplit=2)[1])
    return {
        "cpus": os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_gib": round(memory_kib / 1024**2, 1),
        "kernel": platform.release(),
        "load_average_at_start": os.getloadavg(),
    }


def _cpu_model() -> str:
    names = (
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    )
    return next(names, platform.machine())


@contextmanager
def unlimited_waits() -> Iterator[None]:
    """Lifts the product's limit of waits for PostgreSQL, in all threads: for COPY, which psycopg2 refuses with a wait
    callback, and for statements that take minutes."""
    # Not above: most of what imports this module needs no database.
    from psycopg2.extensions import set_wait_callback

    from coupons.runtime.db_timeouts import limit_waits

    set_wait_callback(None)
    try:
        yield
    finally:
        limit_waits()
