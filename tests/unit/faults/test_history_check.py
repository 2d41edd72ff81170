"""The history checker: no alarm for what a correct service can do, and each wrong thing found and named rightly."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from faults.history import QUANTITY_CHANGED, REBUILT, Event, History, Request
from faults.history_check import check_history
from faults.verdict import CampaignRows, Inconclusive, Kind, Verdict
from tests.support.corruptions import CORRUPTIONS, Corruption
from tests.support.simulated_run import Run, Simulation

HEALTHY_SEEDS = range(1_000)
CORRUPT_SEEDS = 60  # of each of the 14 corruptions


def asked(user_id: str, start: float, end: float, status: int, told: int | str = "") -> Request:
    """`told` is the sequence or the code."""
    return Request(
        campaign_id="c",
        user_id=user_id,
        start=start,
        end=end,
        status=status,
        code=told if isinstance(told, str) else "",
        sequence=told if isinstance(told, int) else None,
    )


def check(*requests: Request, events: list[Event] | None = None, **rows: Any) -> Verdict:
    return check_history(
        History(list(requests), events or []),
        [CampaignRows(campaign_id="c", **{"quantity": 2, "coupons": [], **rows})],
    )


def kinds(verdict: Verdict) -> set[Kind]:
    return {finding.kind for finding in verdict.findings}


def raised(before: int, after: int, start: float, end: float, **more: Any) -> Event:
    details = {"before": before, "after": after, **more}
    return Event(what=QUANTITY_CHANGED, start=start, end=end, campaign_id="c", details=details)


def test_no_alarm_in_any_history_of_a_correct_service() -> None:
    seen = Counter[str]()
    for seed in HEALTHY_SEEDS:
        run = Simulation(seed).run()
        verdict = check_history(run.history, [run.rows])
        assert verdict.holds, f"seed {seed}: {verdict}"
        seen += Counter(_what_is_odd(run))
    assert min(seen.values()) >= 20, f"these histories show all that they are to show: {seen}"
    assert len(seen) == 9


def _what_is_odd(run: Run) -> dict[str, int]:
    answers = {(request.status, request.code) for request in run.history.requests}
    whats = {event.what for event in run.history.events}
    sequences = [sequence for _, sequence in [*run.rows.coupons, *run.rows.failed]]
    asking = {request.user_id for request in run.history.requests}
    promised_first = [promises[0] for promises in run.promises.values()]
    return {
        "sold out": (409, "sold-out") in answers,
        "unconfirmed": (503, "unconfirmed") in answers,
        "no answer": any(status == 0 for status, _ in answers),
        "rebuild": run.rows.epoch > 1,
        "quantity changed": QUANTITY_CHANGED in whats,
        "holes": max(sequences, default=0) > len(sequences),
        "200 before any 202": any(promise.status == 200 for promise in promised_first),
        "failed events": bool(run.rows.failed),
        "strangers": not {user_id for user_id, _ in run.rows.coupons} <= asking,
    }


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.__name__)
def test_what_is_wrong_is_found_and_named_and_nothing_else(corruption: Corruption) -> None:
    found = 0
    for seed in range(10_000):
        spoilt = corruption(Simulation(seed).run(), Random(seed))
        if spoilt is not None:
            verdict = check_history(spoilt.history, [spoilt.rows])
            assert kinds(verdict) == {CORRUPTIONS[corruption]}, f"seed {seed}: {verdict}"
            found += 1
        if found == CORRUPT_SEEDS:
            break
    assert found == CORRUPT_SEEDS


# --- healthy, and odd ---


def test_a_late_repeat_after_503_gets_its_earlier_sequence() -> None:
    early, other = asked("a", 0, 1, 503, "unconfirmed"), asked("b", 2, 3, 202, 2)
    assert check(early, other, asked("a", 9, 10, 200, 1), coupons=[("a", 1), ("b", 2)]).holds


def test_a_lost_answer_and_a_200_before_any_202() -> None:
    assert check(asked("a", 0, 5, 0, "timeout"), asked("a", 6, 7, 200, 1), coupons=[("a", 1)]).holds


def test_who_was_told_nothing_may_have_a_coupon() -> None:
    assert check(asked("a", 0, 5, 0, "timeout"), asked("b", 6, 7, 202, 2), coupons=[("a", 1), ("b", 2)]).holds


def test_holes_in_the_sequence_after_a_rebuild() -> None:
    verdict = check(asked("a", 0, 1, 202, 1), asked("b", 2, 3, 202, 70), coupons=[("a", 1), ("b", 70)], epoch=2)
    assert verdict.holds


def test_a_promise_that_a_failed_event_holds() -> None:
    assert check(asked("a", 0, 1, 202, 1), failed=[("a", 1)]).holds
    assert kinds(check(asked("a", 0, 1, 202, 1), failed=[("a", 2)])) == {Kind.OTHER_SEQUENCE}


def test_twins_get_a_202_and_a_200() -> None:
    assert check(asked("a", 0, 2, 200, 1), asked("a", 0, 3, 202, 1), coupons=[("a", 1)]).holds


def test_a_refusal_whose_request_began_before_the_promise_was_read() -> None:
    """The first of two requests was refused while the campaign was paused, and its answer came late."""
    paused, promised = asked("a", 0, 9, 409, "paused"), asked("a", 1, 2, 202, 1)
    assert check(paused, promised, coupons=[("a", 1)]).holds
    again = asked("a", 2.1, 3, 409, "paused")
    assert kinds(check(promised, again, coupons=[("a", 1)])) == {Kind.REFUSED_AFTER_PROMISE}


def test_sold_out_may_precede_the_last_winner_s_answer() -> None:
    winners = [asked("a", 0, 1, 202, 1), asked("b", 2, 9, 202, 2)]
    rows = [("a", 1), ("b", 2)]
    assert check(*winners, asked("x", 3, 4, 409, "sold-out"), coupons=rows).holds
    verdict = check(*winners, asked("x", 1, 1.9, 409, "sold-out"), coupons=rows)
    assert kinds(verdict) == {Kind.SOLD_OUT_EARLY}
    assert "x at +1.000 s to +1.900 s: at most 1 tickets were held, of 2" in str(verdict)


def test_sold_out_before_and_shortly_after_a_raise() -> None:
    winners = [asked("a", 0, 1, 202, 1), asked("b", 0, 1, 202, 2), asked("d", 20, 21, 202, 3)]
    rows: dict[str, Any] = {"quantity": 3, "coupons": [("a", 1), ("b", 2), ("d", 3)], "events": [raised(2, 3, 10, 11)]}
    for start, holds in [(5, True), (10.5, True), (11.1, True), (11.3, False)]:
        told = asked("x", start, start + 0.05, 409, "sold-out")
        assert check(*winners, told, **rows).holds == holds, start


def test_sold_out_at_a_lower_quantity() -> None:
    winner, told = asked("a", 0, 1, 202, 1), asked("x", 5, 6, 409, "sold-out")
    for changed_at, holds in [(4, True), (5.5, True), (7, False)]:
        events = [raised(2, 1, changed_at, changed_at + 0.1)]
        assert check(winner, told, quantity=1, coupons=[("a", 1)], events=events).holds == holds, changed_at


@pytest.mark.parametrize("wanted", [1, 9], ids=["lowered", "raised"])
def test_a_change_that_failed_was_in_force_at_no_time(wanted: int) -> None:
    """Not even while it was tried: nobody may hear "sold out" of a quantity that never came to be."""
    winner, failed = asked("a", 0, 1, 202, 1), [raised(2, wanted, 4, 8, failed=True)]
    for start in (2, 5, 9):
        told = asked("x", start, start + 0.1, 409, "sold-out")
        assert kinds(check(winner, told, coupons=[("a", 1)], events=failed)) == {Kind.SOLD_OUT_EARLY}, start
    full = [winner, asked("b", 2, 3, 202, 2), asked("x", 5, 6, 409, "sold-out")]
    assert check(*full, coupons=[("a", 1), ("b", 2)], events=failed).holds


def test_a_failed_change_does_not_count_as_a_quantity() -> None:
    winners = [asked("a", 0, 1, 202, 1), asked("b", 0, 1, 202, 2), asked("d", 20, 21, 202, 3)]
    events = [
        raised(1, 2, -2, -1),
        raised(2, 1, 3, 4, failed=True),
        raised(2, 3, 10, 11),
        raised(3, 50, 30, 31, failed=True),
    ]
    for start, holds in [(2, True), (3.5, True), (10.5, True), (12, False), (30.5, True)]:
        told = asked("x", start, start + 0.05, 409, "sold-out")
        rows = [("a", 1), ("b", 2), ("d", 3)]
        assert check(*winners, told, quantity=3, coupons=rows, events=events).holds == holds, start


def test_a_change_to_the_same_quantity_is_none() -> None:
    winner, told = asked("a", 0, 1, 202, 1), asked("x", 5, 6, 409, "sold-out")
    events = [raised(1, 2, 2, 3), raised(1, 1, 1.5, 60)]
    assert kinds(check(winner, told, coupons=[("a", 1)], events=events)) == {Kind.SOLD_OUT_EARLY}


def test_an_event_that_ended_well_without_its_coupon_is_found() -> None:
    told = [asked("a", 0, 1, 202, 1), asked("b", 0, 1, 202, 2)]
    rows = [("a", 1), ("b", 2)]
    assert check(*told, coupons=rows, succeeded=[("b", 2), ("b", 2)]).holds, "two messages of one ticket"
    for succeeded in [("b", 3), ("x", 2), ("x", 9)]:
        verdict = check(*told, coupons=rows, succeeded=[succeeded])
        assert kinds(verdict) == {Kind.SUCCESS_WITHOUT_COUPON}
        assert f"{succeeded[0]} #{succeeded[1]}" in str(verdict)
    lost = check(*told, coupons=rows[:1], succeeded=[("b", 2)])
    assert kinds(lost) == {Kind.SUCCESS_WITHOUT_COUPON, Kind.LOST}


def test_a_forgotten_ticket_counted_before_the_rebuild() -> None:
    """Nobody was promised it; its place went to somebody else after the rebuild."""
    requests = [
        asked("a", 0, 1, 202, 1),
        asked("gone", 2, 3, 503, "unconfirmed"),
        asked("x", 4, 5, 409, "sold-out"),
        asked("b", 20, 21, 202, 2),
    ]
    rows: dict[str, Any] = {"coupons": [("a", 1), ("b", 2)], "epoch": 2}
    rebuilt = Event(what=REBUILT, start=10, end=11)
    assert check(*requests, events=[rebuilt], **rows).holds
    assert check(*requests, **rows).holds, "the epoch tells of a rebuild at an unknown time"
    early = Event(what=REBUILT, start=1, end=1.5)
    assert kinds(check(*requests, events=[early], **rows)) == {Kind.SOLD_OUT_EARLY}


def test_tickets_from_elsewhere_count_as_held_and_are_told() -> None:
    verdict = check(asked("x", 0, 1, 409, "sold-out"), coupons=[("a", 1), ("b", 2)])
    assert verdict.holds
    assert verdict.campaigns[0].untracked == 2


def test_a_request_that_was_never_sent_took_no_place() -> None:
    requests = [asked("a", 0, 1, 0, "no-connection"), asked("x", 2, 3, 409, "sold-out"), asked("a", 4, 5, 202, 1)]
    assert kinds(check(*requests, quantity=1, coupons=[("a", 1)])) == {Kind.SOLD_OUT_EARLY}
    other = [asked("a", 0, 1, 0, "no-connection"), asked("b", 0, 1, 202, 2), asked("a", 4, 5, 202, 1)]
    assert kinds(check(*other, coupons=[("a", 1), ("b", 2)])) == {Kind.OUT_OF_ORDER}, "it had not asked yet"


# --- wrong ---


def test_order_counts_between_a_promise_and_a_first_request() -> None:
    rows = [("a", 2), ("b", 1)]
    assert check(asked("a", 0, 1, 202, 2), asked("b", 0.9, 2, 202, 1), coupons=rows).holds, "they overlapped"
    later = check(asked("a", 0, 1, 202, 2), asked("b", 1.1, 2, 202, 1), coupons=rows)
    assert kinds(later) == {Kind.OUT_OF_ORDER}


def test_several_wrong_things_are_all_named() -> None:
    verdict = check(
        asked("a", 0, 1, 202, 1),
        asked("b", 2, 3, 202, 1),
        asked("b", 4, 5, 410, "closed"),
        coupons=[("a", 1), ("d", 7), ("e", 8)],
    )
    assert kinds(verdict) == {
        Kind.SEQUENCE_TWICE,
        Kind.LOST,
        Kind.REFUSED_AFTER_PROMISE,
        Kind.BEYOND_QUANTITY,
    }


@pytest.mark.parametrize("rows", [[], [CampaignRows(campaign_id="other", quantity=1)]])
def test_a_campaign_without_rows_cannot_be_checked(rows: list[CampaignRows]) -> None:
    with pytest.raises(Inconclusive, match="no such campaigns"):
        check_history(History([asked("a", 0, 1, 202, 1)], []), rows)


def test_no_requests_or_an_unexplained_quantity_prove_nothing() -> None:
    with pytest.raises(Inconclusive):
        check_history(History([], []), [])
    with pytest.raises(Inconclusive, match="its quantity is 9"):
        check(asked("a", 0, 1, 202, 1), quantity=9, events=[raised(2, 3, 10, 11)])
