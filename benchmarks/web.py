"""Measures winners and refusals in closed loops: the product, an older commit, a bare DRF view, the blog's design."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.figures import Mark, at_most
from benchmarks.targets import (
    Product,
    Target,
    api_key,
    apply_once,
    older_product,
    ratio,
    run_rounds,
    started,
    token_settings,
    tokens,
)
from benchmarks.workload import Run

CONNECTIONS = (64, 256, 1_000)
MAX_TOKENS = 10_000
"""Enough users that none of them reaches the request limit of a user."""
SLICE_SEC = 3


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    rounds, seconds = run.size(2 * run.repeats, 1), run.size(SLICE_SEC, 1)
    bearers = tokens(run.size(MAX_TOKENS, 1_000))
    with ExitStack() as stack:
        environment = token_settings(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        references, product = stack.enter_context(started(run, environment))
        products = {"product": product}
        if run.older:
            products["older"] = stack.enter_context(older_product(run, environment))
        admitting = {name: references[name] for name in ("bare DRF", "blog")}
        admitting |= {name: each.winners() for name, each in products.items()}
        winners = {f"{name}, {on}": each.with_connections(on) for on in CONNECTIONS for name, each in admitting.items()}
        run_rounds(winners, rounds=rounds, seconds=seconds)
        refusals = {name: target for name, target in references.items() if name != "blog"}
        for name, product in products.items():
            refusals |= {f"{name}, key": product.refusals(api_key()), f"{name}, token": product.refusals(bearers)}
        run_rounds(refusals, rounds=rounds, seconds=seconds)
        _check(products, bearers)
    found = {"winners": winners, "refusals": refusals}
    for kind, targets in found.items():
        for name, target in targets.items():
            run.say(f"{kind:<9}{name:<16} {target}")
    return {
        "medians": {kind: {name: each.medians() for name, each in targets.items()} for kind, targets in found.items()},
        "rounds": {kind: {name: each.rounds for name, each in targets.items()} for kind, targets in found.items()},
    }, _marks(winners, refusals)


def _check(products: dict[str, Product], bearers: list[str]) -> None:
    """Checks that refusals were 409: wrk counts any answer of 400 and above."""
    for product in products.values():
        for user, bearer in ((1, bearers[0]), (2, bearers[1]), (1, api_key()[0])):
            status = apply_once(product.port, product.sold_out, str(user), bearer)
            assert status == 409, status


def _marks(winners: dict[str, Target], refusals: dict[str, Target]) -> list[Mark]:
    few, some, many = (winners[f"product, {on}"] for on in CONNECTIONS)
    told_503 = max(each.medians()["wrong"] for each in (some, many))
    marks = [
        Mark("winners, 64 connections, against a bare DRF view", ratio(few, winners["bare DRF, 64"]), 0.55, "x"),
        Mark("winners, 64 connections, against the blog's design", ratio(few, winners["blog, 64"]), 1, "x"),
        Mark("winners, 256 connections, against 64", ratio(some, few), 1.2, "x"),
        Mark("winners, 1,000 connections, against 64", ratio(many, few), 1.2, "x"),
        at_most("winners, 256 and 1,000 connections, share told 5xx", told_503, 0, ""),
        at_most("winners, 1,000 connections, p99", many.medians()["p99_ms"], 600, " ms"),
    ]
    if "older, 64" in winners:
        of_older = ratio(few, winners["older, 64"])
        marks.append(Mark("winners, 64 connections, against the older commit", of_older, 2.3, "x"))
        for caller, limit in (("key", 0.5), ("token", 0.75)):
            of_older = ratio(refusals[f"product, {caller}"], refusals[f"older, {caller}"])
            marks.append(Mark(f"refusals, {caller}, against the older commit", of_older, limit, "x"))
    return marks
