"""The gate: who is in. Each function is one atomic script in Redis (a chunk of 1,000 users each for the long ones).

All of them need the campaign's epoch as PostgreSQL has it, and raise

- `GateUnavailable` when Redis did not answer or refused (the script may have run; repeating is safe),
- `StateStale` when Redis's state is not the current one: nothing was read or written, the keeper mends it,
- `EpochAhead`, a `StateStale`, when Redis knows a newer epoch: read it from PostgreSQL and call again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from coupons.admission import scripts
from coupons.admission.keys import CampaignKeys, campaign_keys
from coupons.errors import StateStale
from coupons.positions import PARTITION_STEP, Position, position_of

PlaceOf = tuple[str, int]  # user and sequence
UsersOf = Mapping[UUID, Sequence[str]]  # by campaign
MARKS_AT_ONCE = 333


class Outcome(StrEnum):
    """What admit.lua decided. The values are the script's own return codes."""

    ADMITTED = "ADMITTED"
    ALREADY_ADMITTED = "ALREADY_ADMITTED"
    SOLD_OUT = "SOLD_OUT"
    NOT_OPEN = "NOT_OPEN"
    PAUSED = "PAUSED"
    CLOSED = "CLOSED"


class EpochAhead(StateStale):
    """Redis was mended after the caller read the epoch."""


class PushResult(StrEnum):
    PUSHED = "PUSHED"
    HELD = "HELD"
    SUPERSEDED = "SUPERSEDED"
    BELOW_ADMITTED = "BELOW_ADMITTED"


class LowerResult(StrEnum):
    LOWERING = "LOWERING"
    SUPERSEDED = "SUPERSEDED"
    BELOW_ADMITTED = "BELOW_ADMITTED"


@dataclass(frozen=True, slots=True)
class Held:
    """A ticket as the gate holds it. `score` is None once PostgreSQL has it (positions.py: what the number means)."""

    user_id: str
    sequence: int
    score: float | None

    @property
    def pending(self) -> bool:
        return self.score is not None

    @property
    def position(self) -> Position | None:
        """Where its message is known to lie in the topic."""
        return None if self.score is None else position_of(self.score)

    @property
    def on_its_way(self) -> bool:
        """Published or issued: a repeat of the application may be answered without publishing again."""
        return not self.pending or self.position is not None


@dataclass(frozen=True, slots=True)
class Admission:
    """The gate's answer to one application. `ticket` is there when the user is in, `opens_at_ms` for NOT_OPEN."""

    outcome: Outcome
    epoch: int
    ticket: Held | None = None
    opens_at_ms: int | None = None
    now_ms: int | None = None

    @property
    def opens_in_ms(self) -> int:
        """By Redis's clock; 0 for a campaign that is open, or that does not open by time alone (a draft)."""
        return 0 if self.opens_at_ms is None or self.now_ms is None else self.opens_at_ms - self.now_ms


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


def admit(*, campaign_id: UUID, epoch: int, user_id: str) -> Admission:
    """Give the user a place if there is one. Idempotent by user: a repeat gets the same sequence."""
    return scripts.ask(admit_call(campaign_id, epoch, user_id))


def admit_call(campaign_id: UUID, epoch: int, user_id: str) -> scripts.Call[Admission]:
    """`admit` as a call, for an event loop."""

    def read(reply: list[Any]) -> Admission:
        return _admission(reply, campaign_id, epoch, user_id)

    return scripts.Call("admit", campaign_keys(campaign_id), [epoch, user_id], read)


def _admission(reply: list[Any], campaign_id: UUID, epoch: int, user_id: str) -> Admission:
    code, *values = _current(reply, campaign_id, epoch)
    outcome = Outcome(code)
    if outcome is Outcome.ADMITTED:
        sequence, admitted_at_ms = values
        return Admission(outcome, epoch, Held(user_id, sequence, float(admitted_at_ms)), now_ms=admitted_at_ms)
    if outcome is Outcome.ALREADY_ADMITTED:
        return Admission(outcome, epoch, _held(user_id, *values))
    if outcome is Outcome.NOT_OPEN:
        return Admission(outcome, epoch, opens_at_ms=values[0], now_ms=values[1])
    return Admission(outcome, epoch)


