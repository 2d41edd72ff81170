"""A campaign's own state in Redis: its settings and counts. Errors as gate.py says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any
from uuid import UUID

from coupons.admission import scripts
from coupons.admission.gate import code_of, current
from coupons.admission.keys import campaign_keys
from coupons.errors import StateStale

DESCRIBE_CHUNK = 100


class PushResult(StrEnum):
    PUSHED = "PUSHED"
    ON_HOLD = "ON_HOLD"
    SUPERSEDED = "SUPERSEDED"
    BELOW_ADMITTED = "BELOW_ADMITTED"


class LowerResult(StrEnum):
    LOWERING = "LOWERING"
    SUPERSEDED = "SUPERSEDED"
    BELOW_ADMITTED = "BELOW_ADMITTED"


@dataclass(frozen=True, slots=True)
class CampaignSettings:
    """What a campaign's hash takes over from PostgreSQL: a revision of quantity, window (ms since 1970) and state."""

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

    `lowering_revision` is there while a lower quantity stops admission that PostgreSQL may not have committed.
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


def describe(*, campaign_id: UUID, epoch: int) -> Description:
    """The campaign's state and counts."""
    return _description(_run("describe", campaign_id, epoch, []))


def describe_each(epochs: Mapping[UUID, int]) -> dict[UUID, Description | StateStale]:
    """The state and counts of many campaigns, or why a state is not current. Raises GateUnavailable: once Redis has not
    answered, the others are not asked about."""
    described: dict[UUID, Description | StateStale] = {}
    campaigns = iter(epochs.items())
    while chunk := list(islice(campaigns, DESCRIBE_CHUNK)):
        replies = scripts.run_each("describe", [(campaign_keys(pk), [epoch]) for pk, epoch in chunk])
        for (campaign_id, epoch), reply in zip(chunk, replies, strict=True):
            try:
                described[campaign_id] = _description(current(reply, campaign_id, epoch))
            except StateStale as error:
                described[campaign_id] = error
    return described


def _description(reply: Sequence[Any]) -> Description:
    _, at_epoch, revision, state, quantity, opens_at_ms, closes_at_ms, *counts = reply
    settings = CampaignSettings(revision, state.decode(), quantity, opens_at_ms, closes_at_ms)
    return Description(at_epoch, settings, *counts)


def load(*, campaign_id: UUID, epoch: int, settings: CampaignSettings) -> bool:
    """Make the campaign's state for the first time. False: there is one already, nothing was written."""
    keys = campaign_keys(campaign_id)
    return code_of(scripts.run("load", keys, [epoch, *settings.arguments()])) == "LOADED"


def lower(*, campaign_id: UUID, epoch: int, revision: int, quantity: int) -> LowerResult:
    """Let in no more than this quantity, which PostgreSQL is about to commit as this revision, until it is pushed.

    Others are told PAUSED: that nothing is left is said only once it is committed (decision 0025).
    """
    return LowerResult(_run("lower", campaign_id, epoch, [revision, quantity])[0])


def push(*, campaign_id: UUID, epoch: int, settings: CampaignSettings, hold_ms: int = 0) -> PushResult:
    """Bring a current campaign up to a revision of its settings.

    ON_HOLD: it refused every user until now, and says PAUSED for `hold_ms`, so that no user is admitted whom a process
    still refuses from memory (decision 0029). A lowering of this revision or an earlier one ends.
    """
    return PushResult(_run("push", campaign_id, epoch, [*settings.arguments(), hold_ms])[0])


def _run(name: str, campaign_id: UUID, epoch: int, arguments: Sequence[str | int]) -> list[Any]:
    keys = campaign_keys(campaign_id)
    return current(scripts.run(name, keys, [epoch, *arguments]), campaign_id, epoch)
