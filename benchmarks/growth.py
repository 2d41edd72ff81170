"""Whether refusals and admissions cost the same beside 1,000 coupons and beside many: rows and tickets.

The same web server serves two campaigns in slices in turn: one holds 1,000 coupons, the other 1,000,000, or nearly
10,000,000 with --large. First users win in both, then both are cut to what they have given out, and refuse.
"""

import time
from typing import Any
from uuid import UUID

from benchmarks.figures import Mark
from benchmarks.http_target import apply_path
from benchmarks.services import Services
from benchmarks.workload import Run, eight_digits, hold_issued, hold_rows, open_new
from benchmarks.wrk_load import Aim
from benchmarks.wrk_target import Target, api_key, ratio, start_product
from coupons.admission import gate
from coupons.campaigns.lifecycle import change_campaign
from coupons.models import Campaign

SMALL, MANY, LARGE = 1_000, 1_000_000, 9_800_000
"""LARGE leaves room for those who win while it is measured: a campaign has at most 10,000,000."""
MOST = 10_000_000
SETTLE_SEC = 1.0
CONNECTIONS = 32
"""So many find room in one worker's line, however they fall on the two."""
WITHIN = 1.1


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    many = run.size(LARGE if run.large else MANY, 20_000)
    campaigns = {name: _grow(run, count) for name, count in (("small", SMALL), ("many", many))}
    with Services(log_folder=run.log_folder) as services:
        web, port = start_product(services)

        def targets(*, refuse: bool) -> dict[str, Target]:
            return {
                name: Target(web, Aim(port, apply_path(pk), api_key()), refuses=refuse)
                for name, pk in campaigns.items()
            }

        admissions = targets(refuse=False)
        _go_round(run, admissions, "admissions")
        for campaign_id in campaigns.values():
            _cut(campaign_id)
        refusals = targets(refuse=True)
        for target in refusals.values():
            target.wait_for_the_lobby(connections=CONNECTIONS)
        _go_round(run, refusals, "refusals")
    found = {"refusals": refusals, "admissions": admissions}
    costs = {
        kind: {figure: ratio(both["many"], both["small"], figure) for figure in ("per_sec", "web_cpu_us")}
        for kind, both in found.items()
    }
    result = {
        "coupons": {"small": SMALL, "many": many},
        "ratios_many_to_small": costs,
        "medians": {kind: {name: each.medians() for name, each in both.items()} for kind, both in found.items()},
        "rounds": {kind: {name: each.rounds for name, each in both.items()} for kind, both in found.items()},
    }
    return result, [
        Mark(f"{kind}, rate beside 1 k coupons to that beside many", 1 / cost["per_sec"], WITHIN, "x", at_least=False)
        for kind, cost in costs.items()
    ]


def _grow(run: Run, count: int) -> UUID:
    """A campaign that is open and has given out so many coupons, here and there."""
    began = time.monotonic()
    campaign_id = open_new(f"{count} coupons", MOST)
    hold_issued(campaign_id, eight_digits(count))
    held = time.monotonic()
    hold_rows(campaign_id, count)
    run.say(f"{count} tickets in {held - began:.0f} s, as many rows in {time.monotonic() - held:.0f} s")
    return campaign_id


def _cut(campaign_id: UUID) -> None:
    """Sold out from now on."""
    admitted, last = _admitted(campaign_id), -1
    while admitted != last:  # what wrk left without waiting for the answer is still on its way
        time.sleep(SETTLE_SEC)
        admitted, last = _admitted(campaign_id), admitted
    change_campaign(campaign_id=campaign_id, changes={"quantity": admitted}, actor="benchmark")


def _admitted(campaign_id: UUID) -> int:
    epoch = Campaign.objects.values_list("epoch", flat=True).get(pk=campaign_id)
    return gate.describe(campaign_id=campaign_id, epoch=epoch).admitted


def _go_round(run: Run, targets: dict[str, Target], kind: str) -> None:
    for number in range(-1, run.repeats * run.size(2, 1)):
        order = list(targets.items())
        for name, target in order if number % 2 else reversed(order):
            load = target.warm_up if number < 0 else target.load
            load(f"{kind}-{name}-{number}-", run.size(3, 1), connections=CONNECTIONS)
    for name, target in targets.items():
        run.say(f"{kind}, {name:<6} {target}")
