"""Twice the load: the most winners a second that a closed loop gets, then twice as many users a second, whatever comes.

The second is an open loop: users come at fixed times, and a user's time counts from then on, so nothing that the server
does makes the client ask less (no coordinated omission). Nobody repeats: each request counts once, as a 202 or not.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, Literal

from django.conf import settings

from benchmarks.figures import Mark, percentile, summarize
from benchmarks.http_target import READY_SEC, apply_path
from benchmarks.load import Plan, Record, run_load
from benchmarks.processes import first_served, pss_mib
from benchmarks.services import HOST, Service, Services, answers_ok, free_port
from benchmarks.workload import Run, open_new

CONNECTIONS = (16, 32, 64)
"""Of the closed loop, tried in turn; the best one counts."""
CROWD = 1_000
"""Connections of the open loop, far more than are needed while answers come quickly."""
FACTOR = 2
ADMITTED = "202"
LOOK_SEC = 1.0


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    with Services(log_folder=run.log_folder) as services:
        target = _Target(services, "bench-overload")
        target.closed(seconds=run.size(3, 1), connections=32)
        rates = {number: target.closed(seconds=run.size(5, 1), connections=number) for number in CONNECTIONS}
        best = max(rates, key=lambda number: rates[number])
        run.say(f"best of a closed loop: {rates[best]:.0f} winners/s on {best} connections")
        repeats = []
        for _ in range(run.repeats):
            most = target.closed(seconds=run.size(6, 1), connections=best)
            found = target.twice(most, seconds=run.size(15, 3))
            repeats.append(found)
            run.say(describe(found))
    closed = {str(number): rate for number, rate in rates.items()}
    return {"closed_per_sec_by_connections": closed, "repeats": repeats}, _marks(repeats)


class _Target:
    def __init__(self, services: Services, name: str) -> None:
        self._port = free_port()
        self.service = services.start_web(port=self._port, name=name)
        ready = f"http://{HOST}:{self._port}/readyz"
        services.wait("The web server", lambda: answers_ok(ready), deadline_sec=READY_SEC, of=self.service)
        self._path = apply_path(open_new("overload", 10_000_000))
        self._next_user = 1

    def closed(self, *, seconds: float, connections: int) -> float:
        summary = summarize(self._load(seconds=seconds, connections=connections, patience_sec=30))
        assert summary.outcomes == {ADMITTED: summary.users}, summary
        return summary.users_per_sec

    def twice(self, most: float, *, seconds: float) -> dict[str, Any]:
        before = pss_mib(self.service.process.pid)
        with _watching(self.service) as peak, first_served() as preferred:
            records = self._load(seconds=seconds, connections=CROWD, patience_sec=0, rate=FACTOR * most)
        return _figures(records, most, seconds) | {
            "pss_mib_before": before,
            "pss_mib_peak": max(peak),
            "client_preferred": preferred,
        }

    def _load(
        self, *, seconds: float, connections: int, patience_sec: float, rate: float | None = None
    ) -> list[Record]:
        plan = Plan(
            host=HOST,
            port=self._port,
            path=self._path,
            api_key=settings.API_KEYS[0],
            connections=connections,
            first_user=self._next_user,
            seconds=seconds,
            rate=rate,
            patience_sec=patience_sec,
        )
        records = run_load(plan)
        self._next_user += len(records)
        return records


def _figures(records: list[Record], most: float, seconds: float) -> dict[str, Any]:
    summary = summarize(records)
    admitted = [record for record in records if record.status == 202]
    refused = [record for record in records if record.status == 503]
    return {
        "best_per_sec": most,
        "offered_per_sec": len(records) / seconds,
        "goodput_per_sec": len(admitted) / summary.seconds,
        "goodput_of_best": len(admitted) / summary.seconds / most,
        "share_503": len(refused) / len(records),
        "admitted_ms": _spread(admitted),
        "refused_ms": _spread(refused),
        "sent_late_ms": _spread(records, "sent"),
        "all_ms": {"p50": summary.p50_ms, "p99": summary.p99_ms, "max": summary.max_ms},
        "outcomes": summary.outcomes,
    }


def _spread(records: list[Record], until: Literal["end", "sent"] = "end") -> dict[str, float]:
    if not records:
        return {}
    waits_ms = [(getattr(record, until) - record.start) * 1000 for record in records]
    return {"p50": percentile(waits_ms, 50), "p99": percentile(waits_ms, 99), "max": max(waits_ms, default=0.0)}


def describe(found: dict[str, Any]) -> str:
    def waits(name: str) -> str:
        if not found[name]:
            return "none"
        return f"p50 {found[name]['p50']:.0f} p99 {found[name]['p99']:.0f} max {found[name]['max']:.0f} ms"

    return (
        f"best {found['best_per_sec']:.0f}/s, offered {found['offered_per_sec']:.0f}/s: "
        f"goodput {found['goodput_per_sec']:.0f}/s = {found['goodput_of_best']:.2f} of the best, "
        f"503 {found['share_503']:.0%}; 202 {waits('admitted_ms')}; 503 {waits('refused_ms')}; "
        f"sent late {waits('sent_late_ms')}; "
        f"PSS {found['pss_mib_before']:.0f} -> {found['pss_mib_peak']:.0f} MiB; {found['outcomes']}"
    )


def _marks(repeats: list[dict[str, Any]]) -> list[Mark]:
    def middle(*names: str) -> float:
        values: list[Any] = repeats
        for name in names:
            values = [value[name] for value in values]
        return float(median(values))

    bound_ms = settings.WEB_QUEUE_TIMEOUT_MS + settings.ACCEPT_TIMEOUT_MS
    unanswered = sum(
        count for found in repeats for outcome, count in found["outcomes"].items() if outcome[:3] not in ("202", "503")
    )
    growth = middle("pss_mib_peak") - middle("pss_mib_before")
    return [
        Mark("twice the load: goodput of the best", middle("goodput_of_best"), 0.8, "x"),
        Mark("twice the load: p99 of all answers", middle("all_ms", "p99"), bound_ms, " ms", at_least=False),
        Mark("twice the load: neither 202 nor 503", unanswered, 0, "", at_least=False),
        Mark("twice the load: growth of the web processes' memory", growth, 64, " MiB", at_least=False),
    ]


@contextmanager
def _watching(service: Service) -> Iterator[list[float]]:
    """The memory of the service's processes, looked at all the time."""
    seen, done = [pss_mib(service.process.pid)], threading.Event()

    def watch() -> None:
        while not done.wait(LOOK_SEC):
            seen.append(pss_mib(service.process.pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()
