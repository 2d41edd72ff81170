"""What the verifier says of a difference is true: it heals by itself, or the command that it names heals it."""

import shlex

from django.conf import LazySettings

from coupons.reconciliation.differences import BY_HAND, EXPLANATIONS, Kind
from coupons.reconciliation.reconcile import Reconciliation
from tests.support import ledger_corruptions as corruptions
from tests.support.ledger_corruptions import CORRUPTIONS, Corruption
from tests.support.ledger_scenes import Scene, make_scenes
from tests.support.life_corruptions import LIFE_CORRUPTIONS
from tests.support.service import Service
from tests.support.waiting import wait_until

# Only a person can decide which of two rows stays, and then the constraint must be restored; or name a key; or ask the
# shop what became of an order.
NOT_BY_A_COMMAND = (
    *LIFE_CORRUPTIONS,
    corruptions.give_a_user_a_second_coupon,
    corruptions.give_a_coupons_sequence_to_somebody_else,
    corruptions.sign_with_a_key_that_nobody_knows,
)
SEED = "heal"
LONG_DELIVERY = {"COUPON_DELIVERY_TIMEOUT_MS": "120000"}  # and a second more for the relay


def test_each_difference_heals_as_the_verifier_says(service: Service, settings: LazySettings) -> None:
    """One campaign for each way to corrupt it; then the real commands, a keeper, a consumer, and a run of the retry."""
    settings.RELAY_AFTER_MS = 600_000
    chosen = [each for each in CORRUPTIONS if each not in NOT_BY_A_COMMAND]
    scenes = make_scenes(service, len(chosen), seed=SEED, share_rebuilt=0.0)
    kinds = _corrupt(scenes, chosen)
    by_hand = {kind for kind, explanation in EXPLANATIONS.items() if explanation.command == BY_HAND}
    assert kinds >= set(Kind) - by_hand - {Kind.GAP, Kind.UNKNOWN_KEY}

    for command in _commands(service):
        process = service.run(*command, **LONG_DELIVERY)
        assert process.exit_code == 0, process.output
    service.keeper()
    service.consumer()
    service.run("retry_failed_coupons")

    wait_until(lambda: not _differences(), within_sec=60, what=lambda: f"every ledger closes: {_differences()}")


def _corrupt(scenes: list[Scene], chosen: list[Corruption]) -> set[Kind]:
    kinds = set()
    for scene, corruption in zip(scenes, chosen, strict=True):
        named = corruption(scene)
        assert named is not None, f"seed {SEED} gives {corruption.__name__} nothing to do"
        kinds |= {kind for kind, _ in [*named, *corruptions.holes(scene)]}
    return kinds


def _commands(service: Service) -> list[list[str]]:
    """Those that the verifier names; campaigns of the same command go together, since each rebuild waits 2.5 s."""
    together: dict[tuple[str, ...], list[str]] = {}
    alone = []
    with Reconciliation() as looking:
        for campaign in looking.campaigns:
            ledger = looking.ledger_of(campaign)
            for kind in ledger.differences:
                words = shlex.split(ledger.command(kind))[1:]  # without manage.py
                if not words:
                    assert EXPLANATIONS[kind].heals
                elif words[0] == "rebuild_admission":
                    together.setdefault((words[0], *words[2:]), []).append(words[1])
                else:
                    alone.append(words)
    rebuilds = [[name, *ids, *more] for (name, *more), ids in together.items()]
    return [*alone, *rebuilds]


def _differences() -> list[object]:
    """But for holes, which stay."""
    with Reconciliation() as looking:
        ledgers = [looking.ledger_of(campaign) for campaign in looking.campaigns]
    return [(ledger.name, each) for ledger in ledgers for each in ledger.differences.values() if each.kind != Kind.GAP]
