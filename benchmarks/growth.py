"""Measures whether the product stays as fast with a million winners, and with 10,000 other open campaigns.

A bare DRF view runs before and after the campaigns are created, and relates the two.
"""

import time
from typing import Any
from uuid import UUID

from benchmarks.figures import Mark, at_most
from benchmarks.targets import api_key, ratio, run_rounds, started
from benchmarks.workload import Run, describe, eight_digits, fill_redis, insert_coupons, make_campaigns, open_new
from coupons.campaigns.lifecycle import change_campaign

FEW, MANY, CAMPAIGNS = 1_000, 1_000_000, 10_000
MAX_QUANTITY = 10_000_000
SETTLE_SEC = 1.0
SLICE_SEC = 2
WITHIN = 0.9


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    counts = {"few": FEW, "many": run.size(MANY, 20_000)}
    campaigns = {name: _create_filled_campaign(run, count) for name, count in counts.items()}
    rounds, seconds = run.size(2 * run.repeats, 1), run.size(SLICE_SEC, 1)
    with started(run) as (references, product):
        bare = references["bare DRF"]
        winners = {f"winners, {name}": product.winners(campaign) for name, campaign in campaigns.items()}
        run_rounds(winners, rounds=rounds, seconds=seconds)
        for campaign in campaigns.values():
            _sell_out(campaign)
        refusals = {f"refusals, {name}": product.refusals(api_key(), each) for name, each in campaigns.items()}
        run_rounds({"bare": bare, **refusals}, rounds=rounds, seconds=seconds)
        make_campaigns(run.size(CAMPAIGNS, 200))
        bare_later, later = (each.with_connections(each.connections) for each in (bare, refusals["refusals, few"]))
        run_rounds({"bare later": bare_later, "later": later}, rounds=rounds, seconds=seconds)
        memory_mib = product.memory_mib()
    targets = {**winners, **refusals, "refusals, few, beside 10,000 campaigns": later}
    beside_many = ratio(refusals["refusals, many"], refusals["refusals, few"])
    beside_campaigns = ratio(later, bare_later) / ratio(refusals["refusals, few"], bare)
    return {
        "coupons": counts,
        "rounds": {name: target.rounds for name, target in targets.items()},
        "notes": {
            **{f"{name} (few = {FEW:,}, many = {counts['many']:,})": str(each) for name, each in targets.items()},
            "web server, two workers, after it all": f"{memory_mib:.0f} MiB PSS",
        },
    }, [
        Mark("winners beside a million coupons", ratio(winners["winners, many"], winners["winners, few"]), WITHIN, "x"),
        Mark("refusals beside a million winners", beside_many, WITHIN, "x"),
        Mark("refusals beside 10,000 campaigns", beside_campaigns, WITHIN, "x"),
        at_most("web server of two workers after it all", memory_mib, 170, " MiB"),
    ]


def _create_filled_campaign(run: Run, count: int) -> UUID:
    """Creates an open campaign with this many issued coupons, in Redis and in PostgreSQL."""
    began = time.monotonic()
    campaign_id = open_new(f"{count} coupons", MAX_QUANTITY)
    fill_redis(campaign_id, eight_digits(count))
    insert_coupons(campaign_id, count)
    run.say(f"{count} coupons in {time.monotonic() - began:.0f} s")
    return campaign_id


def _sell_out(campaign_id: UUID) -> None:
    """Lowers the quantity to the admitted users, so that the campaign is sold out."""
    admitted, last = describe(campaign_id).admitted, -1
    while admitted != last:  # requests that wrk sent at its end are still being answered
        time.sleep(SETTLE_SEC)
        admitted, last = describe(campaign_id).admitted, admitted
    change_campaign(campaign_id=campaign_id, changes={"quantity": admitted}, actor="benchmark")
