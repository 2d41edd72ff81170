"""Generates load with wrk (closed loops) and vegeta (open loops). Each request is for a new user.

In a closed loop a connection sends its next request after the last answer, so a slow server gets fewer requests. In an
open loop requests are due at fixed times whatever the server does, and a user's wait counts from that time. Otherwise a
client that sent late, since the machine had no core for it, would report too short waits (coordinated omission).
"""

import base64
import csv
import json
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import percentile
from harness import CHECKOUT, HOST, ServiceFailed, Services

APPLY, POSTS = Path(__file__).parent / "apply.lua", Path(__file__).parent / "posts.lua"
VEGETA = CHECKOUT / ".stack" / "tools" / "vegeta"
MAX_WORKERS = 10_000
"""The limit of vegeta's workers. It starts another one while all of them wait, so no request waits for a connection."""
TARGETS_PER_SEC = 10_000
"""How many prepared requests a closed loop gets for each second."""
SPARE_TARGETS = 10
"""vegeta reads one target more than it should send, and counts a missing one as a request without an answer."""
LOOK_SEC = 0.1


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of applications and their bearer tokens; a single token serves all users."""

    port: int
    path: str
    bearers: Sequence[str]


@dataclass(frozen=True, slots=True)
class ClosedLoopResult:
    """The result of wrk. `refused` counts answers of 400 and above; `waits` has p50_ms, p99_ms and max_ms.
    `client_share` is wrk's share of one core; at 1 wrk itself would be the limit."""

    requests: int
    seconds: float
    refused: int
    broken: int
    waits: dict[str, float]
    client_share: float


@dataclass(frozen=True, slots=True)
class OpenLoopResult:
    """The result of vegeta. `waits_ms` has the users' waits by outcome: a status, or "no answer: REASON".

    `late_ms` has the delay of each request after its due time. `peak` is the highest value that `watch` returned.
    """

    seconds: float
    waits_ms: dict[str, list[float]]
    late_ms: list[float]
    client_share: float = 0.0
    peak: float = 0.0

    @property
    def outcomes(self) -> dict[str, int]:
        return {outcome: len(waits) for outcome, waits in sorted(self.waits_ms.items())}

    def per_sec(self, outcome: str) -> float:
        return len(self.waits_ms.get(outcome, [])) / self.seconds

    def spread(self, outcome: str) -> dict[str, float]:
        """The percentiles of an outcome's waits; empty without such an outcome."""
        waits = self.waits_ms.get(outcome, [])
        return {"p50": percentile(waits, 50), "p99": percentile(waits, 99), "max": max(waits)} if waits else {}


def run_closed_loop(endpoint: Endpoint, *, users: str, seconds: float, connections: int) -> ClosedLoopResult:
    """Runs wrk. `users` is a prefix of user ids that no other run uses. wrk counts whole seconds. Raises
    ServiceFailed."""
    with tempfile.NamedTemporaryFile("w", suffix=".bearers") as file:
        file.write("".join(f"{bearer}\n" for bearer in endpoint.bearers))
        file.flush()
        return _run_wrk(APPLY, endpoint, [users, file.name], seconds=seconds, connections=connections)


@contextmanager
def running_closed_loop(endpoint: Endpoint, *, users: str, connections: int) -> Iterator[None]:
    """Runs wrk meanwhile, for a minute at most. Raises ServiceFailed if it has ended before the block."""
    with (
        tempfile.NamedTemporaryFile("w", suffix=".bearers") as file,
        tempfile.TemporaryDirectory() as folder,
        Services(log_folder=Path(folder)) as services,
    ):
        file.write("".join(f"{bearer}\n" for bearer in endpoint.bearers))
        file.flush()
        command = _wrk(APPLY, endpoint, [users, file.name], seconds=60, connections=connections)
        service = services.start("wrk", command)
        yield
        if service.process.poll() is not None:
            raise ServiceFailed(service.tail())


def post_bodies(endpoint: Endpoint, bodies: Sequence[str], *, seconds: float, connections: int) -> ClosedLoopResult:
    """Runs wrk with these bodies, each of which should be sent once: it begins again when there are too few. Raises
    ServiceFailed."""
    with tempfile.NamedTemporaryFile("w", suffix=".bodies") as file:
        file.write("".join(f"{body}\n" for body in bodies))
        file.flush()
        arguments = [endpoint.bearers[0], file.name]
        return _run_wrk(POSTS, endpoint, arguments, seconds=seconds, connections=connections)


def _run_wrk(
    script: Path, endpoint: Endpoint, arguments: list[str], *, seconds: float, connections: int
) -> ClosedLoopResult:
    output, cpu_sec, _ = _run(_wrk(script, endpoint, arguments, seconds=seconds, connections=connections))
    found = json.loads(output.strip().splitlines()[-1])
    return ClosedLoopResult(**found, client_share=cpu_sec / found["seconds"])


