"""Makes a schedule of faults from a seed: the same seed gives the same schedule.

A schedule stays within the promise (docs/decisions/0013): Redis and Kafka never lose their data at the same time.
All other faults may overlap, except two faults of the same part.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

REDIS, KAFKA, POSTGRES = "redis", "kafka", "postgres"
LINKS: Final = ("delayed", "held", "swallowed", "reset", "cut")
FAILPOINTS: Final = (
    "web.admitted",
    "web.produced",
    "web.acknowledged",
    "web.confirmed",
    "consumer.inserted",
    "consumer.committed",
    "consumer.settled",
    "rebuild.epoch-raised",
    "rebuild.built",
    "relay.published",
    "redemption.written",
    "redemption.committed",
)
AFTER_LOSS_SEC = 45.0
"""After Redis or Kafka lost data, the other one must keep its data for this time, so that the rebuild or the relay can
finish."""
CALM_SEC = 8.0
"""The time without faults at the beginning and at the end of a round."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault. `name` names a method in `injection.py`; `part` and `target` are what the fault affects.

    `needs` are other parts that must be healthy meanwhile, since the injection uses them.
    """

    name: str
    part: str
    target: str = ""
    shortest_sec: float = 0.0
    longest_sec: float = 0.0
    loses: str = ""
    weight: int = 1
    needs: tuple[str, ...] = ()

    @property
    def touches(self) -> tuple[str, ...]:
        return (self.part, *self.needs)


@dataclass(frozen=True, slots=True)
class Step:
    """One fault that starts `at_sec` into the round and lasts `seconds`."""

    at_sec: float
    seconds: float
    fault: Fault

    @property
    def end_sec(self) -> float:
        return self.at_sec + self.seconds

    def __str__(self) -> str:
        return f"{self.at_sec:5.1f} s  {self.fault.name} {self.fault.target} for {self.seconds:.1f} s".replace(
            "  for", " for"
        )


GROUP = "group"
CONSUMERS: Final = ("consumer-1", "consumer-2")
CLOCKS: Final = ("web-1", "keeper-1")
FROZEN_SEC = 30.0
"""Longer than a lock's time-out (20 s): a process that resumes after it acts on an outdated state."""
KINDS: Final = (
    Fault("killed", REDIS, REDIS, 0.5, 5, weight=3),
    Fault("hanging", REDIS, REDIS, 1, 6, weight=3),
    Fault("flushed", REDIS, loses=REDIS, weight=2),
    Fault("key_lost", REDIS, loses=REDIS, weight=2),
    Fault("scripts_forgotten", REDIS),
    Fault("failed_over", REDIS, "", 3, 8, loses=REDIS, weight=2),
    Fault("killed", KAFKA, KAFKA, 0.5, 5, weight=3),
    Fault("hanging", KAFKA, KAFKA, 2, 12, weight=3),
    Fault("wiped", KAFKA, loses=KAFKA),
    Fault("log_cut", KAFKA, loses=KAFKA),
    Fault("foreign_consumer", GROUP, "", 2, 8, weight=2, needs=(KAFKA,)),
    *(Fault("offsets_set", GROUP, where, needs=(KAFKA, *CONSUMERS), weight=2) for where in ("end", "beginning")),
    Fault("killed", POSTGRES, POSTGRES, 0.5, 5, weight=3),
    Fault("hanging", POSTGRES, POSTGRES, 2, 15, weight=2),
    *(Fault("standby_promoted", POSTGRES, after, 1, 8) for after in ("kill", "stop", "pause")),
    Fault("connections_ended", POSTGRES, weight=2),
    Fault("table_locked", POSTGRES, "coupons_coupon", 2, 12),
    Fault("table_locked", POSTGRES, "coupons_campaign", 2, 12),
    Fault("table_locked", POSTGRES, "coupons_auditentry", 2, 12),
    Fault("table_locked", POSTGRES, "coupons_redemption", 2, 12),
    Fault("read_only", POSTGRES, "", 3, 10),
    Fault("sequences_set_back", POSTGRES),
    *(Fault(how, f"link to {part}", part, 1, 8) for part in (REDIS, KAFKA, POSTGRES) for how in LINKS),
    *(Fault("process_killed", name, name, 0.5, 3, weight=2) for name in ("web-1", "web-2", "consumer-1", "keeper-1")),
    *(Fault("process_stopped", name, name, 0.5, 3) for name in ("web-1", "web-2", "consumer-1", "consumer-2")),
    *(Fault("process_hanging", name, name, 2, 12) for name in ("web-1", "consumer-1", "consumer-2", "keeper-1")),
    *(Fault("process_hanging", name, name, FROZEN_SEC, FROZEN_SEC) for name in ("keeper-1", "keeper-2")),
    *(Fault("worker_hanging", name, name, FROZEN_SEC, FROZEN_SEC) for name in ("web-1", "web-2")),
    *(Fault("clock_stepped", f"clock of {name}", name, 3, 20, weight=2) for name in CLOCKS),
    *(Fault("child_killed", name, name) for name in ("web-1", "web-2", "consumer-1")),
    *(Fault("dies_at", point, point, 3, 20) for point in FAILPOINTS),
    Fault("quantity_raised", "operator"),
    Fault("quantity_lowered", "operator", weight=2),
    Fault("lowered_while_audit_locked", "operator", weight=2, needs=(POSTGRES,)),
    Fault("admission_paused", "operator", "", 1, 4),
    Fault("retried", "jobs", weight=2),
    Fault("holds_tidied", "jobs", weight=2),
    Fault("ticket_refused_twice", "jobs", weight=3, needs=(POSTGRES, KAFKA, *CONSUMERS)),
)


