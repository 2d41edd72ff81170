"""The gate knows whether its state is the current one: what is missing, rewound or outdated is STALE, no answer."""

from collections.abc import Callable

import pytest

from coupons.admission import ticket_store
from coupons.admission.gate import EpochAhead
from coupons.admission.rebuild import begin_rebuild
from coupons.admission.scripts import admission_redis
from coupons.errors import GateUnavailable, StateStale
from tests.support.gate import Gate

MakeGate = Callable[..., Gate]
Spoil = Callable[[Gate], object]

SPOILT: list[tuple[str, Spoil]] = [
    ("missing", lambda place: admission_redis().delete(place.keys.campaign)),
    ("missing", lambda place: admission_redis().delete(*place.keys)),
    *[
        ("missing", lambda place, field=field: admission_redis().hdel(place.keys.campaign, field))
        for field in ("epoch", "revision", "state", "quantity", "admitted", "settled", "next_sequence", "closes_at_ms")
    ],
    ("run_id", lambda place: admission_redis().hset(place.keys.campaign, "run_id", "0" * 40)),
    ("epoch", lambda place: admission_redis().hset(place.keys.campaign, "epoch", "0")),
    ("tickets", lambda place: admission_redis().delete(place.keys.tickets)),
    ("tickets", lambda place: admission_redis().hdel(place.keys.tickets, "a")),
    ("tickets", lambda place: admission_redis().hset(place.keys.tickets, "forged", "9")),
    ("pending", lambda place: admission_redis().delete(place.keys.pending)),
    ("pending", lambda place: admission_redis().zrem(place.keys.pending, "a")),
    ("rebuilding", lambda place: begin_rebuild(campaign_id=place.campaign_id, token="t")),
]


@pytest.mark.parametrize(("reason", "spoil"), SPOILT)
def test_an_outdated_state_is_stale_with_its_reason(a_gate: MakeGate, reason: str, spoil: Spoil) -> None:
    place = a_gate()
    place.admit("a")
    place.admit("b")
    spoil(place)

    with pytest.raises(StateStale, match=rf"not current \({reason}\)"):
        place.admit("c")


@pytest.mark.parametrize(
    "ask",
    [
        lambda place: place.admit("a"),
        lambda place: place.describe(),
        lambda place: place.push(2),
        lambda place: ticket_store.held_tickets(campaign_id=place.campaign_id, epoch=1, user_ids=["a"]),
        lambda place: ticket_store.held_sequences(epochs={place.campaign_id: 1}, users={place.campaign_id: ["a"]}),
        lambda place: ticket_store.settle(epochs={place.campaign_id: 1}, users={place.campaign_id: ["a"]}),
        lambda place: ticket_store.pending_between(
            campaign_id=place.campaign_id, epoch=1, min_score=0, max_score=1, limit=1
        ),
    ],
    ids=["admit", "describe", "push", "held", "sequences", "settle", "pending_range"],
)
def test_no_script_reads_or_writes_a_stale_state(a_gate: MakeGate, ask: Spoil) -> None:
    place = a_gate()
    place.admit("a")
    admission_redis().hset(place.keys.campaign, "run_id", "0" * 40)
    before = [admission_redis().dump(key) for key in place.keys]

    with pytest.raises(StateStale):
        ask(place)

    assert [admission_redis().dump(key) for key in place.keys] == before


def test_an_older_epoch_is_told_to_look_again(a_gate: MakeGate) -> None:
    place = a_gate(epoch=3)

    with pytest.raises(EpochAhead, match="epoch 3, the caller knew 2"):
        place.admit("a", epoch=2)


def test_a_newer_epoch_makes_the_state_stale(a_gate: MakeGate) -> None:
    with pytest.raises(StateStale, match="epoch"):
        a_gate(epoch=1).admit("a", epoch=2)


@pytest.mark.parametrize("role", ["a replica", "a primary"])
def test_a_replica_refuses_although_it_has_the_whole_state(a_gate: MakeGate, role: str) -> None:
    place = a_gate()
    place.admit("a")
    redis = admission_redis()
    if role == "a primary":
        assert place.admit("a").ticket is not None
        return
    redis.slaveof("127.0.0.1", 1)  # nobody is there: a replica that lags for ever
    try:
        with pytest.raises(GateUnavailable, match=r"read only replica|READONLY"):
            place.admit("a")
        plain = redis.eval("return redis.call('HGET', KEYS[1], 'a')", 1, place.keys.tickets)
        assert plain == b"1", "the twin: a script without its first line answers from what it has"
    finally:
        redis.slaveof()


def test_a_full_redis_refuses_new_users_and_settles_promises(a_gate: MakeGate) -> None:
    place = a_gate()
    place.admit("a")
    redis = admission_redis()
    redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(GateUnavailable):
            place.admit("b")
        assert ticket_store.held_tickets(campaign_id=place.campaign_id, epoch=1, user_ids=["a"])
        assert ticket_store.settle(epochs={place.campaign_id: 1}, users={place.campaign_id: ["a"]}) == 1
        assert place.describe().admitted == 1
    finally:
        redis.config_set("maxmemory", "0")
