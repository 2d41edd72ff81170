"""Load by wrk, in C: a tenth of what our own client takes for a request, so it can measure what refuses in 30 us."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.services import HOST, ServiceFailed

SCRIPT = Path(__file__).parent / "wrk" / "apply.lua"
CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Loaded:
    """One closed loop. `refused` counts answers of 400 and above, `client_cpu_us` is wrk's own time for a request."""

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    client_cpu_us: float

    @property
    def per_sec(self) -> float:
        return self.requests / self.seconds


def load(*, port: int, path: str, bearers: Sequence[str], users: str, seconds: float) -> Loaded:
    """`users` begins the ids of users that nobody else has. Raises ServiceFailed."""
    if shutil.which("wrk") is None:
        raise ServiceFailed(
            "wrk is missing: `bin/stack packages benchmarks` installs it (Debian: apt-get install wrk)."
        )
    with tempfile.NamedTemporaryFile("w", suffix=".bearers") as file:
        file.write("".join(f"{bearer}\n" for bearer in bearers))
        file.flush()
        command = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds:.0f}s"]
        command += ["--timeout", "10s", "--script", str(SCRIPT), f"http://{HOST}:{port}", "--", path, users, file.name]
        before = os.times()
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        after = os.times()
    if ran.returncode != 0:
        raise ServiceFailed(f"wrk: {ran.stderr or ran.stdout}")
    found = json.loads(ran.stdout.strip().splitlines()[-1])
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Loaded(**found, client_cpu_us=cpu * 1e6 / max(found["requests"], 1))
