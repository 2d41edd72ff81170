"""Reads and marks tickets in Redis for consumers, relay, rebuild and reconciliation.

Raises the errors that gate.py lists. The scans read in chunks, whether the state is current or not, and raise
GateUnavailable alone; each entry that exists from beginning to end comes at least once, and others may come too.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any
from uuid import UUID

from coupons.admission import gate, scripts
from coupons.admission.gate import Held, current, held_of
from coupons.admission.keys import CampaignKeys, campaign_keys
from coupons.messaging.positions import PARTITION_STEP, Position

UsersByCampaign = Mapping[UUID, Sequence[str]]
MARK_CHUNK = 333
SCAN_CHUNK = 1_000


def held_tickets(*, campaign_id: UUID, epoch: int, user_ids: Sequence[str]) -> dict[str, Held]:
    """Returns the tickets of these users; users without one are not in the result."""
    held: dict[str, Held] = {}
    for users in _chunks(user_ids):
        _, *values = gate.run("held", campaign_id, epoch, users)
        for user, sequence, score in zip(users, values[::2], values[1::2], strict=True):
            if sequence is not None:
                held[user] = held_of(user, sequence, score)
    return held


def held_sequences(*, epochs: Mapping[UUID, int], users: UsersByCampaign) -> dict[UUID, list[int | None]]:
    """Returns the sequences of these users in the given order, None for users without one. Makes one round trip."""
    held: dict[UUID, list[int | None]] = {campaign_id: [] for campaign_id in users}
    for campaign_id, (_, found) in _run_each("sequences", epochs, users):
        held[campaign_id] += [None if sequence is None else int(sequence) for sequence in found]
    return held


def settle(*, epochs: Mapping[UUID, int], users: UsersByCampaign) -> int:
    """Takes tickets off pending whose Coupon or FAIL row is committed; returns how many were pending. Idempotent."""
    return sum(settled for _, (_, settled) in _run_each("settle", epochs, users))


def mark_published(*, campaign_id: UUID, epoch: int, positions: Mapping[tuple[str, int], Position]) -> None:
    """Notes the positions of these tickets' messages, which have this epoch. Tickets that a rebuild has changed since
    stay as they are. A lost note costs a second message, never a coupon."""
    tickets = list(positions)
    for start in range(0, len(tickets), MARK_CHUNK):
        triples: list[str | int] = []
        for user_id, sequence in tickets[start : start + MARK_CHUNK]:
            triples += [user_id, sequence, positions[user_id, sequence].score]
        scripts.run("mark_published", campaign_keys(campaign_id), [epoch, *triples])


def mark_unpublished(*, campaign_id: UUID, epoch: int, partition: int) -> int:
    """Forgets all positions in a partition that lost its log; returns how many tickets had one."""
    first = Position(partition, 0).score
    between: list[str | int] = [first, first + PARTITION_STEP - 1, scripts.MAX_ARGUMENTS]
    count = 0
    while found := int(gate.run("mark_unpublished", campaign_id, epoch, between)[1]):
        count += found
    return count


def erase(*, campaign_id: UUID, former_epoch: int, epoch: int, user_id: str, pseudonym: str) -> bool:
    """Gives the user's ticket to the pseudonym, and takes over the epoch that PostgreSQL has raised for that. Returns
    whether there was one. Idempotent; when it raises, a rebuild does the same (recovery/gather.py)."""
    reply = gate.run("erase", campaign_id, former_epoch, [epoch, user_id, pseudonym])
    return bool(reply[0] == "ERASED")


def pending_between(*, campaign_id: UUID, epoch: int, min_score: int, max_score: int, limit: int) -> list[Held]:
    """Returns at most `limit` (<= 1,000) pending tickets by score, lowest first."""
    _, *values = gate.run("pending_range", campaign_id, epoch, [min_score, max_score, limit])
    rows = zip(values[::3], values[1::3], values[2::3], strict=True)
    return [held_of(user.decode(), sequence, score) for user, sequence, score in rows]


def scan_tickets(campaign_id: UUID) -> Iterator[tuple[str, int]]:
    """Yields every user with the sequence."""
    with scripts.calling_redis() as redis:
        for user, sequence in redis.hscan_iter(campaign_keys(campaign_id).tickets, count=SCAN_CHUNK):
            yield user.decode(errors="replace"), int(sequence)


def scan_pending(campaign_id: UUID) -> Iterator[tuple[str, float]]:
    """Yields every pending user with the score (messaging/positions.py)."""
    with scripts.calling_redis() as redis:
        for user, score in redis.zscan_iter(campaign_keys(campaign_id).pending, count=SCAN_CHUNK):
            yield user.decode(errors="replace"), float(score)


def scan_held(campaign_id: UUID) -> Iterator[Held]:
    """Yields every ticket with its score."""
    tickets = scan_tickets(campaign_id)
    with scripts.calling_redis() as redis:
        while chunk := list(islice(tickets, SCAN_CHUNK)):
            scores = redis.zmscore(campaign_keys(campaign_id).pending, [user for user, _ in chunk])
            for (user, sequence), score in zip(chunk, scores, strict=True):
                yield Held(user, sequence, score)


def _run_each(name: str, epochs: Mapping[UUID, int], users: UsersByCampaign) -> Iterator[tuple[UUID, list[Any]]]:
    """Yields a script's replies for these users, campaign by campaign and chunk by chunk, from one round trip."""
    chunks = [(campaign_id, chunk) for campaign_id, of_campaign in users.items() for chunk in _chunks(of_campaign)]
    calls: list[tuple[CampaignKeys, list[str | int]]] = [
        (campaign_keys(campaign_id), [epochs[campaign_id], *chunk]) for campaign_id, chunk in chunks
    ]
    for (campaign_id, _), reply in zip(chunks, scripts.run_each(name, calls), strict=True):
        yield campaign_id, current(reply, campaign_id, epochs[campaign_id])


def _chunks(user_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(user_ids), scripts.MAX_ARGUMENTS):
        yield user_ids[start : start + scripts.MAX_ARGUMENTS]
