"""Refusals and winners under wrk, 64 connections: against bare views, the server's own limit, and the blog's design.

Slices of two seconds go round all targets, so that whatever else the machine does meets all of them alike; a ratio
is the median over the rounds. Identity and limits are as in production: a service, and users with tokens of their own.
"""

import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from redis import Redis

from benchmarks.callers import make_issuers, settings_of
from benchmarks.figures import Mark
from benchmarks.http_target import apply_path
from benchmarks.processes import pss_mib
from benchmarks.reference import BLOG_COUNT
from benchmarks.services import Service, Services
from benchmarks.workload import Run, admit_all, eight_digits, hold_issued, make_campaigns, open_new
from benchmarks.wrk_load import CONNECTIONS, Aim
from benchmarks.wrk_target import REFERENCES, Target, api_key, ratio, start_product, start_reference

TOKENS = 5_000
MILLION = "refusals, million winners"


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    with tempfile.TemporaryDirectory() as folder:
        token_of = make_issuers(Path(folder))["HS256"]
        tokens = [token_of(str(number)) for number in range(1, run.size(TOKENS, 200) + 1)]
        with Services(log_folder=run.log_folder, environment=settings_of(Path(folder))) as services:
            targets, web = _start(services, run, tokens)
            waits = _go_round(run, targets)
            make_campaigns(run.size(10_000, 200))
            crowded = {name: targets[name].again() for name in ("granian ok", "refusals")}
            _go_round(run, crowded)
            memory_mib = pss_mib(web.process.pid)
    for name, target in {**targets, "refusals, 10,000 known": crowded["refusals"]}.items():
        run.say(f"{name:<26} {target}")
    return {
        "connections": CONNECTIONS,
        "slice_sec": run.size(2, 1),
        "users_with_tokens": len(tokens),
        "medians": {name: target.medians() for name, target in targets.items()},
        "medians_with_10000_campaigns": {name: target.medians() for name, target in crowded.items()},
        "rounds": {name: target.rounds for name, target in targets.items()},
        "rounds_with_10000_campaigns": {name: target.rounds for name, target in crowded.items()},
        "web_pss_mib": memory_mib,
        "until_million_winners_are_read_sec": waits,
    }, _marks(targets, crowded, memory_mib)


def _start(services: Services, run: Run, tokens: list[str]) -> tuple[dict[str, Target], Service]:
    sold_out, endless = open_new("sold out", 1), open_new("endless", 10_000_000)
    admit_all(sold_out, ["first"])
    many = run.size(1_000_000, 2_000)
    crowded_out = open_new("many", many)
    hold_issued(crowded_out, eight_digits(many))
    Redis.from_url(settings.REDIS_URL).delete(BLOG_COUNT)
    targets = {}
    for name in REFERENCES:
        service, port = start_reference(services, name)
        path = "/" if name == "granian ok" else apply_path(10_000_000)
        targets[name] = Target(service, Aim(port, path, api_key()), refuses=False)
        if name == "blog":
            targets["blog, sold out"] = Target(service, Aim(port, apply_path(0), api_key()), refuses=True)
    web, port = start_product(services)

    def product(campaign: object, bearers: list[str], *, refuses: bool = True, most_wrong: float = 0.005) -> Target:
        return Target(web, Aim(port, apply_path(campaign), bearers), refuses=refuses, most_wrong=most_wrong)

    targets["refusals"] = product(sold_out, api_key())
    targets[MILLION] = product(crowded_out, api_key())
    targets["refusals, tokens"] = product(sold_out, tokens)
    # 64 connections that fall unevenly on two workers can fill a line of 32, and who is told 503 comes again at once:
    # only admissions count, and the share of the others is a figure of its own
    targets["winners"] = product(endless, api_key(), refuses=False, most_wrong=0.99)
    return targets, web


def _go_round(run: Run, targets: dict[str, Target]) -> list[float]:
    """The first rounds only warm up: the lobby reads its winners then. Each starts with another target.

    Returns how long the lobby took each time until it knew a million winners: it reads them the first time.
    """
    names, waits = list(targets), list[float]()
    for number in range(-run.size(2, 1), run.repeats * run.size(2, 1)):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            if name.startswith("refusals"):
                took = targets[name].wait_for_the_lobby()
                waits += [took] if name == MILLION else []
            load = targets[name].warm_up if number < 0 else targets[name].load
            load(f"{name.replace(' ', '-').replace(',', '')}-{number}-", run.size(2, 1))
    return waits


def _marks(targets: dict[str, Target], crowded: dict[str, Target], memory_mib: float) -> list[Mark]:
    bare, least = targets["bare DRF"], targets["granian ok"]
    known = ratio(crowded["refusals"], crowded["granian ok"]) / ratio(targets["refusals"], least)
    marks = []
    for caller, name in (("key", "refusals"), ("tokens", "refusals, tokens")):
        slowest = targets[name].median("p99_ms") / bare.median("p50_ms")
        marks += [
            Mark(f"refusals, {caller}, against a bare DRF view", ratio(targets[name], bare), 8, "x"),
            Mark(f"refusals, {caller}, against granian's ok", ratio(targets[name], least), 0.6, "x"),
            Mark(f"refusals, {caller}, p99 against the median of a bare DRF view", slowest, 1, "x", at_least=False),
        ]
    winners, million = targets["winners"], targets[MILLION]
    return [
        *marks,
        Mark("refusals with 10,000 campaigns known, against those without", known, 0.9, "x"),
        Mark("refusals with 1,000,000 winners, against those with one", ratio(million, targets["refusals"]), 0.9, "x"),
        Mark("winners against a bare DRF view", ratio(winners, bare), 0.6, "x"),
        Mark("winners against the blog's design", ratio(winners, targets["blog"]), 4, "x"),
        Mark("share of winners told 503", winners.median("wrong"), 0, "", at_least=False),
        Mark("web server of two workers after it all", memory_mib, 170, " MiB", at_least=False),
    ]
