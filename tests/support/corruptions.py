"""One wrong thing put into a healthy run. Each function returns the run with it, or None where the run has no place
for it; `CORRUPTIONS` says what the checker must name then, and nothing else."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from faults.history import QUANTITY_CHANGED, REBUILT, History, Request
from faults.verdict import CampaignRows, Kind
from tests.support.simulated_run import CAMPAIGN, Run

UNUSED = 10_000  # no run gets as far as this sequence
Corruption = Callable[[Run, Random], Run | None]


def lose_a_promised_row(run: Run, random: Random) -> Run | None:
    victim = random.choice(sorted(run.promises))
    return with_rows(
        run,
        coupons=[row for row in run.rows.coupons if row[0] != victim],
        failed=[row for row in run.rows.failed if row[0] != victim],
    )


def write_another_sequence(run: Run, random: Random) -> Run | None:
    return _with_sequences(run, {_promised_coupon(run, random): UNUSED}, in_history=False)


def swap_two_coupons(run: Run, random: Random) -> Run | None:
    promised = _promised_coupons(run)
    if len(promised) < 2:
        return None
    (one, first), (other, second) = random.sample(promised, 2)
    return _with_sequences(run, {one: second, other: first}, in_history=False)


def change_a_promise(run: Run, random: Random) -> Run | None:
    repeated = [promise for promises in run.promises.values() if len(promises) > 1 for promise in promises]
    if not repeated:
        return None
    victim = random.choice(repeated)
    return _replacing(run, {id(victim): replace(victim, sequence=UNUSED)})


def forget_the_number(run: Run, random: Random) -> Run | None:
    repeated = [promises[-1] for promises in run.promises.values() if len(promises) > 1]
    if not repeated:
        return None
    victim = random.choice(repeated)
    return _replacing(run, {id(victim): replace(victim, sequence=None)})


def refuse_a_winner(run: Run, random: Random) -> Run | None:
    promise = random.choice(run.promises[random.choice(sorted(run.promises))])
    status, code = random.choice([(410, "closed"), (404, "not-found"), (409, "paused"), (409, "not-open")])
    start = promise.end + random.choice([0.0001, 0.5])
    return _adding(run, replace(promise, start=start, end=start + 0.01, status=status, code=code, sequence=None))


def give_one_sequence_twice(run: Run, random: Random) -> Run | None:
    """To neighbours, so that nobody else's order is touched."""
    users = {sequence: user_id for user_id, sequence in [*run.rows.coupons, *run.rows.failed]}
    pairs = [number for number in users if {users[number], users.get(number + 1)} <= set(run.promises)]
    if not pairs:
        return None
    number = random.choice(pairs)
    return _with_sequences(run, {users[number + 1]: number}, in_history=True)


def give_a_user_two_coupons(run: Run, random: Random) -> Run | None:
    if not run.rows.coupons or len(run.rows.coupons) + 1 > run.rows.quantity:
        return None
    second = (random.choice(run.rows.coupons)[0], UNUSED)
    return with_rows(run, coupons=[*run.rows.coupons, second])


def issue_beyond_the_quantity(run: Run, random: Random) -> Run | None:
    missing = run.rows.quantity - len(run.rows.coupons) - len(run.rows.failed)
    more = [(f"beyond{number}", UNUSED + number) for number in range(missing + 1)]
    return with_rows(run, coupons=[*run.rows.coupons, *more])


def let_a_later_user_overtake(run: Run, random: Random) -> Run | None:
    began: dict[str, float] = {}
    for request in run.history.requests:
        if request.was_sent:
            began[request.user_id] = min(request.start, began.get(request.user_id, request.start))
    told = {user_id: promises[0] for user_id, promises in run.promises.items()}
    pairs = [
        (one.sequence, two.sequence, first, later)
        for first, one in told.items()
        for later, two in told.items()
        if one.end < began[later]
    ]
    if not pairs:
        return None
    small, large, first, later = random.choice(sorted(pairs))
    return _with_sequences(run, {first: large or 0, later: small or 0}, in_history=True)


def say_sold_out_at_the_beginning(run: Run, random: Random) -> Run | None:
    """One ticket is missing: as many users as the least quantity, less one, had asked before the answer was there."""
    quantities = [run.rows.quantity]
    for event in run.history.events:
        if event.what == QUANTITY_CHANGED:
            quantities += [event.details["before"], event.details["after"]]
    began: dict[str, float] = {}
    for request in sorted(run.history.requests, key=lambda request: request.start):
        began.setdefault(request.user_id, request.start)
    strangers = {user_id for user_id, _ in [*run.rows.coupons, *run.rows.failed]} - set(began)
    allowed = min(quantities) - len(strangers) - 1
    moments = sorted(began.values())
    if allowed < 0 or allowed >= len(moments):
        return None
    return _told_sold_out(run, start=moments[0], end=moments[allowed])