def _wrk(script: Path, endpoint: Endpoint, arguments: list[str], *, seconds: float, connections: int) -> list[str]:
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds:.0f}s"]
    command += ["--timeout", "10s", "--script", str(script), f"http://{HOST}:{endpoint.port}"]
    return [*command, "--", endpoint.path, *arguments]


def run_open_loop(
    endpoint: Endpoint,
    *,
    users: str,
    seconds: float,
    per_sec: float = 0,
    workers: int = 0,
    watch: Callable[[], float] = lambda: 0.0,
) -> OpenLoopResult:
    """Runs vegeta: an open loop of `per_sec` requests a second, or, with `workers` instead, a closed loop on that many
    connections. Unlike wrk it reports each user's wait. Raises ServiceFailed."""
    count = int((per_sec or TARGETS_PER_SEC) * seconds) + SPARE_TARGETS
    with tempfile.TemporaryDirectory() as folder:
        targets, results = Path(folder) / "targets", Path(folder) / "results"
        targets.write_text("".join(_target(endpoint, number, f"{users}{number}") + "\n" for number in range(count)))
        command = [str(VEGETA), "attack", "-format=json", "-lazy", "-timeout=10s", f"-duration={seconds:g}s"]
        command += [f"-rate={per_sec:g}" if per_sec else "-rate=0", f"-max-workers={workers or MAX_WORKERS}"]
        command += [f"-workers={workers}"] if workers else []
        _, cpu_sec, peak = _run([*command, f"-targets={targets}", f"-output={results}"], watch)
        rows, _, _ = _run([str(VEGETA), "encode", "-to=csv", str(results)])
    return read_results(rows, per_sec=per_sec, client_share=cpu_sec / seconds, peak=peak)


def read_results(rows: str, *, per_sec: float, client_share: float = 0.0, peak: float = 0.0) -> OpenLoopResult:
    """Reads vegeta's CSV: send time (ns since 1970), status (0 = none), latency (ns), ..., error, ..., number (from 0).

    In an open loop request n is due n intervals after the first. No request is sent before it is due, so the earliest
    start that the rows allow is the true one.
    """
    found = [(int(row[0]), row[1], int(row[2]), row[5], int(row[8])) for row in csv.reader(rows.splitlines())]
    if not found:
        raise ServiceFailed("vegeta sent nothing.")
    interval_ns = 1e9 / per_sec if per_sec else 0
    began_ns = min(sent - number * interval_ns for sent, _, _, _, number in found)
    waits_ms = defaultdict[str, list[float]](list)
    late_ms = []
    for sent, status, latency, error, number in found:
        late = (sent - began_ns - number * interval_ns) / 1e6 if per_sec else 0.0
        late_ms.append(late)
        waits_ms[status if status != "0" else f"no answer: {error}"].append(late + latency / 1e6)
    ended_ns = max(sent + latency for sent, _, latency, _, _ in found)
    return OpenLoopResult((ended_ns - began_ns) / 1e9, dict(waits_ms), late_ms, client_share, peak)


def _target(endpoint: Endpoint, number: int, user: str) -> str:
    bearer = endpoint.bearers[number % len(endpoint.bearers)]
    headers = {"Authorization": [f"Bearer {bearer}"], "Content-Type": ["application/json"]}
    body = base64.b64encode(json.dumps({"user_id": user}).encode()).decode()
    url = f"http://{HOST}:{endpoint.port}{endpoint.path}"
    return json.dumps({"method": "POST", "url": url, "header": headers, "body": body})


def _run(command: list[str], watch: Callable[[], float] = lambda: 0.0) -> tuple[str, float, float]:
    """Runs a load generator. Returns its output, CPU seconds and the highest value of `watch`. Raises ServiceFailed.

    The process gets a higher CPU priority, as if it had a machine of its own: otherwise a server that uses all cores
    would make the client send late and read late.
    """
    name = Path(command[0]).name
    if shutil.which(command[0]) is None:
        raise ServiceFailed(f"{name} is missing: `bin/stack packages benchmarks` installs it; vegeta needs Go.")
    before, peak = os.times(), watch()
    with tempfile.TemporaryDirectory() as folder, Services(log_folder=Path(folder)) as services:
        service = services.start(name, command)
        with suppress(OSError):  # without the permission it runs with the usual priority
            Path(f"/proc/{service.process.pid}/autogroup").write_text("-10")
        while service.process.poll() is None:
            peak = max(peak, watch())
            time.sleep(LOOK_SEC)
        if service.process.returncode != 0:
            raise ServiceFailed(service.tail())
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return service.log.read_text(), cpu, peak
