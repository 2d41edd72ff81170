"""The gate decides which users get a ticket. Each call is one atomic script in Redis.

The caller passes the campaign's epoch from PostgreSQL. This module has the calls of an application; those of consumers,
the keeper and operators are in ticket_store.py and campaign_store.py. All of them raise

- `GateUnavailable` when Redis did not answer or refused (the script may have run; repeating is safe),
- `StateStale` when Redis's state is not current: nothing was read or written, and the keeper rebuilds it,
- `EpochAhead`, a `StateStale`, when Redis has a newer epoch: read it from PostgreSQL and call again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from coupons.admission import scripts
from coupons.admission.campaign_cache import CachedCampaign
from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import Call
from coupons.errors import StateStale, Unconfirmed
from coupons.messaging.positions import Position, position_of
from coupons.runtime.clock import milliseconds


class Outcome(StrEnum):
    """A decision of admit.lua. The values are the script's return codes."""

    ADMITTED = "ADMITTED"
    ALREADY_ADMITTED = "ALREADY_ADMITTED"
    SOLD_OUT = "SOLD_OUT"
    NOT_OPEN = "NOT_OPEN"
    PAUSED = "PAUSED"
    CLOSED = "CLOSED"


class EpochAhead(StateStale):
    """Redis was rebuilt after the caller read the epoch."""


@dataclass(frozen=True, slots=True)
class Held:
    """A ticket that the gate holds. `score` (messaging/positions.py) is None once PostgreSQL has the coupon."""

    user_id: str
    sequence: int
    score: float | None

    @property
    def pending(self) -> bool:
        return self.score is not None

    @property
    def position(self) -> Position | None:
        """The position of the ticket's message in the topic, if it is known."""
        return None if self.score is None else position_of(self.score)

    @property
    def on_its_way(self) -> bool:
        """Published or issued: a repeated application needs no further message."""
        return not self.pending or self.position is not None


@dataclass(frozen=True, slots=True)
class Admission:
    """The gate's answer to one application. Admitted users have a `ticket`; NOT_OPEN has `opens_at_ms`."""

    outcome: Outcome
    epoch: int
    ticket: Held | None = None
    opens_at_ms: int | None = None
    now_ms: int | None = None

    @property
    def opens_in_ms(self) -> int:
        """Measured by Redis's clock; 0 for a campaign that is open, and for a draft, which time alone does not open."""
        return 0 if self.opens_at_ms is None or self.now_ms is None else self.opens_at_ms - self.now_ms


def admit_call(campaign_id: UUID, known: CachedCampaign, user_id: str) -> Call[Admission]:
    """Admits the user if the campaign has room. Idempotent by user: a repeat gets the same sequence."""

    def read(reply: list[Any]) -> Admission:
        if known.epoch == 0 and code_of(reply) == "STALE":  # a draft, which Redis does not have yet
            return Admission(Outcome.NOT_OPEN, 0, opens_at_ms=milliseconds(known.opens_at))
        code, *values = current(reply, campaign_id, known.epoch)
        return _admission(Outcome(code), known.epoch, user_id, values)

    return Call("admit", campaign_keys(campaign_id), [known.epoch, user_id], read)


def _admission(outcome: Outcome, epoch: int, user_id: str, values: list[Any]) -> Admission:
    if outcome is Outcome.ADMITTED:
        sequence, admitted_at_ms = values
        return Admission(outcome, epoch, Held(user_id, sequence, float(admitted_at_ms)), now_ms=admitted_at_ms)
    if outcome is Outcome.ALREADY_ADMITTED:
        return Admission(outcome, epoch, held_of(user_id, *values))
    if outcome is Outcome.NOT_OPEN:
        return Admission(outcome, epoch, opens_at_ms=values[0], now_ms=values[1])
    return Admission(outcome, epoch)


def confirm_call(campaign_id: UUID, epoch: int, held: Held, position: Position | None) -> Call[None]:
    """Checks that the gate still holds the ticket, and notes the position of its message of this epoch.

    Raises Unconfirmed, too: the gate does not hold it.
    """

    def read(reply: list[Any]) -> None:
        if current(reply, campaign_id, epoch)[0] != "CONFIRMED":
            raise Unconfirmed(f"campaign {campaign_id}: the gate does not hold the ticket any more")

    score = "" if position is None else position.score
    return Call("confirm", campaign_keys(campaign_id), [epoch, held.user_id, held.sequence, score], read)


def run(name: str, campaign_id: UUID, epoch: int, arguments: Sequence[str | int]) -> list[Any]:
    """Runs a script on the keys of a campaign, and returns its reply, if the state is current."""
    return current(scripts.run(name, campaign_keys(campaign_id), [epoch, *arguments]), campaign_id, epoch)


def current(reply: list[Any], campaign_id: UUID, epoch: int) -> list[Any]:
    """Returns the reply with its code as text. Raises StateStale or EpochAhead for a state that is not current."""
    code = code_of(reply)
    if code == "STALE":
        reason = reply[1].decode()
        message = f"campaign {campaign_id}: Redis's state is not current ({reason})"
        raise StateStale(message, campaign_id=campaign_id, reason=reason)
    if code == "EPOCH_AHEAD":
        message = f"campaign {campaign_id}: Redis has epoch {reply[1]}, the caller knew {epoch}"
        raise EpochAhead(message, campaign_id=campaign_id, reason="epoch-ahead")
    return [code, *reply[1:]]


def code_of(reply: Sequence[Any]) -> str:
    return str(reply[0].decode())


def held_of(user_id: str, sequence: Any, score: Any) -> Held:
    return Held(user_id, int(sequence), None if score is None else float(score))
