"""Which partition the next messages go to."""

from typing import Any

from coupons.messaging.sticky import BY_KEY, STAY_SEC, StickyPartitions
from tests.support.clocks import Clock


def statistics(topic: str = "tickets", **changed: dict[str, Any]) -> dict[str, Any]:
    """As librdkafka gives them, of a topic with three partitions, each of which may be changed by its number."""
    partitions = {str(number): {"leader": 1, "unknown": False} | changed.get(f"p{number}", {}) for number in range(3)}
    partitions["-1"] = {"leader": -1, "unknown": False}  # of messages whose partition is not chosen yet
    return {"topics": {topic: {"partitions": partitions}}}


def test_the_key_decides_as_long_as_nothing_is_known_of_the_topic() -> None:
    partitions = StickyPartitions()
    assert partitions.current("tickets") == BY_KEY
    partitions.learn({"topics": {}})
    assert partitions.current("tickets") == BY_KEY
    partitions.learn(statistics("another"))
    assert partitions.current("tickets") == BY_KEY


def test_messages_stay_together_for_a_while_and_then_go_to_the_next_partition() -> None:
    clock = Clock(STAY_SEC / 2)
    partitions = StickyPartitions(clock=clock)
    partitions.learn(statistics())

    first = partitions.current("tickets")
    clock.advance(STAY_SEC * 0.4)
    assert partitions.current("tickets") == first
    visited = []
    for _ in range(3):
        clock.advance(STAY_SEC)
        visited.append(partitions.current("tickets"))
    assert visited == [(first + 1) % 3, (first + 2) % 3, first], "in turn, so each partition gets as much"


def test_a_partition_without_a_leader_is_left_out_until_it_has_one() -> None:
    clock = Clock()
    partitions = StickyPartitions(clock=clock)
    partitions.learn(statistics(p1={"leader": -1}))
    assert _all_visited(partitions, clock) == {0, 2}
    partitions.learn(statistics())
    assert _all_visited(partitions, clock) == {0, 1, 2}


def test_a_partition_that_is_gone_is_left_out() -> None:
    clock = Clock()
    partitions = StickyPartitions(clock=clock)
    partitions.learn(statistics(p0={"unknown": True}, p2={"unknown": True}))
    assert _all_visited(partitions, clock) == {1}


def _all_visited(partitions: StickyPartitions, clock: Clock) -> set[int]:
    visited = set()
    for _ in range(9):
        visited.add(partitions.current("tickets"))
        clock.advance(STAY_SEC)
    return visited