def confirm(*, campaign_id: UUID, epoch: int, held: Held, position: Position | None) -> bool:
    """Whether the ticket is still held; if so, note where its message, which carries this epoch, lies."""
    return scripts.ask(confirm_call(campaign_id, epoch, held, position))


def confirm_call(campaign_id: UUID, epoch: int, held: Held, position: Position | None) -> scripts.Call[bool]:
    """`confirm` as a call, for an event loop."""

    def read(reply: list[Any]) -> bool:
        return bool(_current(reply, campaign_id, epoch)[0] == "CONFIRMED")

    score = "" if position is None else position.score
    return scripts.Call("confirm", campaign_keys(campaign_id), [epoch, held.user_id, held.sequence, score], read)


def held_tickets(*, campaign_id: UUID, epoch: int, user_ids: Sequence[str]) -> dict[str, Held]:
    """The tickets that the gate holds for these users; who has none is not in the result."""
    held: dict[str, Held] = {}
    for users in _chunks(user_ids):
        _, *values = _run("held", campaign_id, epoch, users)
        for user, sequence, score in zip(users, values[::2], values[1::2], strict=True):
            if sequence is not None:
                held[user] = _held(user, sequence, score)
    return held


def held_sequences(*, epochs: Mapping[UUID, int], users: UsersOf) -> dict[UUID, list[int | None]]:
    """The sequences that the gate holds for these users, in their order; None for who has none. One round trip."""
    held: dict[UUID, list[int | None]] = {campaign_id: [] for campaign_id in users}
    for campaign_id, (_, found) in _run_each("sequences", epochs, users):
        held[campaign_id] += [None if sequence is None else int(sequence) for sequence in found]
    return held


def settle_all(*, epochs: Mapping[UUID, int], users: UsersOf) -> None:
    """`settle` for several campaigns in one round trip."""
    for _ in _run_each("settle", epochs, users):
        pass


def settle(*, campaign_id: UUID, epoch: int, user_ids: Sequence[str]) -> int:
    """Take tickets off pending whose Coupon or FAIL row is committed; returns how many were pending. Idempotent."""
    return sum(_run("settle", campaign_id, epoch, users)[1] for users in _chunks(user_ids))


def mark_published(*, campaign_id: UUID, epoch: int, positions: Mapping[PlaceOf, Position]) -> None:
    """Note where the messages of these tickets, which carry this epoch, lie. Only knowledge: a lost note costs a second
    message, no coupon. What a mend has changed since is left alone."""
    places = list(positions)
    for start in range(0, len(places), MARKS_AT_ONCE):
        triples: list[str | int] = []
        for user_id, sequence in places[start : start + MARKS_AT_ONCE]:
            triples += [user_id, sequence, positions[user_id, sequence].score]
        scripts.run("mark_published", campaign_keys(campaign_id), [epoch, *triples])


def mark_unpublished(*, campaign_id: UUID, epoch: int, partition: int) -> int:
    """Forget the positions of all messages in a partition that lost its log; returns how many tickets had one."""
    first = Position(partition, 0).score
    between: list[str | int] = [first, first + PARTITION_STEP - 1, scripts.MAX_ARGUMENTS]
    count = 0
    while found := int(_run("mark_unpublished", campaign_id, epoch, between)[1]):
        count += found
    return count


def pending_between(*, campaign_id: UUID, epoch: int, least_score: int, greatest_score: int, limit: int) -> list[Held]:
    """At most `limit` (<= 1,000) pending tickets by score, lowest first."""
    _, *values = _run("pending_range", campaign_id, epoch, [least_score, greatest_score, limit])
    rows = zip(values[::3], values[1::3], values[2::3], strict=True)
    return [_held(user.decode(), sequence, score) for user, sequence, score in rows]


