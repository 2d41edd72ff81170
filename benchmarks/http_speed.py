"""Refusals and winners a second over HTTP, against a bare DRF view on the same server with the same settings."""

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from django.conf import settings

from benchmarks.figures import Mark, median_ratio, summarize
from benchmarks.load import Plan, Record, run_load
from benchmarks.processes import cpu_sec
from benchmarks.services import HOST, Service, Services, answers_ok, free_port
from benchmarks.workload import Run, admit_all, open_new

CONNECTIONS = 32
READY_SEC = 30.0
SLICE_SEC = 1.5
SLICES = 4


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


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    """Short slices in turn, so that whatever else the machine does meets all of them alike."""
    figures: dict[str, list[dict[str, float]]] = defaultdict(list)
    slices: dict[str, list[float]] = defaultdict(list)
    with Services(log_folder=run.log_folder) as services:
        targets, users = _start(services), Users()
        for target in targets.values():
            target.load(users, seconds=run.size(4, 1) / 2)
            target.take_figures()
        for _ in range(run.repeats):
            for _ in range(run.size(SLICES, 2)):
                for name, target in targets.items():
                    slices[name].append(target.load(users, seconds=SLICE_SEC))
            for name, target in targets.items():
                found = target.take_figures()
                figures[name].append(found)
                run.say(describe_figures(name, found))
    return _report(figures, slices)


def describe_figures(name: str, found: dict[str, float]) -> str:
    return (
        f"{name:<9} {found['per_sec']:6.0f}/s  p50 {found['p50_ms']:5.1f} ms  p99 {found['p99_ms']:6.1f} ms  "
        f"web CPU {found['web_cpu_ms_per_request']:.2f} ms a request"
    )


def _report(
    figures: dict[str, list[dict[str, float]]], slices: dict[str, list[float]]
) -> tuple[dict[str, Any], list[Mark]]:
    ratios = {name: median_ratio(slices[name], slices["bare DRF"]) for name in ("refusals", "winners")}
    medians = {
        name: {figure: median(repeat[figure] for repeat in repeats) for figure in repeats[0]}
        for name, repeats in figures.items()
    }
    result = {
        "connections": CONNECTIONS,
        "ratios_to_bare_drf": ratios,
        "medians": medians,
        "repeats": figures,
        "slices_per_sec": slices,
    }
    marks = [
        Mark("sold-out refusals against a bare DRF view", ratios["refusals"], 0.45, "x"),
        Mark("winners against a bare DRF view", ratios["winners"], 0.25, "x"),
    ]
    return result, marks


def _start(services: Services) -> dict[str, Target]:
    sold_out, winners = open_new("sold out", 1), open_new("winners", 10_000_000)
    admit_all(sold_out, ["first"])
    product_port, bare_port, constant_port = free_port(), free_port(), free_port()
    product = services.start_web(port=product_port, name="bench-web")
    bare = services.start_web(port=bare_port, name="bench-bare", application="benchmarks.reference.wsgi:application")
    constant = services.start_web(
        port=constant_port, name="bench-constant", application="benchmarks.reference.constant:application"
    )
    ready = f"http://{HOST}:{product_port}/readyz"
    services.wait("The web server at /readyz", lambda: answers_ok(ready), deadline_sec=READY_SEC, of=product)
    return {
        "bare DRF": Target(bare, bare_port, apply_path("any"), "200"),
        "refusals": Target(product, product_port, apply_path(sold_out), "409 sold-out"),
        "winners": Target(product, product_port, apply_path(winners), "202"),
        "constant": Target(constant, constant_port, "/", "200"),
    }


def apply_path(campaign: object) -> str:
    return f"/api/v1/campaigns/{campaign}/apply"
