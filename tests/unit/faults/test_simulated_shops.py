"""The checker of redemptions on simulated checkouts: no alarm for a correct one, and one for each that is spoilt."""

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from faults.history import Action, Checkout, History
from faults.history_check import check_history
from faults.verdict import CampaignRows, Kind, RedemptionRow
from tests.support.simulated_shops import ShopSimulation

HEALTHY_SEEDS = range(1_000)
CORRUPT_SEEDS = 40
Spoilt = tuple[History, CampaignRows] | None


def test_no_alarm_in_any_history_of_a_correct_checkout() -> None:
    seen = Counter[str]()
    for seed in HEALTHY_SEEDS:
        history, rows = ShopSimulation(seed).run()
        verdict = check_history(history, [rows])
        assert verdict.holds, f"seed {seed}: {verdict}"
        seen += Counter({f"{each.action} {each.status} {each.code}".strip() for each in history.checkouts})
        seen += Counter({f"{each.state} in the end" for each in rows.redemptions})
    for needed in (
        "redeem 201", "redeem 200", "hold 201", "confirm 200", "return 200", "redeem 0 timeout", "return 0 timeout",
        "redeem 503 unavailable", "redeem 0 no-connection", "redeem 409 already-redeemed", "redeem 409 held",
        "redeem 409 order-returned", "redeem 403 not-yours", "confirm 409 hold-ended", "lapsed in the end",
        "returned in the end",
    ):  # fmt: skip
        assert seen[needed] >= 20, f"these histories show all that they are to show: {needed} in {seen}"


def _told(history: History, random: Random, *actions: Action) -> Checkout | None:
    told = [each for each in history.checkouts if each.succeeded and each.action in actions]
    return random.choice(told) if told else None


def lose_a_row(history: History, rows: CampaignRows, random: Random) -> Spoilt:
    told = _told(history, random, Action.REDEEM, Action.CONFIRM)
    if told is None:
        return None
    return history, replace(rows, redemptions=[each for each in rows.redemptions if each.id != told.body["id"]])


def forget_a_return(history: History, rows: CampaignRows, random: Random) -> Spoilt:
    told = _told(history, random, Action.RETURN)
    if told is None:
        return None
    kept = [each if each.id != told.body["id"] else each._replace(state="redeemed") for each in rows.redemptions]
    return history, replace(rows, redemptions=kept)


def let_a_rival_win_too(history: History, rows: CampaignRows, random: Random) -> Spoilt:
    """One who was told `already-redeemed`, while the redeemed one lived for certain, is told of a success."""
    refused = [each for each in history.checkouts if each.code == "already-redeemed"]
    lasting = {each.user_id for each in history.checkouts if each.action is Action.REDEEM and each.succeeded} - {
        each.user_id for each in history.checkouts if each.action is Action.RETURN
    }
    victims = [each for each in refused if each.user_id in lasting]
    if not victims:
        return None
    victim = random.choice(victims)
    first = next(
        each
        for each in history.checkouts
        if each.user_id == victim.user_id and each.succeeded and each.body.get("status") == "redeemed"
    )
    if first.end > victim.start:
        return None
    body = {**first.body, "id": "another", "order_ref": victim.order_ref}
    won = replace(victim, status=201, body=body)
    told = [won if each is victim else each for each in history.checkouts]
    more = RedemptionRow("another", victim.user_id, victim.order_ref, "redeemed")
    return History(history.requests, [], told), replace(rows, redemptions=[*rows.redemptions, more])


def give_an_order_another_id(history: History, rows: CampaignRows, random: Random) -> Spoilt:
    told = _told(history, random, Action.REDEEM, Action.HOLD)
    if told is None:
        return None
    kept = [each if each.id != told.body["id"] else each._replace(id="another") for each in rows.redemptions]
    return history, replace(rows, redemptions=kept)


SPOILT = {
    lose_a_row: {Kind.REDEMPTION_LOST, Kind.RETURN_LOST},
    forget_a_return: {Kind.RETURN_LOST},
    let_a_rival_win_too: {Kind.TWICE_LIVE},
    give_an_order_another_id: {Kind.TWO_IDS},
}


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_a_spoilt_history_is_found(spoil: Any) -> None:
    spoilt = 0
    for seed in range(5_000):
        done = spoil(*ShopSimulation(seed).run(), Random(seed))
        if done is not None:
            verdict = check_history(done[0], [done[1]])
            kinds = {finding.kind for finding in verdict.findings}
            assert kinds & SPOILT[spoil], f"seed {seed}: {verdict}"
            spoilt += 1
        if spoilt == CORRUPT_SEEDS:
            return
    raise AssertionError(f"{spoilt} of {CORRUPT_SEEDS}")
