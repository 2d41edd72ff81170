"""Measures whether the product stays as fast with a million winners, and with 10,000 other open campaigns.

Slices alternate between two campaigns of one web server: one with a thousand coupons, and one with a million (rows and
tickets). At the end the run creates 10,000 campaigns. A bare DRF view runs before and after, and relates the two.
"""

import time
from typing import Any
from uuid import UUID

from benchmarks.figures import Mark, at_most
from benchmarks.sandbox import spare_topic
from benchmarks.targets import Target, api_key, ratio, run_rounds, start_product, start_references
from benchmarks.workload import Run, eight_digits, fill_redis, insert_coupons, make_campaigns, open_new
from coupons.admission import campaign_store
from coupons.campaigns.lifecycle import change_campaign
from coupons.models import Campaign
from harness import Services

FEW, MANY, CAMPAIGNS = 1_000, 1_000_000, 10_000
MAX_QUANTITY = 10_000_000
SETTLE_SEC = 1.0
SLICE_SEC = 2
WITHIN = 0.9
MEMORY_MIB = 170.0


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    counts = {"few": FEW, "many": run.size(MANY, 20_000)}
    campaigns = {name: _create_filled_campaign(run, count) for name, count in counts.items()}
    rounds, seconds = run.size(2 * run.repeats, 1), run.size(SLICE_SEC, 1)
    with spare_topic("blog") as topic, Services(log_folder=run.log_folder) as services:
        bare = start_references(services, topic)["bare DRF"]
        product = start_product(services)
        winners = {f"winners, {name}": product.winners(campaign) for name, campaign in campaigns.items()}
        run_rounds(winners, rounds=rounds, seconds=seconds)
        for campaign in campaigns.values():
            _sell_out(campaign)
        refusals = {f"refusals, {name}": product.refusals(api_key(), each) for name, each in campaigns.items()}
        run_rounds({"bare": bare, **refusals}, rounds=rounds, seconds=seconds)
        make_campaigns(run.size(CAMPAIGNS, 200))
        bare_later, later = (
            bare.with_connections(bare.connections),
            refusals["refusals, few"].with_connections(bare.connections),
        )
        run_rounds({"bare later": bare_later, "later": later}, rounds=rounds, seconds=seconds)
        memory_mib = product.memory_mib()
    targets = {**winners, **refusals, "refusals, few, beside 10,000 campaigns": later}
    known = ratio(later, bare_later) / ratio(refusals["refusals, few"], bare)
    return {
        "coupons": counts,
        "rounds": {name: target.rounds for name, target in targets.items()},
        "notes": {
            **{f"{name} (few = {FEW:,}, many = {counts['many']:,})": str(each) for name, each in targets.items()},
            "web server, two workers, after it all": f"{memory_mib:.0f} MiB PSS",
        },
    }, [
        Mark("winners beside a million coupons", _cost(winners, "winners"), WITHIN, "x"),
        Mark("refusals beside a million winners", _cost(refusals, "refusals"), WITHIN, "x"),
        Mark("refusals beside 10,000 campaigns", known, WITHIN, "x"),
        at_most("web server of two workers after it all", memory_mib, MEMORY_MIB, " MiB"),
    ]


def _cost(targets: dict[str, Target], kind: str) -> float:
    return ratio(targets[f"{kind}, many"], targets[f"{kind}, few"])


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
    admitted, last = _admitted(campaign_id), -1
    while admitted != last:  # requests that wrk sent at its end are still being answered
        time.sleep(SETTLE_SEC)
        admitted, last = _admitted(campaign_id), admitted
    change_campaign(campaign_id=campaign_id, changes={"quantity": admitted}, actor="benchmark")


def _admitted(campaign_id: UUID) -> int:
    epoch = Campaign.objects.values_list("epoch", flat=True).get(pk=campaign_id)
    return campaign_store.describe(campaign_id=campaign_id, epoch=epoch).admitted