def kinds_with(brokers: Sequence[str]) -> Sequence[Fault]:
    """Returns the kinds of faults for a stack with these brokers. Of several each may be lost alone, for as long as the
    others take to lead its partitions; their logs are not lost, and no proxy is before them."""
    if len(brokers) == 1:
        return KINDS
    left = [kind for kind in KINDS if kind.part not in (KAFKA, f"link to {KAFKA}")]
    lost = [Fault(how, KAFKA, broker, 2, 15, weight=2) for how in ("killed", "hanging") for broker in brokers]
    return [*left, *lost]


def make_round(
    seed: str, number: int, *, seconds: float, every_sec: float, kinds: Sequence[Fault] = KINDS
) -> list[Step]:
    """Makes the steps of one round, in order; about one every `every_sec`."""
    chance = random.Random(f"{seed}.{number}")
    steps: list[Step] = []
    for at_sec in _start_times(chance, seconds, every_sec):
        fault = chance.choices(kinds, [kind.weight for kind in kinds])[0]
        longest = min(fault.longest_sec, seconds - CALM_SEC - at_sec)
        if longest < fault.shortest_sec:
            continue
        step = Step(at_sec, round(chance.uniform(fault.shortest_sec, longest), 1), fault)
        if all(_can_overlap(step, other) for other in steps):
            steps.append(step)
    return steps


def kill_each(names: tuple[str, ...], *, seconds: float, every_sec: float) -> list[Step]:
    """Makes a schedule that kills the named parts in turn by SIGKILL and restarts each at once."""
    count = int(seconds / every_sec)
    chosen = [names[number % len(names)] for number in range(count)]
    return [
        Step(round((number + 1) * every_sec, 1), 0.0, Fault(_kill_of(name), name, name))
        for number, name in enumerate(chosen)
        if (number + 1) * every_sec < seconds
    ]


def _kill_of(name: str) -> str:
    return "killed" if name in (REDIS, KAFKA, POSTGRES) else "process_killed"


def _start_times(chance: random.Random, seconds: float, every_sec: float) -> Iterator[float]:
    at_sec = CALM_SEC
    while (at_sec := at_sec + chance.uniform(0.2, 1.8) * every_sec) < seconds - CALM_SEC:
        yield round(at_sec, 1)


def _can_overlap(one: Step, other: Step) -> bool:
    if one.fault.part in other.fault.touches or other.fault.part in one.fault.touches:
        return one.at_sec > other.end_sec + 1 or other.at_sec > one.end_sec + 1
    if one.fault.loses and other.fault.loses and one.fault.loses != other.fault.loses:
        return abs(one.at_sec - other.at_sec) > AFTER_LOSS_SEC
    return True
