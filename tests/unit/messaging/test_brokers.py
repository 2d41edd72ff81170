"""A client's statistics say whether it still has a broker; only when they have long named none is it lost."""

import json
import logging
from typing import Any

import pytest

from coupons.messaging.kafka import ClientStatistics

SERVER = {"b/1": {"source": "learned"}}
BOOTSTRAP = {"b/bootstrap": {"source": "configured"}}
# What a consumer keeps when all its brokers are gone, and what every client has within itself.
NO_SERVERS = {"GroupCoordinator": {"source": "logical"}, ":0/internal": {"source": "internal"}}


def after(*documents: tuple[float, dict[str, Any]]) -> bool:
    """Whether they are lost by what was said at these seconds."""
    known = ClientStatistics()
    for second, brokers in documents:
        known.read(json.dumps({"ts": int(second * 1_000_000), "brokers": brokers}))
    return known.has_lost_brokers


@pytest.mark.parametrize("none", [{}, NO_SERVERS])
def test_two_seconds_without_a_broker_count_as_lost(none: dict[str, Any]) -> None:
    assert after((100, SERVER), (101, none), (103, none))


@pytest.mark.parametrize("some", [SERVER, BOOTSTRAP, NO_SERVERS | SERVER])
def test_a_client_that_knows_a_broker_has_not_lost_it(some: dict[str, Any]) -> None:
    assert not after((1, some), (3, some), (60, some))


def test_a_moment_without_is_how_a_client_begins_anew() -> None:
    assert not after((1, SERVER), (2, {}), (3.9, {}))
    assert not after((1, SERVER), (2, {}), (3, BOOTSTRAP), (4, {}), (5.9, {}))


def test_what_was_lost_and_is_there_again_is_not_lost() -> None:
    assert not after((1, {}), (4, {}), (5, SERVER))


def test_statistics_that_cannot_be_read_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    known = ClientStatistics()
    with caplog.at_level(logging.ERROR):
        for document in ("no JSON", "[]", '{"brokers": {"b": 1}}'):
            known.read(document)

    assert not known.has_lost_brokers
    assert caplog.messages == ["kafka.statistics_unreadable"] * 3
