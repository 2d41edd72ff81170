"""An open loop by vegeta: requests leave at fixed times whatever the server does, each of another user.

Times count from when a request was due, not from when it was sent: a client that is late, since the machine had no core
for it, would else measure itself kindly (coordinated omission). vegeta starts more workers as long as all of them wait,
so nobody waits for a free connection.
"""

import base64
import csv
import json
import os
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import percentile
from benchmarks.services import CHECKOUT, ServiceFailed
from benchmarks.wrk_load import Aim

VEGETA = CHECKOUT / ".stack" / "tools" / "vegeta"
MOST_WORKERS = 4_000
TIMEOUT = "10s"


@dataclass(frozen=True, slots=True)
class Opened:
    """`waits_ms` from when each was due to its answer, `late_ms` how long after it was due it was sent."""

    offered_per_sec: float
    outcomes: dict[str, int]
    waits_ms: list[float]
    late_ms: list[float]
    client_share: float

    def figures(self) -> dict[str, object]:
        spread = {f"p{percent:g}_ms": percentile(self.waits_ms, percent) for percent in (50, 90, 95, 99, 99.9)}
        return {
            "offered_per_sec": self.offered_per_sec,
            **spread,
            "max_ms": max(self.waits_ms),
            "sent_late_p99_ms": percentile(self.late_ms, 99),
            "client_share": self.client_share,
            "outcomes": self.outcomes,
        }


def vegeta() -> str:
    """Its path. Raises ServiceFailed."""
    if not VEGETA.exists():
        raise ServiceFailed("vegeta is missing: `bin/stack packages benchmarks` installs it; that needs Go.")
    return str(VEGETA)


def version() -> str:
    """As bin/stack has installed it: a vegeta that `go install` has made does not know its own."""
    stamp = VEGETA.with_name("vegeta.version")
    return stamp.read_text().strip() if stamp.exists() else "none"


def attack(aim: Aim, *, users: str, per_sec: int, seconds: float) -> Opened:
    """`users` begins the ids of users that nobody else has. Raises ServiceFailed."""
    count = int(per_sec * seconds)
    with tempfile.TemporaryDirectory() as folder:
        targets, results = Path(folder, "targets.json"), Path(folder, "results.bin")
        with targets.open("w") as file:
            file.writelines(_target(aim, number, f"{users}{number}") + "\n" for number in range(count))
        command = [vegeta(), "attack", "-lazy", "-format=json", f"-targets={targets}", f"-rate={per_sec}/1s"]
        command += [f"-duration={seconds}s", f"-timeout={TIMEOUT}", f"-max-workers={MOST_WORKERS}", "-max-body=0"]
        before = os.times()
        _run([*command, f"-output={results}"])
        after = os.times()
        rows = _run([vegeta(), "encode", "-to=csv", str(results)])
    took = after.children_user + after.children_system - before.children_user - before.children_system
    return read_results(rows, per_sec=per_sec, client_share=took / seconds)


def read_results(rows: str, *, per_sec: float, client_share: float) -> Opened:
    """vegeta's CSV: time of sending (ns since 1970), status (0 = none), latency (ns), ..., error, ..., number (from 0).

    Request n is due n intervals after the first; none leaves before it is due, so the earliest beginning that the rows
    allow is the true one.
    """
    found = [(int(row[0]), row[1], int(row[2]), row[5], int(row[8])) for row in csv.reader(rows.splitlines())]
    if not found:
        raise ServiceFailed("vegeta sent nothing.")
    interval_ns = 1e9 / per_sec
    began_ns = min(sent - number * interval_ns for sent, _, _, _, number in found)
    late_ms = [(sent - began_ns - number * interval_ns) / 1e6 for sent, _, _, _, number in found]
    waits_ms = [late + latency / 1e6 for late, (_, _, latency, _, _) in zip(late_ms, found, strict=True)]
    outcomes = Counter(status if status != "0" else f"no answer: {error}" for _, status, _, error, _ in found)
    lasted_sec = (max(number for *_, number in found) + 1) / per_sec
    return Opened(len(found) / lasted_sec, dict(sorted(outcomes.items())), waits_ms, late_ms, client_share)


def _target(aim: Aim, number: int, user: str) -> str:
    bearer = aim.bearers[number % len(aim.bearers)]
    headers = {"Authorization": [f"Bearer {bearer}"], "Content-Type": ["application/json"]}
    body = base64.b64encode(json.dumps({"user_id": user}).encode()).decode()
    url = f"http://{aim.host}:{aim.port}{aim.path}"
    return json.dumps({"method": "POST", "url": url, "header": headers, "body": body})


def _run(command: list[str]) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise ServiceFailed(f"vegeta: {ran.stderr or ran.stdout}")
    return ran.stdout
