"""Notices a client that has lost its brokers for good.

librdkafka drops a broker that metadata no longer name; when it was the last one it is to begin again with
bootstrap.servers, and sometimes does not. Such a client connects to nobody for ever, and no error says so: a producer's
messages time out, a consumer is silent (docs/decisions/0006). Only its statistics show it.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

# The beginning anew, where it happens, takes milliseconds.
LOST_AFTER_SEC = 2.0
# Who named a broker, as STATISTICS.md has it. The others are no servers: a group's coordinator, the client's own queue.
SERVERS = ("learned", "configured")


class BrokersLost(Exception):
    """A client that connects to nobody any more: only a new one helps."""


class KnownBrokers:
    """Of one client; `are_lost` when its statistics, of which `learn` gets each, have named no server for
    LOST_AFTER_SEC by the client's own clock (a busy process may read them late)."""

    def __init__(self) -> None:
        self.are_lost = False
        self._none_since_us: int | None = None

    def learn(self, statistics: Mapping[str, Any]) -> None:
        if any(broker.get("source") in SERVERS for broker in statistics.get("brokers", {}).values()):
            self._none_since_us, self.are_lost = None, False
            return
        now_us = int(statistics.get("ts", 0))
        if self._none_since_us is None:
            self._none_since_us = now_us
        self.are_lost = now_us - self._none_since_us >= LOST_AFTER_SEC * 1_000_000

    def on_statistics(self, document: str) -> None:
        """librdkafka's `stats_cb`. Never raises: that would come out of poll()."""
        try:
            self.learn(json.loads(document))
        except (ValueError, TypeError, AttributeError):
            logger.exception("kafka.statistics_unreadable")
