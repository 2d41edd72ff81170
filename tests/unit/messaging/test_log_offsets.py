"""The ends of the log: what a broker did not say is no offset."""

from collections import deque
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # re-exported without __all__
from django.conf import LazySettings

from coupons.errors import LogUnavailable
from coupons.messaging import topics

PARTITION = TopicPartition("t", 0)
HANGS = -1001


class Brokers:
    """Give these offsets of partition 0, one after the other, and the last one for ever."""

    def __init__(self, *offsets: int) -> None:
        self._offsets = deque(offsets)

    def list_offsets(self, asked: dict[TopicPartition, Any], **options: Any) -> dict[TopicPartition, Future[Any]]:
        answer: Future[Any] = Future()
        answer.set_result(
            SimpleNamespace(offset=self._offsets.popleft() if len(self._offsets) > 1 else self._offsets[0])
        )
        return dict.fromkeys(asked, answer)

    def poll(self, timeout: float) -> int:
        return 0


def ends(monkeypatch: pytest.MonkeyPatch, brokers: Brokers) -> dict[int, int]:
    monkeypatch.setattr(topics, "administrator", lambda: brokers)
    return topics.log_offsets([PARTITION], OffsetSpec.latest())  # type: ignore[no-untyped-call]


def test_a_leader_that_hangs_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ends(monkeypatch, Brokers(HANGS, HANGS, 7)) == {0: 7}


def test_a_leader_that_does_not_answer_is_an_outage(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> None:
    settings.KAFKA_REQUEST_TIMEOUT_MS = 300

    with pytest.raises(LogUnavailable, match="a leader does not answer"):
        ends(monkeypatch, Brokers(HANGS))
