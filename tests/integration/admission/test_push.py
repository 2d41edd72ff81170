"""load.lua and push.lua: the first load once, and revisions that only go up."""

from collections.abc import Callable

import pytest

from coupons.admission import campaign_store
from coupons.admission.campaign_store import PushResult
from coupons.admission.gate import Outcome
from coupons.admission.scripts import admission_redis
from coupons.errors import StateStale
from tests.support.gate import Gate

MakeGate = Callable[..., Gate]


def test_a_second_load_of_a_campaign_changes_nothing(a_gate: MakeGate) -> None:
    place = a_gate(quantity=3)
    place.admit("a")

    assert not campaign_store.load(campaign_id=place.campaign_id, epoch=1, settings=place.settings(quantity=99))
    assert (place.describe().settings.quantity, place.describe().admitted) == (3, 1)


@pytest.mark.parametrize("left", [0, 1, 2], ids=["campaign", "tickets", "pending"])
def test_nothing_is_loaded_beside_any_key_that_is_left(a_gate: MakeGate, left: int) -> None:
    place = a_gate()
    place.admit("a")
    admission_redis().delete(*(key for number, key in enumerate(place.keys) if number != left))

    assert not campaign_store.load(campaign_id=place.campaign_id, epoch=1, settings=place.settings())


def test_what_was_loaded_is_described_as_it_was_given(a_gate: MakeGate) -> None:
    place = a_gate(quantity=7, state="paused", revision=4, epoch=2, closes_in_ms=1_000)

    description = place.describe()

    assert (description.epoch, description.admitted, description.settled, description.next_sequence) == (2, 0, 0, 1)
    assert (description.settings.quantity, description.settings.state, description.settings.revision) == (
        7,
        "paused",
        4,
    )
    assert description.settings.closes_at_ms is not None


def test_a_newer_revision_is_taken_over_as_a_whole(a_gate: MakeGate) -> None:
    place = a_gate()
    settings = place.settings(revision=2, quantity=9, state="paused", opens_at_ms=5, closes_at_ms=6)

    assert campaign_store.push(campaign_id=place.campaign_id, epoch=1, settings=settings) is PushResult.PUSHED
    assert place.describe().settings == settings


def test_a_push_can_remove_the_closing_time(a_gate: MakeGate) -> None:
    place = a_gate(closes_in_ms=-1)
    place.closes_in_ms = None
    place.push(2)

    assert place.describe().settings.closes_at_ms is None
    assert place.admit("a").outcome is Outcome.ADMITTED


@pytest.mark.parametrize("revision", [1, 5])
def test_a_revision_that_redis_has_or_has_passed_is_ignored(a_gate: MakeGate, revision: int) -> None:
    place = a_gate(revision=5, quantity=3)

    assert place.push(revision, quantity=9) is PushResult.SUPERSEDED
    assert place.describe().settings.quantity == 3


def test_a_quantity_below_those_who_are_in_is_refused(a_gate: MakeGate) -> None:
    place = a_gate(quantity=3)
    place.admit("a")
    place.admit("b")

    assert place.push(2, quantity=1) is PushResult.BELOW_ADMITTED
    assert place.describe().settings.quantity == 3


def test_a_quantity_equal_to_the_admitted_is_sold_out(a_gate: MakeGate) -> None:
    place = a_gate(quantity=3)
    place.admit("a")

    assert place.push(2, quantity=1) is PushResult.PUSHED
    assert place.admit("b").outcome is Outcome.SOLD_OUT


def test_a_raised_quantity_lets_more_in(a_gate: MakeGate) -> None:
    place = a_gate(quantity=1)
    place.admit("a")
    place.push(2, quantity=2)
    ticket = place.admit("b").ticket

    assert ticket is not None
    assert ticket.sequence == 2


def test_nothing_is_pushed_into_a_campaign_that_was_never_loaded(a_gate: MakeGate) -> None:
    place = a_gate()
    admission_redis().delete(*place.keys)

    with pytest.raises(StateStale):
        place.push(2)
    assert not admission_redis().exists(*place.keys)
