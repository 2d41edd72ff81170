"""Refusals and winners under wrk, 64 connections: against bare views, the server's own limit, and the blog's design.

Slices of a few seconds go round all targets, so that whatever else the machine does meets all of them alike; a ratio
is the median over the rounds. Identity and limits are as in production: a service, and users with tokens of their own.
"""

import tempfile
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone
from redis import Redis

from benchmarks.callers import make_issuers, settings_of
from benchmarks.figures import Mark
from benchmarks.http_speed import READY_SEC, apply_path
from benchmarks.processes import cpu_sec, pss_mib
from benchmarks.reference import BLOG_COUNT
from benchmarks.services import HOST, Service, Services, answers_ok, free_port, is_free
from benchmarks.workload import LOADED_EPOCH, Run, admit_all, eight_digits, open_new
from benchmarks.wrk_load import CONNECTIONS, Loaded, load
from coupons.admission import scripts
from coupons.admission.gate import CampaignSettings
from coupons.admission.keys import campaign_keys
from coupons.campaigns.push import settings_of as values_of
from coupons.models import Campaign, CampaignState

SLICE_SEC, WARM_UP_SEC = 3.0, 2.0
TOKENS = 5_000
REFERENCES = {
    "granian ok": "benchmarks.reference.constant:application",
    "bare Django": "benchmarks.reference.django_view:application",
    "bare DRF": "benchmarks.reference.wsgi:application",
    "blog": "benchmarks.reference.blog_wsgi:application",
}


class Target:
    """Something to send load to, and what it did in each round. `refuses` says which answers are the right ones: only
    they count, and `wrong` is the share of the others."""

    def __init__(
        self, service: Service, port: int, path: str, bearers: list[str], *, refuses: bool, most_wrong: float = 0.005
    ) -> None:
        self._service, self._port, self._path, self._bearers = service, port, path, bearers
        self._refuses, self._most_wrong = refuses, most_wrong
        self.rounds: list[dict[str, float]] = []

    def load(self, users: str, seconds: float) -> None:
        before = cpu_sec(self._service.process.pid)
        found = load(port=self._port, path=self._path, bearers=self._bearers, users=users, seconds=seconds)
        self._check(found)
        cpu = cpu_sec(self._service.process.pid) - before
        self.rounds.append(
            {
                "per_sec": (found.requests - self._wrong(found)) / found.seconds,
                "wrong": self._wrong(found) / found.requests,
                "p50_ms": found.p50_ms,
                "p99_ms": found.p99_ms,
                "web_cpu_us": cpu * 1e6 / found.requests,
                "client_cpu_us": found.client_cpu_us,
            }
        )

    def again(self) -> "Target":
        """The same, with nothing done yet."""
        return Target(
            self._service, self._port, self._path, self._bearers, refuses=self._refuses, most_wrong=self._most_wrong
        )

    def _wrong(self, found: Loaded) -> int:
        return found.requests - found.refused if self._refuses else found.refused

    def _check(self, found: Loaded) -> None:
        if not found.requests or found.broken or self._wrong(found) > found.requests * self._most_wrong:
            raise RuntimeError(f"{self._path}: {self._wrong(found)} wrong answers, {found}\n{self._service.tail()}")

    def median(self, figure: str) -> float:
        return median(each[figure] for each in self.rounds)


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    with tempfile.TemporaryDirectory() as folder:
        token_of = make_issuers(Path(folder))["HS256"]
        tokens = [token_of(str(number)) for number in range(1, run.size(TOKENS, 200) + 1)]
        with Services(log_folder=run.log_folder, environment=settings_of(Path(folder))) as services:
            targets, web = _start(services, run, tokens)
            _go_round(run, targets)
            known = run.size(10_000, 200)
            make_campaigns(known)
            crowded = {name: targets[name].again() for name in ("granian ok", "bare DRF", "refusals")}
            _go_round(run, crowded)
            memory_mib = pss_mib(web.process.pid)
    return _report(run, targets, crowded, memory_mib)


def _start(services: Services, run: Run, tokens: list[str]) -> tuple[dict[str, Target], Service]:
    sold_out, many, endless = open_new("sold out", 1), open_new("many", run.size(1_000_000, 2_000)), _endless()
    admit_all(sold_out, ["first"])
    admit_all(many, eight_digits(run.size(1_000_000, 2_000)))
    key = [settings.API_KEYS[0]]
    targets = {}
    for name, application in REFERENCES.items():
        port = free_port()
        service = services.start_web(port=port, name=f"bench-{name.replace(' ', '-')}", application=application)
        services.wait(name, partial(_listens, port), deadline_sec=READY_SEC, of=service)
        path = "/" if name == "granian ok" else apply_path(10_000_000)
        targets[name] = Target(service, port, path, key, refuses=False)
        if name == "blog":
            targets["blog, sold out"] = Target(service, port, apply_path(0), key, refuses=True)
    port = free_port()
    web = services.start_web(port=port, name="bench-web")
    services.wait("/readyz", partial(answers_ok, f"http://{HOST}:{port}/readyz"), deadline_sec=READY_SEC, of=web)
    product: Callable[..., Target] = partial(Target, web, port)
    targets["refusals"] = product(apply_path(sold_out), key, refuses=True)
    targets["refusals, million winners"] = product(apply_path(many), key, refuses=True)
    targets["refusals, tokens"] = product(apply_path(sold_out), tokens, refuses=True)
    # 64 connections that fall unevenly on two workers can fill a line of 32: a figure of its own
    targets["winners"] = product(apply_path(endless), key, refuses=False, most_wrong=0.5)
    return targets, web


