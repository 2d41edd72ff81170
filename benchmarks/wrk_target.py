"""A web server and an address of it under wrk, slice by slice: rates, times, and who took the CPU's time."""

import time
from collections.abc import Mapping
from functools import partial
from statistics import median
from typing import Any

from django.conf import settings

from benchmarks.http_target import READY_SEC
from benchmarks.processes import cpu_sec, machine_cpu_sec
from benchmarks.services import HOST, Service, Services, answers, answers_ok, free_port
from benchmarks.wrk_load import CONNECTIONS, Aim, Loaded, load
from coupons.admission.scripts import admission_redis

REFERENCES = {
    "granian ok": "benchmarks.reference.constant:application",
    "bare Django": "benchmarks.reference.django_view:application",
    "bare DRF": "benchmarks.reference.wsgi:application",
    "blog": "benchmarks.reference.blog_wsgi:application",
}
LOADED_SEC = 180.0
QUICK_US = 250.0
"""Of a refusal that is not Django's."""


class Target:
    """Something to send load to, and what it did in each round. `refuses` says which answers are the right ones: only
    they count, and `wrong` is the share of the others.

    CPU times are of one request. `rest` is what no part that we can ask took: Kafka, PostgreSQL, the kernel, and
    whatever else the machine does. `client_share` is wrk's part of one core: at 1 it measures itself.
    """

    def __init__(self, service: Service, aim: Aim, *, refuses: bool, most_wrong: float = 0.005) -> None:
        self._service, self.aim = service, aim
        self._refuses, self._most_wrong = refuses, most_wrong
        self.rounds: list[dict[str, float]] = []

    def load(self, users: str, seconds: float, *, connections: int = CONNECTIONS) -> dict[str, float]:
        before = self._cpu()
        found = load(self.aim, users=users, seconds=seconds, connections=connections)
        after = self._cpu()
        self._check(found)
        took = {name: (after[name] - before[name]) * 1e6 / found.requests for name in before}
        known = took["web"] + took["redis"] + found.client_cpu_us
        self.rounds.append(
            {
                "per_sec": (found.requests - self._wrong(found)) / found.seconds,
                "wrong": self._wrong(found) / found.requests,
                "p50_ms": found.p50_ms,
                "p99_ms": found.p99_ms,
                "web_cpu_us": took["web"],
                "redis_cpu_us": took["redis"],
                "client_cpu_us": found.client_cpu_us,
                "rest_cpu_us": max(took["machine"] - known, 0.0),
                "client_share": found.client_cpu_us * found.per_sec / 1e6,
            }
        )
        return self.rounds[-1]

    def warm_up(self, users: str, seconds: float, *, connections: int = CONNECTIONS) -> None:
        """Its answers count for nothing: a worker that still imports gives none."""
        load(self.aim, users=users, seconds=seconds, connections=connections)

    def wait_for_the_lobby(self, *, connections: int = CONNECTIONS) -> float:
        """Until it answers for the campaign, or too long; seconds. A worker of it has read all winners by then:
        Django refuses meanwhile, at a tenth of the speed."""
        began, measured = time.monotonic(), len(self.rounds)
        while time.monotonic() - began < LOADED_SEC:
            found = self.load("loading-", 1, connections=connections)
            if found["web_cpu_us"] < QUICK_US:
                break
        del self.rounds[measured:]
        return time.monotonic() - began

    def again(self) -> "Target":
        """The same, with nothing done yet."""
        return Target(self._service, self.aim, refuses=self._refuses, most_wrong=self._most_wrong)

    def median(self, figure: str) -> float:
        return median(each[figure] for each in self.rounds)

    def medians(self) -> dict[str, float]:
        return {figure: self.median(figure) for figure in self.rounds[0]}

    def __str__(self) -> str:
        found = self.medians()
        return (
            f"{found['per_sec']:7.0f}/s  p50 {found['p50_ms']:6.2f} ms  p99 {found['p99_ms']:7.2f} ms  "
            f"web CPU {found['web_cpu_us']:5.0f} us, client's {found['client_cpu_us']:4.1f} us a request, "
            f"{found['client_share']:.0%} of a core"
        )

    def _cpu(self) -> dict[str, float]:
        redis: Any = admission_redis().info("cpu")
        return {
            "web": cpu_sec(self._service.process.pid),
            "redis": redis["used_cpu_sys"] + redis["used_cpu_user"],
            "machine": machine_cpu_sec(),
        }

    def _wrong(self, found: Loaded) -> int:
        return found.requests - found.refused if self._refuses else found.refused

    def _check(self, found: Loaded) -> None:
        if not found.requests or found.broken or self._wrong(found) > found.requests * self._most_wrong:
            raise RuntimeError(f"{self.aim.path}: {self._wrong(found)} wrong answers, {found}\n{self._service.tail()}")


def ratio(mine: Target, others: Target, figure: str = "per_sec") -> float:
    """The median over the rounds of both."""
    pairs = zip(mine.rounds, others.rounds, strict=True)
    return median(one[figure] / other[figure] for one, other in pairs)


def api_key() -> list[str]:
    """A service's, as the only bearer."""
    return [settings.API_KEYS[0]]


def start_reference(services: Services, name: str, environment: Mapping[str, str] | None = None) -> tuple[Service, int]:
    port = free_port()
    log = f"bench-{name.replace(' ', '-')}"
    service = services.start_web(port=port, name=log, application=REFERENCES[name], environment=environment)
    services.wait(name, partial(answers, f"http://{HOST}:{port}/"), deadline_sec=READY_SEC, of=service)
    return service, port


def start_product(services: Services, name: str = "bench-web") -> tuple[Service, int]:
    port = free_port()
    web = services.start_web(port=port, name=name)
    services.wait("/readyz", partial(answers_ok, f"http://{HOST}:{port}/readyz"), deadline_sec=READY_SEC, of=web)
    return web, port