def describe(*, campaign_id: UUID, epoch: int) -> Description:
    """The campaign's state and counts."""
    _, at_epoch, revision, state, quantity, opens_at_ms, closes_at_ms, *counts = _run(
        "describe", campaign_id, epoch, []
    )
    settings = CampaignSettings(revision, state.decode(), quantity, opens_at_ms, closes_at_ms)
    return Description(at_epoch, settings, *counts)


def load(*, campaign_id: UUID, epoch: int, settings: CampaignSettings) -> bool:
    """Make the campaign's state for the first time. False: there is one already, nothing was written."""
    keys = campaign_keys(campaign_id)
    return _code(scripts.run("load", keys, [epoch, *settings.arguments()])) == "LOADED"


def lower(*, campaign_id: UUID, epoch: int, revision: int, quantity: int) -> LowerResult:
    """Let in no more than this quantity, which PostgreSQL is about to commit as this revision, until it is pushed.

    Others are told PAUSED: that nothing is left is said only once it is committed (decision 0025).
    """
    return LowerResult(_run("lower", campaign_id, epoch, [revision, quantity])[0])


def push(*, campaign_id: UUID, epoch: int, settings: CampaignSettings, hold_ms: int = 0) -> PushResult:
    """Bring a current campaign up to a revision of its settings.

    HELD: it refused everybody until now, and says PAUSED for `hold_ms`, so that nobody is in whom a process takes for a
    stranger by what it knew before (decision 0029). It ends a lowering of this revision or an earlier one.
    """
    return PushResult(_run("push", campaign_id, epoch, [*settings.arguments(), hold_ms])[0])


def _run(name: str, campaign_id: UUID, epoch: int, arguments: Sequence[str | int]) -> list[Any]:
    keys = campaign_keys(campaign_id)
    return _current(scripts.run(name, keys, [epoch, *arguments]), campaign_id, epoch)


def _run_each(name: str, epochs: Mapping[UUID, int], users: UsersOf) -> Iterator[tuple[UUID, list[Any]]]:
    """A script's replies for these users, chunk by chunk and campaign by campaign, all asked in one round trip."""
    chunks = [(campaign_id, chunk) for campaign_id, of_campaign in users.items() for chunk in _chunks(of_campaign)]
    calls: list[tuple[CampaignKeys, list[str | int]]] = [
        (campaign_keys(campaign_id), [epochs[campaign_id], *chunk]) for campaign_id, chunk in chunks
    ]
    for (campaign_id, _), reply in zip(chunks, scripts.run_each(name, calls), strict=True):
        yield campaign_id, _current(reply, campaign_id, epochs[campaign_id])


def _current(reply: list[Any], campaign_id: UUID, epoch: int) -> list[Any]:
    """The reply with its code as text; raises StateStale or EpochAhead if it is one of these."""
    code = _code(reply)
    if code == "STALE":
        reason = reply[1].decode()
        message = f"campaign {campaign_id}: Redis's state is not current ({reason})"
        raise StateStale(message, campaign_id=campaign_id, reason=reason)
    if code == "EPOCH_AHEAD":
        message = f"campaign {campaign_id}: Redis has epoch {reply[1]}, the caller knew {epoch}"
        raise EpochAhead(message, campaign_id=campaign_id, reason="epoch-ahead")
    return [code, *reply[1:]]


def _code(reply: Sequence[Any]) -> str:
    return str(reply[0].decode())


def _held(user_id: str, sequence: Any, score: Any) -> Held:
    return Held(user_id, int(sequence), None if score is None else float(score))


def _chunks(user_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(user_ids), scripts.MAX_ARGUMENTS):
        yield user_ids[start : start + scripts.MAX_ARGUMENTS]
