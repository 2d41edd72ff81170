"""lower.lua: admission stops at a lower quantity before it is committed, and nobody is told that nothing is left."""

from collections.abc import Callable

import pytest

from coupons.admission import campaign_store
from coupons.admission.campaign_store import PushResult, refusal_states
from coupons.admission.gate import Outcome
from coupons.admission.rebuild import BuiltState, begin_rebuild, finish_rebuild
from coupons.admission.scripts import admission_redis
from coupons.errors import StateStale
from tests.support.gate import Gate

MakeGate = Callable[..., Gate]


def lower(place: Gate, quantity: int, *, revision: int = 2) -> PushResult:
    return campaign_store.lower(campaign_id=place.campaign_id, epoch=place.epoch, revision=revision, quantity=quantity)


def test_users_are_admitted_up_to_the_lower_quantity(a_gate: MakeGate) -> None:
    place = a_gate(quantity=3)
    place.admit("a")

    assert lower(place, 2) is PushResult.LOWERING

    outcomes = [place.admit(user).outcome for user in ("b", "c", "b")]
    assert outcomes == [Outcome.ADMITTED, Outcome.PAUSED, Outcome.ALREADY_ADMITTED]
    assert refusal_states({place.campaign_id: place.epoch})[place.campaign_id].refusal is Outcome.PAUSED


def test_the_settings_stay_those_that_are_committed(a_gate: MakeGate) -> None:
    place = a_gate(quantity=3)
    before = place.describe()

    lower(place, 2)

    assert before.lowering_revision is None
    assert place.describe().lowering_revision == 2
    assert place.describe().settings == before.settings


def test_a_campaign_that_is_sold_out_stays_so(a_gate: MakeGate) -> None:
    place = a_gate(quantity=1)
    place.admit("a")
    lower(place, 1)

    assert place.admit("b").outcome is Outcome.SOLD_OUT


def test_a_quantity_below_those_who_are_in_stops_nobody(a_gate: MakeGate) -> None:
    place = a_gate(quantity=3)
    place.admit("a")
    place.admit("b")

    assert lower(place, 1) is PushResult.BELOW_ADMITTED
    assert place.admit("c").outcome is Outcome.ADMITTED


@pytest.mark.parametrize("revision", [4, 5])
def test_one_that_comes_after_its_time_stops_nobody(a_gate: MakeGate, revision: int) -> None:
    place = a_gate(revision=5)

    assert lower(place, 1, revision=revision) is PushResult.SUPERSEDED
    assert place.describe().lowering_revision is None


@pytest.mark.parametrize("revision", [2, 3])
def test_a_push_of_its_or_a_later_revision_ends_it(a_gate: MakeGate, revision: int) -> None:
    place = a_gate(quantity=3)
    lower(place, 0)
    assert place.admit("a").outcome is Outcome.PAUSED

    place.push(revision, quantity=1)

    assert place.describe().lowering_revision is None
    assert [place.admit(user).outcome for user in ("a", "b")] == [Outcome.ADMITTED, Outcome.SOLD_OUT]


def test_the_push_of_an_earlier_change_leaves_it(a_gate: MakeGate) -> None:
    """Committed before the lowering began, and slower to reach Redis."""
    place = a_gate(quantity=3)
    lower(place, 1, revision=3)

    assert place.push(2, quantity=9) is PushResult.PUSHED

    assert [place.admit(user).outcome for user in ("a", "b")] == [Outcome.ADMITTED, Outcome.PAUSED]


@pytest.mark.parametrize(("quantity", "revision"), [(3, 2), (1, 2), (3, 4)])
def test_of_two_the_lowest_quantity_and_the_highest_revision_stay(
    a_gate: MakeGate, quantity: int, revision: int
) -> None:
    """The second comes from a process that stood still, or whose change was not committed."""
    place = a_gate(quantity=5)
    lower(place, 2, revision=3)
    lower(place, quantity, revision=revision)

    outcomes = [place.admit(user).outcome for user in ("a", "b", "c")]

    assert outcomes.count(Outcome.ADMITTED) == min(2, quantity)
    assert outcomes[-1] is Outcome.PAUSED
    assert place.describe().lowering_revision == max(3, revision)


def test_what_it_refused_is_held_when_it_ends(a_gate: MakeGate) -> None:
    """Processes may go on saying so by themselves (decision 0029)."""
    place = a_gate(quantity=3)
    lower(place, 0)

    assert place.push(2, quantity=3, hold_ms=60_000) is PushResult.ON_HOLD


def test_nothing_is_written_into_a_state_that_is_not_current(a_gate: MakeGate) -> None:
    place = a_gate()
    admission_redis().delete(*place.keys)

    with pytest.raises(StateStale):
        lower(place, 1)
    assert not admission_redis().exists(*place.keys)


def test_a_rebuild_ends_it(a_gate: MakeGate) -> None:
    place = a_gate(quantity=3)
    lower(place, 0)
    rebuilding = begin_rebuild(campaign_id=place.campaign_id, token="t")
    finish_rebuild(rebuilding, epoch=place.epoch, settings=place.settings(), state=BuiltState())

    assert place.describe().lowering_revision is None
    assert place.admit("a").outcome is Outcome.ADMITTED
