"""A failover of Redis begins when the primary counts its replica as online, which is after the replica says so."""

from collections.abc import Iterator

import pytest
from redis.exceptions import ResponseError

from tests.support.replica import hand_over

PORT = 26_001


class Primary:
    """Counts its replica as online when it has been asked twice, and is itself in step at once."""

    def __init__(self) -> None:
        self._states: Iterator[str] = iter(["wait_bgsave", "send_bulk"])
        self._state = ""
        self.handed_to: int | None = None

    def info(self, _: str) -> dict[str, object]:
        self._state = next(self._states, "online")
        replica = {"ip": "127.0.0.1", "port": PORT, "state": self._state, "offset": 0, "lag": 0}
        return {"role": "master", "connected_slaves": 1, "slave0": replica, "master_link_status": "up"}

    def execute_command(self, *words: object) -> None:
        if self._state != "online":
            raise ResponseError("FAILOVER target replica is not online.")
        self.handed_to = int(str(words[-1]))


def test_a_hand_over_waits_until_the_replica_is_online() -> None:
    primary = Primary()

    hand_over(primary, PORT)

    assert primary.handed_to == PORT


def test_another_replica_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.replica.ONLINE_SEC", 0.1)

    with pytest.raises(AssertionError, match="online"):
        hand_over(Primary(), PORT + 1)
