"""Winners in an open loop at 70 % of what a closed loop gets: how long a user waits while the service is not full.

Closed loop, one connection to a bare DRF view, and open loop take turns, so that the machine is the same for all three.
"""

from statistics import median
from typing import Any

from benchmarks.figures import Mark
from benchmarks.http_target import apply_path
from benchmarks.processes import first_served
from benchmarks.services import Services
from benchmarks.vegeta_load import attack
from benchmarks.workload import Run, open_new
from benchmarks.wrk_load import Aim
from benchmarks.wrk_target import Target, api_key, start_product, start_reference

SHARE = 0.7
ADMITTED = "202"


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    repeats: list[dict[str, Any]] = []
    with Services(log_folder=run.log_folder) as services:
        service, port = start_reference(services, "bare DRF")
        bare = Target(service, Aim(port, apply_path("any"), api_key()), refuses=False)
        web, port = start_product(services)
        aim = Aim(port, apply_path(open_new("open loop", 10_000_000)), api_key())
        closed = Target(web, aim, refuses=False, most_wrong=0.99)
        bare.warm_up("warm-up-", run.size(2, 1))
        closed.warm_up("warm-up-", run.size(4, 2))
        for number in range(run.repeats):
            found = _repeat(run, bare, closed, number)
            repeats.append(found)
            run.say(
                f"{found['offered_per_sec']:.0f} a second of {found['closed_per_sec']:.0f}: p50 {found['p50_ms']:.1f}, "
                f"p99 {found['p99_ms']:.1f} ms, {found['ratio']:.1f}x of bare DRF ({found['bare_ms']:.2f} ms); sent "
                f"late p99 {found['sent_late_p99_ms']:.1f} ms, client {found['client_share']:.0%} of a core; "
                f"{found['outcomes']}"
            )
    numbers = [name for name, value in repeats[0].items() if isinstance(value, float)]
    medians = {name: median(found[name] for found in repeats) for name in numbers}
    wrong = sum(n for found in repeats for outcome, n in found["outcomes"].items() if outcome != ADMITTED)
    return {"share_of_the_closed_loop": SHARE, "medians": medians, "repeats": repeats}, [
        Mark(
            "open loop, p99 against the median of a bare DRF request at one connection",
            medians["ratio"],
            25,
            "x",
            at_least=False,
        ),
        Mark("open loop, users who were not admitted", wrong, 0, "", at_least=False),
    ]


def _repeat(run: Run, bare: Target, closed: Target, number: int) -> dict[str, Any]:
    bare_ms = bare.load(f"bare-{number}-", run.size(3, 1), connections=1)["p50_ms"]
    closed_per_sec = closed.load(f"closed-{number}-", run.size(4, 1))["per_sec"]
    with first_served() as preferred:
        rate = max(int(SHARE * closed_per_sec), 1)
        found = attack(closed.aim, users=f"open-{number}-", per_sec=rate, seconds=run.size(15, 3)).figures()
    return {
        **found,
        "closed_per_sec": closed_per_sec,
        "bare_ms": bare_ms,
        "ratio": float(found["p99_ms"]) / bare_ms,  # type: ignore[arg-type]
        "client_preferred": preferred,
    }
