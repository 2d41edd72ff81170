"""A web server under our own load client, in a closed loop: for servers.py, and the addresses of all others."""

from dataclasses import dataclass, field

from django.conf import settings

from benchmarks.figures import summarize
from benchmarks.load import Plan, Record, run_load
from benchmarks.processes import cpu_sec
from benchmarks.services import HOST, Service

CONNECTIONS = 32
READY_SEC = 30.0


@dataclass(slots=True)
class Target:
    """Something to send load to, the only outcome that counts as an answer, and what was measured so far."""

    service: Service
    port: int
    path: str
    expected: str
    records: list[Record] = field(default_factory=list)
    seconds: float = 0.0
    cpu_sec: float = 0.0

    def load(self, users: "Users", *, seconds: float) -> float:
        """A closed loop of so many seconds; its answers a second."""
        plan = Plan(
            host=HOST,
            port=self.port,
            path=self.path,
            api_key=settings.API_KEYS[0],
            connections=CONNECTIONS,
            first_user=users.next,
            seconds=seconds,
        )
        cpu_before = cpu_sec(self.service.process.pid)
        records = run_load(plan)
        users.next += len(records)
        lasted = max(record.end for record in records) - min(record.start for record in records)
        self.records += records
        self.seconds += lasted
        self.cpu_sec += cpu_sec(self.service.process.pid) - cpu_before
        return len(records) / lasted

    def take_figures(self) -> dict[str, float]:
        """Of all loads since the last call. Raises when more than one answer in a hundred was not the expected one."""
        summary = summarize(self.records, seconds=self.seconds)
        wrong = {outcome: n for outcome, n in summary.outcomes.items() if outcome != self.expected}
        if sum(wrong.values()) > summary.users / 100:
            raise RuntimeError(f"expected {self.expected}, got {wrong}\n{self.service.tail()}")
        cpu_ms = self.cpu_sec * 1000 / summary.requests
        self.records, self.seconds, self.cpu_sec = [], 0.0, 0.0
        return {
            "per_sec": summary.users_per_sec,
            "p50_ms": summary.p50_ms,
            "p99_ms": summary.p99_ms,
            "web_cpu_ms_per_request": cpu_ms,
        }


class Users:
    """Numbers that nobody has used yet."""

    def __init__(self, first: int = 1) -> None:
        self.next = first


def apply_path(campaign: object) -> str:
    return f"/api/v1/campaigns/{campaign}/apply"
