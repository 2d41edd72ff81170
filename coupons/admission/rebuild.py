"""Rebuilds a campaign in Redis: closes it, builds its new state beside the old one, and swaps it in."""

from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError

from coupons.admission import scripts
from coupons.admission.campaign_store import CampaignSettings
from coupons.admission.keys import building_keys, campaign_keys, rebuilder_key
from coupons.errors import GateUnavailable, StateStale
from coupons.runtime.failpoints import REBUILD_BUILT, failpoint

CHUNK = 1_000
BUILDING_TTL_SEC = 3_600


@dataclass(frozen=True, slots=True)
class Rebuilding:
    """A rebuild that has begun. `next_sequence` and `epoch` come from the old state: 1 and 0 if it had none."""

    campaign_id: UUID
    token: str
    run_id: str
    next_sequence: int
    epoch: int


@dataclass(slots=True)
class BuiltState:
    """The new tickets of a campaign, user -> sequence, and user -> score of those that are pending."""

    tickets: dict[str, int] = field(default_factory=dict)
    pending: dict[str, float] = field(default_factory=dict)
    highest_sequence: int = 0

    def add_pending(self, user_id: str, sequence: int, score: float) -> None:
        self._add(user_id, sequence)
        self.pending[user_id] = score

    def add_settled(self, user_id: str, sequence: int) -> None:
        self._add(user_id, sequence)
        self.pending.pop(user_id, None)

    def _add(self, user_id: str, sequence: int) -> None:
        self.tickets[user_id] = sequence
        self.highest_sequence = max(self.highest_sequence, sequence)


def begin_rebuild(*, campaign_id: UUID, token: str) -> Rebuilding:
    """Closes the campaign (every script returns STALE from now on) and takes the right to rebuild it."""
    keys = campaign_keys(campaign_id)
    reply = scripts.run("begin_rebuild", [keys.campaign, rebuilder_key(campaign_id)], [token])
    _, run_id, next_sequence, epoch = reply
    return Rebuilding(campaign_id, token, run_id.decode(), int(next_sequence or 1), int(epoch or 0))


def finish_rebuild(rebuilding: Rebuilding, *, epoch: int, settings: CampaignSettings, state: BuiltState) -> None:
    """Builds the new state beside the old one and swaps it in. Raises StateStale if another rebuild began or Redis
    restarted meanwhile: nothing was swapped, and the campaign stays closed."""
    keys = campaign_keys(rebuilding.campaign_id)
    tickets_key, pending_key = building_keys(rebuilding.campaign_id, rebuilding.token)
    try:
        _build(tickets_key, pending_key, state)
    except GateUnavailable:
        _remove(tickets_key, pending_key)  # otherwise each attempt would leave more keys in a Redis that is full
        raise
    failpoint(REBUILD_BUILT)
    reply = scripts.run(
        "finish_rebuild",
        [*keys, rebuilder_key(rebuilding.campaign_id), tickets_key, pending_key],
        [
            rebuilding.token,
            rebuilding.run_id,
            len(state.tickets),
            len(state.pending),
            epoch,
            *settings.arguments(),
            state.highest_sequence + 1,
        ],
    )
    code = reply[0].decode()
    if code != "REBUILT":
        _remove(tickets_key, pending_key)
        message = f"campaign {rebuilding.campaign_id}: the rebuild was not swapped in ({code})"
        raise StateStale(message, campaign_id=rebuilding.campaign_id, reason=code)


def _build(tickets_key: str, pending_key: str, state: BuiltState) -> None:
    tickets, pending = iter(state.tickets.items()), iter(state.pending.items())
    # Crash before the swap => no process removes these keys, so they expire; each chunk extends that time, and
    # finish_rebuild.lua makes the keys persistent.
    with scripts.calling_redis() as redis:
        while chunk := dict[Any, Any](islice(tickets, CHUNK)):
            with redis.pipeline() as together:
                together.hset(tickets_key, mapping=chunk)
                together.expire(tickets_key, BUILDING_TTL_SEC)
                together.execute()
        while scores := dict(islice(pending, CHUNK)):
            with redis.pipeline() as together:
                together.zadd(pending_key, scores)
                together.expire(pending_key, BUILDING_TTL_SEC)
                together.execute()
        redis.expire(tickets_key, BUILDING_TTL_SEC)


def _remove(*keys: str) -> None:
    """Removes the keys if Redis answers; else they expire."""
    with suppress(RedisError):
        scripts.admission_redis().unlink(*keys)