def say_sold_out_when_all_is_quiet(run: Run, random: Random) -> Run | None:
    """A place was still free in the end."""
    if len(run.rows.coupons) + len(run.rows.failed) >= run.rows.quantity or _rebuilds_unnoticed(run):
        return None
    quiet = _end_of(run) + 1
    return _told_sold_out(run, start=quiet, end=quiet + 0.01)


def lose_a_place_that_nobody_was_promised(run: Run, random: Random) -> Run | None:
    """Sold out was said for good although one ticket has vanished since: of a user who has no promise, and no row."""
    asked = {request.user_id for request in run.history.requests if request.may_have_admitted}
    unpromised = sorted({user_id for user_id, _ in run.rows.coupons} & asked - set(run.promises))
    full = len(run.rows.coupons) + len(run.rows.failed) == run.rows.quantity
    if not unpromised or not full or _rebuilds_unnoticed(run):
        return None
    victim = random.choice(unpromised)
    smaller = with_rows(run, coupons=[row for row in run.rows.coupons if row[0] != victim])
    quiet = _end_of(run) + 1
    return _told_sold_out(smaller, start=quiet, end=quiet + 0.01)


def say_success_without_a_coupon(run: Run, random: Random) -> Run | None:
    if not run.rows.failed:
        return None
    return with_rows(run, succeeded=[random.choice(run.rows.failed)])


CORRUPTIONS: dict[Corruption, Kind] = {
    lose_a_promised_row: Kind.LOST,
    write_another_sequence: Kind.OTHER_SEQUENCE,
    swap_two_coupons: Kind.OTHER_SEQUENCE,
    change_a_promise: Kind.CHANGED,
    forget_the_number: Kind.WITHOUT_SEQUENCE,
    refuse_a_winner: Kind.REFUSED_AFTER_PROMISE,
    give_one_sequence_twice: Kind.SEQUENCE_TWICE,
    give_a_user_two_coupons: Kind.TWO_COUPONS,
    issue_beyond_the_quantity: Kind.BEYOND_QUANTITY,
    let_a_later_user_overtake: Kind.OUT_OF_ORDER,
    say_sold_out_at_the_beginning: Kind.SOLD_OUT_EARLY,
    say_sold_out_when_all_is_quiet: Kind.SOLD_OUT_EARLY,
    lose_a_place_that_nobody_was_promised: Kind.SOLD_OUT_EARLY,
    say_success_without_a_coupon: Kind.SUCCESS_WITHOUT_COUPON,
}


def with_rows(run: Run, **changes: list[tuple[str, int]]) -> Run:
    rows: dict[str, Any] = {"coupons": run.rows.coupons, "failed": run.rows.failed} | changes
    return Run(
        run.history,
        CampaignRows(campaign_id=CAMPAIGN, quantity=run.rows.quantity, epoch=run.rows.epoch, **rows),
    )


def _promised_coupons(run: Run) -> list[tuple[str, int]]:
    return [row for row in run.rows.coupons if row[0] in run.promises]


def _promised_coupon(run: Run, random: Random) -> str:
    return random.choice(_promised_coupons(run) or [("", 0)])[0]


def _with_sequences(run: Run, sequences: dict[str, int], *, in_history: bool) -> Run | None:
    if "" in sequences:
        return None

    def new(row: tuple[str, int]) -> tuple[str, int]:
        return row[0], sequences.get(*row)

    changed = with_rows(run, coupons=[*map(new, run.rows.coupons)], failed=[*map(new, run.rows.failed)])
    promises = [promise for user_id in sequences for promise in run.promises[user_id]]
    new_promises = {id(each): replace(each, sequence=sequences[each.user_id]) for each in promises}
    return _replacing(changed, new_promises) if in_history else changed


def _replacing(run: Run, changed: dict[int, Request]) -> Run:
    requests = [changed.get(id(request), request) for request in run.history.requests]
    return Run(History(requests, run.history.events), run.rows)


def _adding(run: Run, request: Request) -> Run:
    return Run(History([*run.history.requests, request], run.history.events), run.rows)


def _told_sold_out(run: Run, *, start: float, end: float) -> Run:
    answer = Request(campaign_id=CAMPAIGN, user_id="late", start=start, end=end, status=409, code="sold-out")
    return _adding(run, answer)


def _end_of(run: Run) -> float:
    return max([request.end for request in run.history.requests] + [event.end for event in run.history.events])


def _rebuilds_unnoticed(run: Run) -> bool:
    return run.rows.epoch - 1 > sum(event.what == REBUILT for event in run.history.events)
