"""The soak's schedule: the same seed gives the same one, and nothing in it is outside the promise."""

from itertools import pairwise

from coupons.runtime.failpoints import POINTS
from faults.soak import schedule
from faults.soak.injection import Injection
from faults.soak.schedule import (
    AFTER_LOSS_SEC,
    CALM_SEC,
    FAILPOINTS,
    FROZEN_SEC,
    KINDS,
    Step,
    kill_each,
    kinds_with,
    make_round,
)

SECONDS = 90.0


def rounds(count: int = 300) -> list[list[Step]]:
    return [make_round("seed", number, seconds=SECONDS, every_sec=7) for number in range(count)]


def test_a_seed_and_number_determine_a_round() -> None:
    assert rounds(20) == rounds(20)
    assert make_round("seed", 1, seconds=SECONDS, every_sec=7) != make_round("seed", 2, seconds=SECONDS, every_sec=7)
    assert make_round("seed", 1, seconds=SECONDS, every_sec=7) != make_round("dees", 1, seconds=SECONDS, every_sec=7)


def test_no_part_has_two_faults_at_a_time() -> None:
    together = 0
    for steps in rounds():
        parts = {step.fault.part for step in steps}
        for part in parts:
            own = [step for step in steps if step.fault.part == part]
            assert all(after.at_sec > before.end_sec for before, after in pairwise(own))
        together += any(after.at_sec < before.end_sec for before, after in pairwise(steps))
    assert together > 200


def test_nothing_is_wrong_with_what_a_fault_needs() -> None:
    """Offsets are set while the group is empty: a consumer that stands still would be in it."""
    needing = 0
    for steps in rounds():
        for step in steps:
            beside = [other for other in steps if other.at_sec < step.end_sec and step.at_sec < other.end_sec]
            assert not {other.fault.part for other in beside if other is not step} & set(step.fault.needs)
            needing += bool(step.fault.needs)
    assert needing > 100


def test_some_stand_still_for_longer_than_a_lock_waits() -> None:
    frozen = {step.fault.target for steps in rounds() for step in steps if step.seconds == FROZEN_SEC}

    assert FROZEN_SEC > 20
    assert frozen == {"keeper-1", "keeper-2", "web-1", "web-2"}


def test_a_round_may_be_of_one_kind_alone() -> None:
    kinds = [kind for kind in KINDS if kind.name == "log_cut"]

    assert {step.fault for step in make_round("seed", 1, seconds=SECONDS, every_sec=7, kinds=kinds)} == set(kinds)


def test_redis_and_kafka_never_lose_data_together() -> None:
    both = 0
    for steps in rounds():
        lost = {part: [step.at_sec for step in steps if step.fault.loses == part] for part in ("redis", "kafka")}
        assert all(abs(one - other) > AFTER_LOSS_SEC for one in lost["redis"] for other in lost["kafka"])
        both += bool(lost["redis"] and lost["kafka"])
    assert both, "far enough from each other they may"


def test_a_round_begins_and_ends_healthy() -> None:
    for steps in rounds():
        assert steps
        assert all(CALM_SEC <= step.at_sec <= step.end_sec <= SECONDS - CALM_SEC + 0.1 for step in steps)


def test_every_kind_of_fault_comes_and_can_be_injected() -> None:
    assert {step.fault for steps in rounds() for step in steps} == set(KINDS)
    names = {kind.name for kind in KINDS if not kind.part.startswith("link to ")}
    assert all(callable(getattr(Injection, f"_{name}")) for name in names)
    assert {kind.name for kind in KINDS if kind.part.startswith("link to ")} == set(schedule.LINKS)
    assert set(FAILPOINTS) <= POINTS


def test_a_standby_is_promoted_after_every_way_to_lose_the_primary() -> None:
    lost = {step.fault.target for steps in rounds() for step in steps if step.fault.name == "standby_promoted"}

    assert lost == {"kill", "stop", "pause"}


def test_of_three_brokers_one_is_lost_at_a_time() -> None:
    kinds = kinds_with(["kafka", "kafka-2", "kafka-3"])

    assert {kind.target for kind in kinds if kind.part == "kafka"} == {"kafka", "kafka-2", "kafka-3"}
    assert not [kind for kind in kinds if kind.loses == "kafka" or kind.part == "link to kafka"]
    assert kinds_with(["kafka"]) == KINDS


def test_kills_come_one_at_a_time_in_turn() -> None:
    steps = kill_each(("web-1", "redis"), seconds=50, every_sec=10)

    assert [(step.at_sec, step.fault.name, step.fault.target) for step in steps] == [
        (10.0, "process_killed", "web-1"),
        (20.0, "killed", "redis"),
        (30.0, "process_killed", "web-1"),
        (40.0, "killed", "redis"),
    ]
