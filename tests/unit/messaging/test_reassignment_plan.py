"""The file by which Kafka's own tool adds replicas to an existing topic."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import LazySettings

from coupons.messaging import topics
from coupons.runtime.process_local import ProcessLocal


class Brokers:
    """Three of them; the topic's partitions have the given replicas."""

    def __init__(self, replicas: dict[int, list[int]]) -> None:
        self._partitions = {number: SimpleNamespace(replicas=brokers) for number, brokers in replicas.items()}

    def list_topics(self, name: str, timeout: float) -> SimpleNamespace:
        topic = SimpleNamespace(error=None, partitions=self._partitions)
        return SimpleNamespace(topics={name: topic}, brokers={3: object(), 1: object(), 2: object()})

    def poll(self, timeout: float) -> int:
        return 0


@pytest.mark.parametrize(
    ("wanted", "plan"),
    [
        (3, {0: [1, 2, 3], 1: [1, 2, 3], 2: [3, 1, 2], 3: [2, 1, 3]}),
        (2, {0: [1, 2], 1: [1, 2], 2: [3, 1], 3: [2, 1]}),
        (4, {0: [1, 2, 3], 1: [1, 2, 3], 2: [3, 1, 2], 3: [2, 1, 3]}),  # Kafka has three
    ],
)
def test_each_partition_gets_what_it_lacks(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch, wanted: int, plan: dict[int, list[int]]
) -> None:
    """In turn over the brokers, and the leader stays where it is."""
    settings.TOPIC_REPLICATION = wanted
    brokers: Any = Brokers({0: [1], 1: [1], 2: [3], 3: [2, 1]})
    monkeypatch.setattr(topics, "administrator", ProcessLocal(lambda: brokers, close=lambda client: None))

    document = json.loads(topics.reassignment_plan())

    assert document["version"] == 1
    assert {each["topic"] for each in document["partitions"]} == {settings.TOPIC}
    assert {each["partition"]: each["replicas"] for each in document["partitions"]} == plan


@pytest.mark.parametrize(
    ("name", "found", "more"),
    [("retention.ms", "-1", True), ("retention.ms", "99", False), ("retention.ms", "101", True), ("x", "101", False)],
)
def test_what_keeps_more_is_told_apart(name: str, found: str, more: bool) -> None:
    assert topics.keeps_more(name, found, "100") is more
