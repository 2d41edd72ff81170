"""admit.lua by its outcomes, and the scripts that read and settle tickets, on a real Redis."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coupons.admission import gate, ticket_store
from coupons.admission.gate import Held, Outcome
from coupons.admission.scripts import admission_redis
from coupons.errors import StateStale
from coupons.messaging.positions import Position
from tests.support.gate import HOUR_MS, Gate

MakeGate = Callable[..., Gate]


def redis_now_ms() -> int:
    seconds, microseconds = admission_redis().time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def test_the_first_users_get_the_sequences_from_one_on(a_gate: MakeGate) -> None:
    place = a_gate()

    admissions = [place.admit(user) for user in ("a", "b", "c")]

    assert [admission.outcome for admission in admissions] == [Outcome.ADMITTED] * 3
    assert [admission.ticket.sequence for admission in admissions if admission.ticket] == [1, 2, 3]


def test_a_new_ticket_is_pending_and_unpublished(a_gate: MakeGate) -> None:
    before_ms = redis_now_ms()
    ticket = a_gate().admit("a").ticket

    assert ticket is not None
    assert ticket.pending
    assert not ticket.on_its_way
    assert before_ms <= (ticket.score or 0) <= redis_now_ms()


def test_the_same_user_again_gets_the_same_ticket(a_gate: MakeGate) -> None:
    place = a_gate()
    first = place.admit("a")
    again = place.admit("a")

    assert again.outcome is Outcome.ALREADY_ADMITTED
    assert again.ticket == first.ticket


def test_the_same_user_from_50_threads_gets_one_sequence(a_gate: MakeGate) -> None:
    place = a_gate()
    with ThreadPoolExecutor(50) as pool:
        admissions = list(pool.map(lambda _: place.admit("a"), range(50)))

    assert {admission.ticket.sequence for admission in admissions if admission.ticket} == {1}
    assert [admission.outcome for admission in admissions].count(Outcome.ADMITTED) == 1
    assert place.describe().admitted == 1


def test_200_users_at_once_get_exactly_the_quantity(a_gate: MakeGate) -> None:
    place = a_gate(quantity=50)
    with ThreadPoolExecutor(32) as pool:
        admissions = list(pool.map(lambda user: place.admit(str(user)), range(200)))

    sequences = [admission.ticket.sequence for admission in admissions if admission.ticket]
    assert sorted(sequences) == list(range(1, 51))
    assert [admission.outcome for admission in admissions].count(Outcome.SOLD_OUT) == 150


def test_sold_out_is_said_when_all_are_taken(a_gate: MakeGate) -> None:
    place = a_gate(quantity=1)
    place.admit("a")

    assert place.admit("b") == gate.Admission(Outcome.SOLD_OUT, epoch=1)


def test_before_the_opening_by_redis_s_clock_nobody_gets_in(a_gate: MakeGate) -> None:
    place = a_gate(opens_in_ms=HOUR_MS)

    admission = place.admit("a")

    assert admission.outcome is Outcome.NOT_OPEN
    assert admission.opens_at_ms == place.describe().settings.opens_at_ms
    assert abs((admission.now_ms or 0) - redis_now_ms()) < 5_000


def test_admission_ends_at_the_closing_by_redis_clock(a_gate: MakeGate) -> None:
    assert a_gate(closes_in_ms=-1).admit("a").outcome is Outcome.CLOSED


def test_until_the_closing_users_get_in(a_gate: MakeGate) -> None:
    assert a_gate(closes_in_ms=HOUR_MS).admit("a").outcome is Outcome.ADMITTED


@pytest.mark.parametrize(("state", "outcome"), [("paused", Outcome.PAUSED), ("closed", Outcome.CLOSED)])
def test_a_campaign_that_is_not_open_takes_nobody_in(a_gate: MakeGate, state: str, outcome: Outcome) -> None:
    assert a_gate(state=state).admit("a").outcome is outcome


@pytest.mark.parametrize(
    "change",
    [{"state": "paused"}, {"state": "closed"}, {"quantity": 1}, {"opens_at_ms": 2**42}, {"closes_at_ms": 1}],
    ids=str,
)
def test_a_winner_is_told_so_whatever_became_of_the_campaign(a_gate: MakeGate, change: dict[str, Any]) -> None:
    place = a_gate()
    place.admit("a")
    place.push(2, **change)

    assert place.admit("a").outcome is Outcome.ALREADY_ADMITTED


def test_a_refused_user_costs_no_key_and_no_memory(a_gate: MakeGate) -> None:
    place = a_gate(quantity=1)
    place.admit("a")
    redis = admission_redis()

    def cost() -> list[Any]:
        return [redis.dbsize(), *(redis.memory_usage(key, samples=0) for key in place.keys)]

    before = cost()
    for user in range(500):
        assert place.admit(f"refused-{user}").outcome is Outcome.SOLD_OUT

    assert cost() == before


def test_a_lost_script_cache_is_invisible(a_gate: MakeGate) -> None:
    place = a_gate()
    place.admit("a")
    admission_redis().script_flush()

    assert place.admit("a").outcome is Outcome.ALREADY_ADMITTED


def test_held_tells_of_each_user_what_the_gate_holds(a_gate: MakeGate) -> None:
    place = a_gate()
    place.admit("a")
    place.admit("b")
    ticket_store.settle(epochs={place.campaign_id: 1}, users={place.campaign_id: ["b"]})

    held = ticket_store.held_tickets(campaign_id=place.campaign_id, epoch=1, user_ids=["b", "stranger", "a"])

    assert {user: (ticket.sequence, ticket.pending) for user, ticket in held.items()} == {
        "a": (1, True),
        "b": (2, False),
    }


def test_held_answers_for_more_users_than_one_script_can_take(a_gate: MakeGate) -> None:
    place = a_gate()
    place.admit("7")

    held = ticket_store.held_tickets(
        campaign_id=place.campaign_id, epoch=1, user_ids=[str(user) for user in range(2_500)]
    )

    assert list(held) == ["7"]


def test_held_of_nobody_is_nothing(a_gate: MakeGate) -> None:
    assert ticket_store.held_tickets(campaign_id=a_gate().campaign_id, epoch=1, user_ids=[]) == {}


def test_sequences_of_several_campaigns_come_in_user_order(a_gate: MakeGate) -> None:
    one, other = a_gate(), a_gate()
    for place, users in ((one, "ab"), (other, "ba")):
        for user in users:
            place.admit(user)
    epochs = {one.campaign_id: 1, other.campaign_id: 1}
    crowd = [str(number) for number in range(2_500)]  # more than one script can take

    held = ticket_store.held_sequences(
        epochs=epochs, users={one.campaign_id: ["b", "x", "a", "b"], other.campaign_id: ["a", *crowd, "b"]}
    )

    assert held == {one.campaign_id: [2, None, 1, 2], other.campaign_id: [2, *[None] * 2_500, 1]}


def test_the_sequences_of_nobody_are_nothing(a_gate: MakeGate) -> None:
    assert ticket_store.held_sequences(epochs={}, users={}) == {}


def test_several_campaigns_are_settled_at_once(a_gate: MakeGate) -> None:
    one, other = a_gate(), a_gate()
    for place in (one, other):
        place.admit("a")
        place.admit("b")

    ticket_store.settle(
        epochs={one.campaign_id: 1, other.campaign_id: 1}, users={one.campaign_id: ["a", "b"], other.campaign_id: ["b"]}
    )

    assert (one.describe().pending, other.describe().pending) == (0, 1)


def test_settling_is_counted_once_however_often_it_is_said(a_gate: MakeGate) -> None:
    place = a_gate()
    place.admit("a")

    counts = [
        ticket_store.settle(epochs={place.campaign_id: 1}, users={place.campaign_id: ["a", "x"]}) for _ in range(3)
    ]

    assert counts == [1, 0, 0]
    assert (place.describe().settled, place.describe().pending) == (1, 0)


def test_a_settled_ticket_is_on_its_way_for_good(a_gate: MakeGate) -> None:
    place = a_gate()
    place.admit("a")
    ticket_store.settle(epochs={place.campaign_id: 1}, users={place.campaign_id: ["a"]})
    ticket = place.admit("a").ticket

    assert ticket is not None
    assert not ticket.pending
    assert ticket.on_its_way


def test_a_published_ticket_knows_its_place_in_the_topic(a_gate: MakeGate) -> None:
    place = a_gate()
    place.admit("a")
    ticket_store.mark_published(campaign_id=place.campaign_id, epoch=1, positions={("a", 1): Position(3, 1_234)})
    ticket = place.admit("a").ticket

    assert ticket is not None
    assert ticket.position == Position(3, 1_234)
    assert ticket.on_its_way


def test_a_mark_that_comes_after_the_settling_brings_nothing_back(a_gate: MakeGate) -> None:
    place = a_gate()
    place.admit("a")
    ticket_store.settle(epochs={place.campaign_id: 1}, users={place.campaign_id: ["a"]})
    ticket_store.mark_published(campaign_id=place.campaign_id, epoch=1, positions={("a", 1): Position(0, 1)})

    assert place.describe().pending == 0


def test_a_held_ticket_is_confirmed_and_marked_published(a_gate: MakeGate) -> None:
    place = a_gate()
    place.admit("a")

    assert place.confirm("a", Position(3, 1_234))
    assert place.admit("a").ticket == Held("a", 1, Position(3, 1_234).score)


def test_a_ticket_is_confirmed_without_a_message_position(a_gate: MakeGate) -> None:
    place = a_gate()
    ticket = place.admit("a").ticket

    assert place.confirm("a", None)
    assert place.admit("a").ticket == ticket


def test_an_issued_ticket_is_confirmed_and_not_pending(a_gate: MakeGate) -> None:
    place = a_gate()
    place.admit("a")
    ticket_store.settle(epochs={place.campaign_id: 1}, users={place.campaign_id: ["a"]})

    assert place.confirm("a", Position(0, 1))
    assert place.describe().pending == 0


@pytest.mark.parametrize(("user", "sequence"), [("a", 2), ("stranger", 1)])
def test_a_ticket_not_held_is_not_confirmed(a_gate: MakeGate, user: str, sequence: int) -> None:
    place = a_gate()
    ticket = place.admit("a").ticket

    assert not place.confirm(user, Position(0, 1), sequence=sequence)
    assert place.admit("a").ticket == ticket
    assert place.describe().pending == 1


@pytest.mark.parametrize(("epoch", "error"), [(0, gate.EpochAhead), (2, StateStale)])
def test_a_ticket_of_another_epoch_is_not_confirmed(a_gate: MakeGate, epoch: int, error: type[StateStale]) -> None:
    place = a_gate()
    ticket = place.admit("a").ticket

    with pytest.raises(error):
        place.confirm("a", Position(0, 1), epoch=epoch)
    assert place.admit("a").ticket == ticket


@pytest.mark.parametrize(("epoch", "sequence"), [(0, 1), (2, 1), (1, 2)])
def test_a_mark_for_another_epoch_or_sequence_is_ignored(a_gate: MakeGate, epoch: int, sequence: int) -> None:
    """Else a repeat would be promised what lies in Redis alone."""
    place = a_gate()
    place.admit("a")
    ticket_store.mark_published(campaign_id=place.campaign_id, epoch=epoch, positions={("a", sequence): Position(0, 1)})
    ticket = place.admit("a").ticket

    assert ticket is not None
    assert not ticket.on_its_way


def test_more_marks_than_one_call_takes_are_all_written(a_gate: MakeGate) -> None:
    place = a_gate(quantity=1_000)
    users = [f"u{number}" for number in range(700)]
    for user in users:
        place.admit(user)
    positions = {(user, number): Position(0, number) for number, user in enumerate(users, start=1)}
    ticket_store.mark_published(campaign_id=place.campaign_id, epoch=1, positions=positions)
    held = ticket_store.held_tickets(campaign_id=place.campaign_id, epoch=1, user_ids=users)

    assert {(user, held[user].sequence): held[user].position for user in users} == positions


def test_pending_tickets_are_listed_by_score_up_to_the_limit(a_gate: MakeGate) -> None:
    place = a_gate()
    for user in ("a", "b", "c"):
        place.admit(user)
    positions = {("b", 2): Position(0, 9), ("a", 1): Position(0, 5)}
    ticket_store.mark_published(campaign_id=place.campaign_id, epoch=1, positions=positions)

    found = ticket_store.pending_between(
        campaign_id=place.campaign_id,
        epoch=1,
        min_score=Position(0, 0).score,
        max_score=Position(0, 9).score,
        limit=1,
    )

    assert [(ticket.user_id, ticket.sequence, ticket.position) for ticket in found] == [("a", 1, Position(0, 5))]
