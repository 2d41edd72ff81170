"""Runs the service for the soak: its processes behind proxies. Restarts each process that ends, like a supervisor."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from faults.links import VARIABLES, brokers, server_ports, with_address
from faults.postgres_pair import PostgresPair
from faults.proxy import Proxy
from faults.soak.expected_exits import ExpectedExits
from faults.soak.schedule import CLOCKS
from harness import CHECKOUT, HOST, MANAGE, Service, Services, answers_ok, free_port
from tests.support import faketime

API_KEY = "soak-key"
RESTART_AFTER_SEC = 0.5
WATCH_SEC = 0.2
START_SEC = 60.0
STACK_SEC = 120.0
JOBS_SEC = 120.0
CHILDREN_END_SEC = 45.0  # consumers/child.py allows itself 30 s for its current batch


@dataclass(slots=True)
class Program:
    """One process of the service, and whether it should run now."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    should_run: bool = True
    starts: int = 0
    process_group: int = 0  # that of the previous process, whose children may still be ending
    ended_at: float = 0.0
    running: Service | None = None


class Deployment:
    """A context manager. A thread restarts processes; `unexplained` lists exits that the soak did not cause."""

    def __init__(self, folder: Path, *, topic: str, failpoints: Path, postgres: PostgresPair) -> None:
        self.folder = folder
        self.failpoints = failpoints
        self.unexplained: list[str] = []
        self.postgres = postgres
        self.proxies: dict[str, list[Proxy]] = {}  # of each part; PostgreSQL has two servers
        self.expected_exits = ExpectedExits()
        self._topic = topic
        self._services = Services(log_folder=folder / "log")
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        ports = {"web-1": free_port(), "web-2": free_port()}
        self.addresses = [f"http://{HOST}:{port}" for port in ports.values()]
        consumer = [*MANAGE, "run_coupon_consumer"]
        keeper = [*MANAGE, "run_keeper"]
        web = [str(CHECKOUT / "bin" / "web")]
        self.programs = {
            "web-1": Program("web-1", web, {"WEB_PORT": str(ports["web-1"])}),
            "web-2": Program("web-2", web, {"WEB_PORT": str(ports["web-2"])}),
            "consumer-1": Program("consumer-1", [*consumer, "--concurrency", "2"]),
            "consumer-2": Program("consumer-2", [*consumer, "--solo"]),
            "keeper-1": Program("keeper-1", keeper),
            "keeper-2": Program("keeper-2", keeper),
        }

    def __enter__(self) -> Self:
        for part in VARIABLES:
            ports = self._ports(part)
            self.proxies[part] = [Proxy(HOST, target, listen_port=listen).start() for target, listen in ports]
        for program in self.programs.values():
            self._start(program)
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._thread.start()
        self.wait_until_ready()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()
        self.resume_all()
        self._services.__exit__(None, None, None)
        for proxies in self.proxies.values():
            for proxy in proxies:
                proxy.close()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SEC
        while not all(answers_ok(f"{address}/readyz") for address in self.addresses):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the web servers are not ready after {START_SEC:.0f} s; see {self.folder}/log")
            time.sleep(0.2)

    def address_of(self, name: str) -> str | None:
        """The address of a web server; None for other programs."""
        port = self.programs[name].environment.get("WEB_PORT")
        return f"http://{HOST}:{port}" if port else None

    def kill(self, name: str) -> None:
        """Sends SIGKILL to the process alone; its children have to notice by themselves."""
        self._signal(name, signal.SIGKILL)

    def kill_child(self, name: str) -> None:
        with suppress(ProcessLookupError):
            parent = self._pid(name)
            children = [pid for pid in living_members(parent) if pid != parent]
            if children:
                self.expected_exits.worker_killed(name)
                os.kill(max(children), signal.SIGKILL)

    def pause_child(self, name: str) -> None:
        """Sends SIGSTOP to one of its children; `resume` continues it."""
        with suppress(ProcessLookupError):
            parent = self._pid(name)
            os.kill(max(pid for pid in living_members(parent) if pid != parent), signal.SIGSTOP)

    def step_clock(self, name: str, seconds: float) -> None:
        """Sets the wall clock of a process in CLOCKS, and of its children, to this offset from the true time."""
        if name in CLOCKS:
            faketime.step(self._clock(name), seconds)

    def _clock(self, name: str) -> Path:
        return self.folder / f"clock-{name}"

    def pause(self, name: str) -> None:
        """Sends SIGSTOP to the process and its children."""
        with suppress(ProcessLookupError):
            os.killpg(self._pid(name), signal.SIGSTOP)

    def resume(self, name: str) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._pid(name), signal.SIGCONT)

    def resume_all(self) -> None:
        """Resumes all processes, also those that stopped at a failpoint."""
        for name in self.programs:
            self.resume(name)

    def stop(self, name: str) -> None:
        """Sends SIGTERM; the process stays down until `start_again`."""
        self.programs[name].should_run = False
        self._signal(name, signal.SIGTERM)

    def start_again(self, name: str) -> None:
        self.programs[name].should_run = True

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a management command in the service's environment."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=CHECKOUT,
            env={**os.environ, **self._environment()},
            capture_output=True,
            text=True,
            timeout=JOBS_SEC,
            check=False,
        )

    def stack(self, verb: str, part: str) -> None:
        """Runs `bin/stack VERB PART`; for PostgreSQL, on the primary."""
        if verb == "wipe":
            self.expected_exits.kafka_lost()
        command = [str(CHECKOUT / "bin" / "stack"), verb, part]
        home = str(self.postgres.primary.home.root) if part == "postgres" else os.environ["STACK_HOME"]
        done = subprocess.run(
            command,
            cwd=CHECKOUT,
            env={**os.environ, "STACK_HOME": home},
            check=False,
            capture_output=True,
            text=True,
            timeout=STACK_SEC,
        )
        if done.returncode != 0:
            raise RuntimeError(f"bin/stack {verb} {part}: exit code {done.returncode}\n{done.stdout}{done.stderr}")

    def _ports(self, part: str) -> list[tuple[int, int]]:
        """The port of each server of the part, and that of its proxy; 0 = any port."""
        if part == "postgres":
            return [(port, 0) for port in self.postgres.ports]
        if part == "kafka" and len(brokers()) > 1:
            return []  # three brokers have no proxied addresses
        return [server_ports(part)]

    def _environment(self) -> dict[str, str]:
        own = {name: os.environ[name] for name in VARIABLES.values()}
        through = {
            VARIABLES[part]: with_address(own[VARIABLES[part]], ",".join(proxy.address for proxy in proxies))
            for part, proxies in self.proxies.items()
            if proxies
        }
        return {
            **own,
            **through,
            "COUPON_API_KEYS": API_KEY,
            "COUPON_TOPIC": self._topic,
            "COUPON_CONSUMER_GROUP": self._topic,
            "COUPON_FAILPOINTS": str(self.failpoints),
            "COUPON_METRICS_DIR": "",
            "COUPON_LOG_LEVEL": "INFO",
        }

    def _start(self, program: Program) -> None:
        program.starts += 1
        clock = faketime.environment(self._clock(program.name)) if program.name in CLOCKS else {}
        environment = {**self._environment(), **program.environment, **clock}
        program.running = self._services.start(f"{program.name}.{program.starts:03}", program.command, environment)

    def _supervise(self) -> None:
        while not self._stopped.wait(WATCH_SEC):
            with self._lock:
                for program in self.programs.values():
                    self._restart_if_ended(program)

    def _restart_if_ended(self, program: Program) -> None:
        ended = program.running is not None and program.running.process.poll() is not None
        if ended and program.running is not None:
            code = program.running.process.returncode
            log = program.running.log
            if not self.expected_exits.explain(program.name, code, lambda: log.read_text(errors="replace")):
                self.unexplained.append(f"{program.name} exited by itself with code {code}: {log}")
            program.process_group, program.ended_at = program.running.process.pid, time.monotonic()
            program.running = None
        if program.running is None and program.should_run and self._has_ended(program):
            self._start(program)

    def _has_ended(self, program: Program) -> bool:
        """Whether the process and all its children have ended. Children of a killed parent must end by themselves."""
        waited_sec = time.monotonic() - program.ended_at
        if waited_sec < RESTART_AFTER_SEC:
            return False
        left = living_members(program.process_group)
        if left and waited_sec > CHILDREN_END_SEC:
            self.unexplained.append(f"children of {program.name} did not end after it: {left}")
            with suppress(ProcessLookupError):
                os.killpg(program.process_group, signal.SIGKILL)
        return not left

    def _signal(self, name: str, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid(name), number)

    def _pid(self, name: str) -> int:
        running = self.programs[name].running
        if running is None:
            raise ProcessLookupError(name)
        return running.process.pid


def living_members(group: int) -> list[int]:
    """The running processes of a process group, without zombies."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, of_group = stat.read_text().rpartition(") ")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                found.append(int(stat.parent.name))
    return found
