"""Reads and changes a campaign's settings and counts in Redis. Raises the errors that gate.py lists."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from coupons.admission import gate, scripts
from coupons.admission.gate import Outcome, code_of, current
from coupons.admission.keys import campaign_keys, rebuilder_key
from coupons.errors import GateUnavailable, StateStale


class PushResult(StrEnum):
    """What became of a push or of a lowering. The values are the scripts' return codes."""

    PUSHED = "PUSHED"
    ON_HOLD = "ON_HOLD"
    LOWERING = "LOWERING"
    SUPERSEDED = "SUPERSEDED"
    BELOW_ADMITTED = "BELOW_ADMITTED"


@dataclass(frozen=True, slots=True)
class CampaignSettings:
    """The settings that Redis copies from PostgreSQL: one revision of quantity, window (ms since 1970) and state."""

    revision: int
    state: str
    quantity: int
    opens_at_ms: int
    closes_at_ms: int | None

    def arguments(self) -> list[str | int]:
        closes_at_ms = "" if self.closes_at_ms is None else self.closes_at_ms
        return [self.revision, self.state, self.quantity, self.opens_at_ms, closes_at_ms]


@dataclass(frozen=True, slots=True)
class Description:
    """A current campaign as Redis sees it at `now_ms`. Pending = admitted - settled.

    `lowering_revision` is set while admission stops at a lower quantity that PostgreSQL may not have committed.
    """

    epoch: int
    settings: CampaignSettings
    admitted: int
    settled: int
    next_sequence: int
    now_ms: int
    lowering_revision: int | None = None

    @property
    def pending(self) -> int:
        return self.admitted - self.settled


class TicketsVersion(NamedTuple):
    """Identifies one set of tickets: within an epoch tickets are only added."""

    epoch: int
    revision: int
    admitted: int


@dataclass(frozen=True, slots=True)
class RefusalState:
    """A current campaign at `now_ms`. `refusal` is None while the campaign admits users."""

    version: TicketsVersion
    now_ms: int
    refusal: Outcome | None
    opens_at_ms: int


def describe(*, campaign_id: UUID, epoch: int) -> Description:
    return _description(gate.run("describe", campaign_id, epoch, []))


def describe_each(epochs: Mapping[UUID, int]) -> dict[UUID, Description | StateStale | GateUnavailable]:
    """Returns each campaign's description, or why its state is not current, or how Redis refused to look at its keys.
    Raises GateUnavailable when Redis does not answer."""
    described: dict[UUID, Description | StateStale | GateUnavailable] = {}
    replies = scripts.try_each("describe", [(campaign_keys(pk), [epoch]) for pk, epoch in epochs.items()])
    for (campaign_id, epoch), reply in zip(epochs.items(), replies, strict=True):
        if isinstance(reply, GateUnavailable):
            described[campaign_id] = reply
            continue
        try:
            described[campaign_id] = _description(current(reply, campaign_id, epoch))
        except StateStale as error:
            described[campaign_id] = error
    return described


def _description(reply: Sequence[Any]) -> Description:
    _, at_epoch, revision, state, quantity, opens_at_ms, closes_at_ms, *counts = reply
    settings = CampaignSettings(revision, state.decode(), quantity, opens_at_ms, closes_at_ms)
    return Description(at_epoch, settings, *counts)


def refusal_states(epochs: Mapping[UUID, int]) -> dict[UUID, RefusalState]:
    """Reads in one round trip how campaigns answer users without a ticket. Raises GateUnavailable.

    The result lacks campaigns whose state is not current, or newer than the given epoch, or whose keys Redis refuses.
    """
    calls = [(campaign_keys(campaign_id), [epoch]) for campaign_id, epoch in epochs.items()]
    found = {}
    for (campaign_id, epoch), reply in zip(epochs.items(), scripts.try_each("refusal_state", calls), strict=True):
        if not isinstance(reply, GateUnavailable) and reply[0] == b"CURRENT":
            _, revision, admitted, now_ms, reason, opens_at_ms = reply
            version = TicketsVersion(epoch, revision, admitted)
            refusal = None if reason is None else Outcome(reason.decode())
            found[campaign_id] = RefusalState(version, now_ms, refusal, opens_at_ms)
    return found


def load(*, campaign_id: UUID, epoch: int, settings: CampaignSettings) -> bool:
    """Creates the campaign's state, the first time only. Returns False, and writes nothing, if there is one already."""
    keys = campaign_keys(campaign_id)
    return code_of(scripts.run("load", keys, [epoch, *settings.arguments()])) == "LOADED"


def remove(campaign_ids: Iterable[UUID]) -> None:
    """Removes all keys of unloaded campaigns. Idempotent."""
    with scripts.calling_redis() as redis:
        for campaign_id in campaign_ids:
            redis.unlink(*campaign_keys(campaign_id), rebuilder_key(campaign_id))


def lower(*, campaign_id: UUID, epoch: int, revision: int, quantity: int) -> PushResult:
    """Stops admission at this quantity, which PostgreSQL is about to commit as this revision, until it is pushed.

    The gate then answers PAUSED: SOLD_OUT is final, so it must wait for the commit (decision 0025).
    """
    return PushResult(gate.run("lower", campaign_id, epoch, [revision, quantity])[0])


def push(*, campaign_id: UUID, epoch: int, settings: CampaignSettings, hold_ms: int = 0) -> PushResult:
    """Brings a current campaign up to a revision of its settings, and ends a lowering up to that revision.

    ON_HOLD: the campaign refused every user until now, and the gate answers PAUSED for `hold_ms`, so that no user is
    admitted while a process still refuses that user from memory (decision 0029).
    """
    return PushResult(gate.run("push", campaign_id, epoch, [*settings.arguments(), hold_ms])[0])
