"""Load by wrk, in C: a tenth of what our own client takes for a request, so it can measure what refuses in 30 us.

python -m benchmarks.wrk_load --host 10.0.0.5 --port 8000 --campaign ID    # from a second machine
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.arguments import positive
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


@dataclass(frozen=True, slots=True)
class Aim:
    """Where requests go, and with which bearers: one of them is everybody's."""

    port: int
    path: str
    bearers: Sequence[str]
    host: str = HOST


def load(aim: Aim, *, users: str, seconds: float, connections: int = CONNECTIONS, threads: int = 1) -> Loaded:
    """`users` begins the ids of users that nobody else has. wrk counts whole seconds. Raises ServiceFailed."""
    if shutil.which("wrk") is None:
        raise ServiceFailed(
            "wrk is missing: `bin/stack packages benchmarks` installs it (Debian: apt-get install wrk)."
        )
    with tempfile.NamedTemporaryFile("w", suffix=".bearers") as file:
        file.write("".join(f"{bearer}\n" for bearer in aim.bearers))
        file.flush()
        command = ["wrk", "--threads", str(threads), "--connections", str(connections), "--duration", f"{seconds:.0f}s"]
        command += ["--timeout", "10s", "--script", str(SCRIPT), f"http://{aim.host}:{aim.port}", "--"]
        command += [aim.path, users, file.name]
        before = os.times()
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        after = os.times()
    if ran.returncode != 0:
        raise ServiceFailed(f"wrk: {ran.stderr or ran.stdout}")
    found = json.loads(ran.stdout.strip().splitlines()[-1])
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Loaded(**found, client_cpu_us=cpu * 1e6 / max(found["requests"], 1))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="wrk_load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--host", default=HOST, help="of the web server (default %(default)s)")
    add("--port", type=positive, default=8000, help="(default %(default)s)")
    add("--campaign", required=True, help="its id")
    add("--key", default=os.environ.get("COUPON_API_KEYS", "").split(",")[0], help="default: COUPON_API_KEYS's first")
    add("--users", default="wrk-", help="how their ids begin (default %(default)s)")
    add("--seconds", type=positive, default=10, help="(default %(default)s)")
    add("--connections", type=positive, default=CONNECTIONS, help="(default %(default)s)")
    add("--threads", type=positive, default=1, help="of wrk, one a core of the client (default %(default)s)")
    options = parser.parse_args(arguments)
    aim = Aim(options.port, f"/api/v1/campaigns/{options.campaign}/apply", [options.key], options.host)
    try:
        found = load(
            aim,
            users=options.users,
            seconds=options.seconds,
            connections=options.connections,
            threads=options.threads,
        )
    except ServiceFailed as error:
        print(f"wrk_load: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"per_sec": found.per_sec, **asdict(found)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
