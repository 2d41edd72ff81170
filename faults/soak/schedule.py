"""What goes wrong when: made from a seed, so that the same seed gives the same schedule again.

A schedule keeps out of what is outside the promise (docs/decisions/0013): the data of Redis and of Kafka are not both
lost at a time. Everything else may overlap, but two faults of the same part.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

REDIS, KAFKA, POSTGRES = "redis", "kafka", "postgres"
LINKS: Final = ("delayed", "held", "swallowed", "reset", "cut")
FAILPOINTS: Final = (
    "web.admitted",
    "web.produced",
    "web.acknowledged",
    "consumer.inserted",
    "consumer.committed",
    "consumer.settled",
    "mend.epoch-raised",
    "mend.built",
    "relay.published",
)
AFTER_LOSS_SEC = 45.0
"""So long after one of the two lost data the other must not: until the mend, or the relay, has made it good."""
CALM_SEC = 8.0
"""At the beginning and at the end of a round nothing goes wrong."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault: its name is that of a method in `injection.py`. `part` = what it concerns, with `target`."""

    name: str
    part: str
    target: str = ""
    shortest_sec: float = 0.0
    longest_sec: float = 0.0
    loses: str = ""
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """One fault, from `at_sec` of the round on, for `seconds`."""

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


KINDS: Final = (
    Fault("killed", REDIS, REDIS, 0.5, 5, weight=3),
    Fault("hanging", REDIS, REDIS, 1, 6, weight=3),
    Fault("flushed", REDIS, loses=REDIS, weight=2),
    Fault("key_lost", REDIS, loses=REDIS, weight=2),
    Fault("scripts_forgotten", REDIS),
    Fault("killed", KAFKA, KAFKA, 0.5, 5, weight=3),
    Fault("hanging", KAFKA, KAFKA, 2, 12, weight=3),
    Fault("wiped", KAFKA, loses=KAFKA),
    Fault("killed", POSTGRES, POSTGRES, 0.5, 5, weight=3),
    Fault("hanging", POSTGRES, POSTGRES, 2, 15, weight=2),
    Fault("connections_ended", POSTGRES, weight=2),
    Fault("table_locked", POSTGRES, "coupons_coupon", 2, 12),
    Fault("table_locked", POSTGRES, "coupons_campaign", 2, 12),
    Fault("read_only", POSTGRES, "", 3, 10),
    *(Fault(how, f"link to {part}", part, 1, 8) for part in (REDIS, KAFKA, POSTGRES) for how in LINKS),
    *(Fault("process_killed", name, name, 0.5, 3, weight=2) for name in ("web-1", "web-2", "consumer-1", "keeper-1")),
    *(Fault("process_stopped", name, name, 0.5, 3) for name in ("web-1", "web-2", "consumer-1", "consumer-2")),
    *(Fault("process_hanging", name, name, 2, 12) for name in ("web-1", "consumer-1", "consumer-2", "keeper-1")),
    *(Fault("child_killed", name, name) for name in ("web-1", "web-2", "consumer-1")),
    *(Fault("dies_at", point, point, 3, 20) for point in FAILPOINTS),
    Fault("quantity_raised", "operator"),
    Fault("admission_paused", "operator", "", 1, 4),
    Fault("retried", "jobs", weight=2),
)


def make_round(seed: str, number: int, *, seconds: float, every_sec: float) -> list[Step]:
    """The steps of one round, in their order; about one each `every_sec`."""
    chance = random.Random(f"{seed}.{number}")
    steps: list[Step] = []
    for at_sec in _moments(chance, seconds, every_sec):
        fault = chance.choices(KINDS, [kind.weight for kind in KINDS])[0]
        longest = min(fault.longest_sec, seconds - CALM_SEC - at_sec)
        if longest < fault.shortest_sec:
            continue
        step = Step(at_sec, round(chance.uniform(fault.shortest_sec, longest), 1), fault)
        if all(_go_together(step, other) for other in steps):
            steps.append(step)
    return steps


def kill_each(names: tuple[str, ...], *, seconds: float, every_sec: float) -> list[Step]:
    """One after the other by SIGKILL, each started again at once."""
    count = int(seconds / every_sec)
    chosen = [names[number % len(names)] for number in range(count)]
    return [
        Step(round((number + 1) * every_sec, 1), 0.0, Fault(_kill_of(name), name, name))
        for number, name in enumerate(chosen)
        if (number + 1) * every_sec < seconds
    ]


def _kill_of(name: str) -> str:
    return "killed" if name in (REDIS, KAFKA, POSTGRES) else "process_killed"


def _moments(chance: random.Random, seconds: float, every_sec: float) -> Iterator[float]:
    at_sec = CALM_SEC
    while (at_sec := at_sec + chance.uniform(0.2, 1.8) * every_sec) < seconds - CALM_SEC:
        yield round(at_sec, 1)


def _go_together(one: Step, other: Step) -> bool:
    if one.fault.part == other.fault.part:
        return one.at_sec > other.end_sec + 1 or other.at_sec > one.end_sec + 1
    if one.fault.loses and other.fault.loses and one.fault.loses != other.fault.loses:
        return abs(one.at_sec - other.at_sec) > AFTER_LOSS_SEC
    return True
