"""Measures how long users wait below the limit, at twice the load, and on 2,000 connections.

vegeta reports each user's wait and answer. A closed loop gives the highest rate of winners; open loops of 70 % and
200 % of that rate and a closed loop on 2,000 connections follow. Users do not repeat: each request counts once.
"""

from statistics import median
from typing import Any

from benchmarks.figures import Mark, at_most, percentile
from benchmarks.load import OpenLoopResult, run_open_loop
from benchmarks.sandbox import spare_topic
from benchmarks.targets import Product, Target, start_product, start_references
from benchmarks.workload import Run
from harness import Services

WITHIN, BEYOND = 0.7, 2.0
BEST_ON, CROWD = 256, 2_000
"""Connections."""
ADMITTED, BUSY = "202", "503"
GROWTH_MIB = 64
CASES = ("best", "within", "beyond", "crowd")


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    with spare_topic("blog") as topic, Services(log_folder=run.log_folder) as services:
        bare = start_references(services, topic)["bare DRF"].with_connections(1)
        product = start_product(services)
        bare.warm_up("warm-up-", run.size(2, 1))
        _open(product, "warm-up-", run.size(4, 1), workers=BEST_ON)
        repeats = []
        for number in range(run.repeats):
            found = _repeat(run, bare, product, number)
            repeats.append(found)
            for name in CASES:
                run.say(_line(name, found[name]))
    return {"repeats": repeats}, _marks(repeats)


def _repeat(run: Run, bare: Target, product: Product, number: int) -> dict[str, Any]:
    bare_ms = bare.load(f"bare-{number}-", run.size(3, 1))["p50_ms"]
    before = product.memory_mib()
    best = _open(product, f"best-{number}-", run.size(10, 2), workers=BEST_ON)
    most = best.per_sec(ADMITTED)
    found = {
        "best": best,
        "within": _open(product, f"within-{number}-", run.size(15, 2), per_sec=int(WITHIN * most)),
        "beyond": _open(product, f"beyond-{number}-", run.size(15, 2), per_sec=int(BEYOND * most)),
        "crowd": _open(product, f"crowd-{number}-", run.size(30, 3), workers=CROWD),
    }
    return {
        "bare_ms": bare_ms,
        "memory_before_mib": before,
        "memory_peak_mib": max(each.peak for each in found.values()),
        **{name: _figures(each, most) for name, each in found.items()},
    }


def _open(product: Product, users: str, seconds: float, *, per_sec: float = 0, workers: int = 0) -> OpenLoopResult:
    endpoint = product.winners().endpoint
    return run_open_loop(
        endpoint, users=users, seconds=seconds, per_sec=per_sec, workers=workers, watch=product.memory_mib
    )


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


def _line(name: str, found: dict[str, Any]) -> str:
    waits = ", ".join(
        f"{what} p50 {each['p50']:.0f} p99 {each['p99']:.0f} max {each['max']:.0f} ms"
        for what, each in ((ADMITTED, found["admitted_ms"]), (BUSY, found["refused_ms"]))
        if each
    )
    return (
        f"{name:<7} offered {found['offered_per_sec']:5.0f}/s  goodput {found['goodput_per_sec']:5.0f}/s "
        f"({found['goodput_of_best']:.2f})  {waits}; sent late p99 {found['sent_late_p99_ms']:.1f} ms, client "
        f"{found['client_share']:.0%} of a core; {found['outcomes']}"
    )


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
        at_most("growth of the web processes' memory", growth, GROWTH_MIB, " MiB"),
    ]
