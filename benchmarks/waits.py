"""Measures how long users wait below the limit, at twice the load, and on 2,000 connections."""

from functools import partial
from statistics import median
from typing import Any

from benchmarks.figures import Mark, at_most, percentile
from benchmarks.load import OpenLoopResult, run_open_loop
from benchmarks.targets import Product, Target, started
from benchmarks.workload import Run

WITHIN, BEYOND = 0.7, 2.0
BEST_ON, CROWD = 256, 2_000
"""Connections."""
ADMITTED, BUSY = "202", "503"
CASES = ("best", "within", "beyond", "crowd")


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    with started(run) as (references, product):
        bare = references["bare DRF"].with_connections(1)
        bare.warm_up("warm-up-", run.size(2, 1))
        run_open_loop(product.winners().endpoint, users="warm-up-", seconds=run.size(4, 1), workers=BEST_ON)
        repeats = [_repeat(run, bare, product, number) for number in range(run.repeats)]
    return {"repeats": repeats}, _marks(repeats)


def _repeat(run: Run, bare: Target, product: Product, number: int) -> dict[str, Any]:
    attack = partial(run_open_loop, product.winners().endpoint, watch=product.memory_mib)
    bare_ms = bare.load(f"bare-{number}-", run.size(3, 1))["p50_ms"]
    before = product.memory_mib()
    best = attack(users=f"best-{number}-", seconds=run.size(10, 2), workers=BEST_ON)
    most = best.per_sec(ADMITTED)
    loops = {
        "best": best,
        "within": attack(users=f"within-{number}-", seconds=run.size(15, 2), per_sec=int(WITHIN * most)),
        "beyond": attack(users=f"beyond-{number}-", seconds=run.size(15, 2), per_sec=int(BEYOND * most)),
        "crowd": attack(users=f"crowd-{number}-", seconds=run.size(30, 3), workers=CROWD),
    }
    for name, loop in loops.items():
        waits = ", ".join(f"{figure} {ms:.0f} ms" for figure, ms in loop.spread(ADMITTED).items())
        run.say(f"{name:<7} {loop.per_sec(ADMITTED):.0f} winners/s, {waits}; {loop.outcomes}")
    return {
        "bare_ms": bare_ms,
        "memory_before_mib": before,
        "memory_peak_mib": max(loop.peak for loop in loops.values()),
        **{name: _figures(loop, most) for name, loop in loops.items()},
    }


def _figures(found: OpenLoopResult, most: float) -> dict[str, Any]:
    requests = sum(found.outcomes.values())
    return {
        "offered_per_sec": requests / found.seconds,
        "goodput_per_sec": found.per_sec(ADMITTED),
        "goodput_of_best": found.per_sec(ADMITTED) / most,
        "not_admitted": requests - found.outcomes.get(ADMITTED, 0),
        "unanswered": requests - found.outcomes.get(ADMITTED, 0) - found.outcomes.get(BUSY, 0),
        "admitted_ms": found.spread(ADMITTED),
        "refused_ms": found.spread(BUSY),
        "sent_late_p99_ms": percentile(found.late_ms, 99),
        "client_share": found.client_share,
        "outcomes": found.outcomes,
    }


def _marks(repeats: list[dict[str, Any]]) -> list[Mark]:
    def middle(name: str, figure: str) -> float:
        return float(median(each[name][figure] for each in repeats))

    slowest = [each[name]["refused_ms"].get("max", 0.0) for each in repeats for name in ("beyond", "crowd")]
    p99 = median(each["within"]["admitted_ms"]["p99"] / each["bare_ms"] for each in repeats)
    growth = max(each["memory_peak_mib"] - each["memory_before_mib"] for each in repeats)
    unanswered = sum(each[name]["unanswered"] for each in repeats for name in CASES)
    return [
        at_most("open loop at 70 %: p99 against the median of a bare DRF request at one connection", p99, 100, "x"),
        at_most("open loop at 70 %: users who were not admitted", middle("within", "not_admitted"), 0, ""),
        Mark("open loop at 200 %: winners a second of the best", middle("beyond", "goodput_of_best"), 0.9, "x"),
        Mark("2,000 connections: winners a second of the best", middle("crowd", "goodput_of_best"), 0.9, "x"),
        at_most("the longest wait for a 503, both", max(slowest), 1_000, " ms"),
        at_most("neither 202 nor 503, all loops", unanswered, 0, ""),
        at_most("growth of the web processes' memory", growth, 64, " MiB"),
    ]