def _listens(port: int) -> bool:
    return not is_free(port)


def _endless() -> UUID:
    Redis.from_url(settings.REDIS_URL).delete(BLOG_COUNT)
    return open_new("endless", 10_000_000)


def _go_round(run: Run, targets: dict[str, Target]) -> None:
    """The first round only warms up: the lobby reads its winners then."""
    for number in range(-run.size(2, 1), run.repeats * run.size(3, 1)):
        for name, target in targets.items():
            users = "" if name == "refusals, tokens" else f"{name.replace(' ', '-').replace(',', '')}-{number}-"
            target.load(users, SLICE_SEC if number >= 0 else WARM_UP_SEC)
            if number < 0:
                target.rounds.clear()


def make_campaigns(count: int) -> None:
    """Open campaigns in bulk, in PostgreSQL and in Redis, as opening each of them would leave them."""
    campaigns = [
        Campaign(
            name=f"known {number}",
            quantity=100,
            opens_at=timezone.now() - timedelta(hours=1),
            state=CampaignState.OPEN,
            epoch=LOADED_EPOCH,
            revision=1,
        )
        for number in range(count)
    ]
    Campaign.objects.bulk_create(campaigns, batch_size=1_000)
    calls = []
    for campaign in campaigns:
        values: CampaignSettings = values_of(campaign)
        calls.append((campaign_keys(campaign.pk), [LOADED_EPOCH, *values.arguments()]))
    for start in range(0, count, 100):
        scripts.run_each("load", calls[start : start + 100])


def _report(
    run: Run, targets: dict[str, Target], crowded: dict[str, Target], memory_mib: float
) -> tuple[dict[str, Any], list[Mark]]:
    def ratio(name: str, to: str, of: dict[str, Target] = targets) -> float:
        pairs = zip(of[name].rounds, of[to].rounds, strict=True)
        return median(mine["per_sec"] / other["per_sec"] for mine, other in pairs)

    for name, target in {**targets, "refusals, 10,000 known": crowded["refusals"]}.items():
        run.say(
            f"{name:<26} {target.median('per_sec'):7.0f}/s  p50 {target.median('p50_ms'):6.2f} ms  p99 "
            f"{target.median('p99_ms'):7.2f} ms  web CPU {target.median('web_cpu_us'):5.0f} us, "
            f"client's {target.median('client_cpu_us'):4.1f} us a request"
        )
    known = ratio("refusals", "granian ok", crowded) / ratio("refusals", "granian ok")
    marks = [
        Mark("refusals, key, against a bare DRF view", ratio("refusals", "bare DRF"), 8, "x"),
        Mark("refusals, tokens, against a bare DRF view", ratio("refusals, tokens", "bare DRF"), 8, "x"),
        Mark("refusals, key, against granian's ok", ratio("refusals", "granian ok"), 0.6, "x"),
        Mark("refusals, tokens, against granian's ok", ratio("refusals, tokens", "granian ok"), 0.6, "x"),
        Mark(
            "refusals, p99 against the median of a bare DRF view",
            targets["refusals"].median("p99_ms") / targets["bare DRF"].median("p50_ms"),
            1,
            "x",
            at_least=False,
        ),
        Mark("refusals with 10,000 campaigns known, against those without", known, 0.9, "x"),
        Mark("refusals with 1,000,000 winners", ratio("refusals, million winners", "refusals"), 0.9, "x"),
        Mark("winners against a bare DRF view", ratio("winners", "bare DRF"), 0.6, "x"),
        Mark("share of winners told 503", targets["winners"].median("wrong"), 0, "", at_least=False),
        Mark("winners against the blog's design", ratio("winners", "blog"), 4, "x"),
        Mark("web server of two workers after it all", memory_mib, 170, " MiB", at_least=False),
    ]
    return {
        "connections": CONNECTIONS,
        "slice_sec": SLICE_SEC,
        "users_with_tokens": TOKENS,
        "rounds": {name: target.rounds for name, target in targets.items()},
        "rounds_with_10000_campaigns": {name: target.rounds for name, target in crowded.items()},
        "web_pss_mib": memory_mib,
    }, marks
