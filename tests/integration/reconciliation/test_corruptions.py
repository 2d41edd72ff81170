"""The proof of the verifier: whatever is wrong is found and named, and what is healthy gives no alarm."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from django.conf import LazySettings
from django.db import connection
from django.db.models import BaseConstraint, Model, UniqueConstraint

from coupons.models import Coupon, Redemption
from coupons.reconciliation.differences import EXPLANATIONS, Kind
from coupons.reconciliation.reconcile import Reconciliation
from tests.support.database import delete_all_rows
from tests.support.ledger_corruptions import APART, CORRUPTIONS, LAST, Corruption, holes
from tests.support.ledger_scenes import ISSUED, Named, Scene, make_scenes
from tests.support.service import Service

SEED = "2026"
CORRUPT = int(os.environ.get("CORRUPT_CAMPAIGNS", "200"))  # five of each corruption
HEALTHY = 100


@pytest.fixture
def no_constraints(service: Service, settings: LazySettings) -> Iterator[None]:
    """The constraints that make two coupons of one user or one sequence impossible are gone, and those that make two
    redemptions of one coupon impossible; and nothing gets old."""
    settings.RELAY_AFTER_MS = 600_000  # making hundreds of campaigns takes longer than the 7 s of the relay
    unique: list[tuple[type[Model], BaseConstraint]] = [
        (Coupon, each) for each in Coupon._meta.constraints if each.name != "coupon_code_unique"
    ]
    unique += [(Redemption, each) for each in Redemption._meta.constraints if isinstance(each, UniqueConstraint)]
    with connection.schema_editor() as editor:
        for model, constraint in unique:
            editor.remove_constraint(model, constraint)
    yield
    delete_all_rows()
    with connection.schema_editor() as editor:
        for model, constraint in unique:
            editor.add_constraint(model, constraint)


def test_100_healthy_states_give_no_alarm(service: Service, settings: LazySettings) -> None:
    """Among them campaigns that were rebuilt, whose holes are told and are no alarm."""
    settings.RELAY_AFTER_MS = 600_000
    scenes = make_scenes(service, HEALTHY, seed=SEED)

    with Reconciliation() as looking:
        for scene in scenes:
            ledger = looking.ledger_of(scene.campaign)
            found = [(kind, example) for kind, each in ledger.differences.items() for example in each.examples]
            assert ledger.closes
            assert found == holes(scene), ledger.document()
            assert ledger.issued == sum(len(scene.users[role]) for role in (*ISSUED, "retried"))
            assert ledger.statuses == {
                "unused": sum(len(scene.users[role]) for role in ("issued", "retried", "returned")),
                **{status: len(scene.users[status]) for status in ("held", "redeemed", "revoked")},
                "expired": 0,
            }
            assert ledger.failed == len(scene.users["failed"]) + len(scene.users["given_up"])
            assert ledger.pending == len(scene.users["unread"]) + len(scene.users["young"])
            assert ledger.unread == len(scene.users["unread"])
        assert looking.topic.closes
        assert looking.find_orphans().closes
    assert any(scene.rebuilt for scene in scenes)


@pytest.mark.timeout(600)  # for 500 of them: a minute on a quiet machine, and three workers share one
def test_seeded_corruptions_are_found_and_named_rightly(service: Service, no_constraints: None) -> None:
    """One to three in each campaign. Nothing else is named: an alarm that says too much is not read."""
    scenes = make_scenes(service, CORRUPT, seed=SEED)
    expected = [_corrupt(scene, CORRUPTIONS[number % len(CORRUPTIONS)]) for number, scene in enumerate(scenes)]

    wrong = []
    with Reconciliation() as looking:
        for scene, (done, named) in zip(scenes, expected, strict=True):
            ledger = looking.ledger_of(scene.campaign)
            if not _is_named(named, {kind: each.examples for kind, each in ledger.differences.items()}):
                wrong.append((done, named, ledger.document()["differences"]))
            harmless = all(EXPLANATIONS[kind].heals for kind, _ in named)
            if ledger.closes != harmless:
                wrong.append((done, named, f"closes: {ledger.closes}"))
        orphans = looking.find_orphans()
    without_coupon = [orphan for scene in scenes for orphan in scene.orphans]

    assert not wrong, f"{len(wrong)} of {CORRUPT}, the first: {wrong[:3]}"
    assert {kind: each.count for kind, each in orphans.differences.items()} == Counter(
        kind for kind, _ in without_coupon
    )
    assert {(kind, example) for kind, each in orphans.differences.items() for example in each.examples} <= set(
        without_coupon
    )
    named_kinds = {kind for _, named in [*expected, ([], without_coupon)] for kind, _ in named}
    assert named_kinds == set(Kind), "every kind was there"
    assert sum(len(done) > 1 for done, _ in expected) > CORRUPT / 4, "and combinations"


def _corrupt(scene: Scene, first: Corruption) -> tuple[list[str], Named]:
    """What was done, and what must be named. The first one if the scene has a place for it."""
    more = scene.chance.choice((0, 0, 1, 2))
    chosen = [first, *scene.chance.sample(CORRUPTIONS, more)]
    in_order = [each for each in dict.fromkeys(chosen) if each not in LAST] + [each for each in LAST if each in chosen]
    if len(APART & set(in_order)) > 1:
        in_order.remove(next(iter(APART & set(in_order[1:]))))
    done, named = _apply(scene, in_order)
    while not done:
        done, named = _apply(scene, [scene.chance.choice(CORRUPTIONS)])
    return done, [*named, *holes(scene)]


def _apply(scene: Scene, corruptions: Sequence[Corruption]) -> tuple[list[str], Named]:
    done: list[str] = []
    named: Named = []
    for corruption in corruptions:
        result = corruption(scene)
        if result is not None:
            done.append(corruption.__name__)
            named += result
    return done, named


def _is_named(named: Named, found: dict[Kind, list[str]]) -> bool:
    return {kind for kind, _ in named} == set(found) and all(
        any(example.startswith(beginning) for example in found[kind]) for kind, beginning in named
    )
