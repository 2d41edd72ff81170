"""Proves from a history and the database that promises were kept, no refusal came too early, and the order was right.

    bin/stack exec -- .venv/bin/python -m faults.history_check FILE...

Run it at rest: a ticket that is still pending looks lost. It exits 0 when the history holds, 1 when it does not, 2 when
it could not check. A history shows only when a request began and when its answer arrived; the gate decided at one
unknown moment in between. From that follow these checks of each campaign:

- A promise (202, or 200 to a repeat) became a coupon of that user with that sequence, or an open failed event that
  holds the ticket. All promises to a user name one sequence. A request that began after a promise had arrived was not
  refused.
- Coupons and tickets of failed events together do not exceed the quantity; each user and each sequence has one.
- Order: a promise that arrived before another user's first request began was decided earlier, so its sequence is
  smaller. This holds across a rebuild: sequences continue after the highest one ever seen, and a rebuild sees every
  promised one. Gaps are not a finding.
- "Sold out" in an answer that arrived at `e` means that at least `quantity` tickets were held at some moment before
  `e`. A user can have held one only if the user has a row or was promised one in the end (a ticket is not given back),
  and if a request that may have admitted the user (a promise, no answer, or a 5xx) began before `e`. The number of
  these users is an upper bound, so a number below the quantity is a proof. Rows of users whom this history does not
  show as possibly admitted came from elsewhere at an unknown time. They count as held, and `untracked` is their number.
- A rebuild may lose a ticket that was not promised, so its user need not have a row. If a rebuild ended after the
  answer had begun, users without a row count too if a request before `e` may have admitted them. `rebuilt` events
  report the rebuilds; if the campaign's epoch shows more of them, each answer may have come before a rebuild.
- The quantity is the lowest that may have been in force during the answer. A change is in force from the beginning of
  its event at the earliest, and `staleness_sec` after its end at the latest: every process knows a change within
  200 ms. A change that failed, or to the same quantity, was never in force. The check does not know of a change without
  an event.
- A failed event that ended in SUCCESS has a coupon of its user with its sequence.
- What shops did with the coupons: redemption_check.py.
"""

import argparse
import sys
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from couponsite.terminal import make_printing_harmless
from faults.history import QUANTITY_CHANGED, REBUILT, BrokenHistory, Checkout, Event, History, Request, read_history
from faults.redemption_check import check_redemptions
from faults.verdict import CampaignRows, CampaignVerdict, Inconclusive, Kind, Verdict

STALENESS_SEC = 0.2
REFUSALS = frozenset({404, 409, 410})
SOLD_OUT = "sold-out"


def check_history(history: History, rows: Iterable[CampaignRows], *, staleness_sec: float = STALENESS_SEC) -> Verdict:
    """Raises Inconclusive when the history has no request, or a campaign in it has no rows."""
    requests: dict[str, list[Request]] = defaultdict(list)
    for request in history.requests:
        requests[request.campaign_id].append(request)
    checkouts: dict[str, list[Checkout]] = defaultdict(list)
    for checkout in history.checkouts:
        checkouts[checkout.campaign_id].append(checkout)
    campaigns = {each.campaign_id: each for each in rows}
    if not requests or not requests.keys() <= campaigns.keys():
        raise Inconclusive(f"no requests, or no such campaigns: {sorted(requests.keys() - campaigns.keys())}")
    verdicts = []
    for campaign_id, mine in requests.items():
        verdict = _check_campaign(mine, history.events, campaigns[campaign_id], staleness_sec)
        check_redemptions(checkouts[campaign_id], campaigns[campaign_id], verdict)
        verdicts.append(verdict)
    return Verdict(verdicts)


@dataclass(slots=True)
class _User:
    """The history of one user."""

    first_asked: float = float("inf")
    earliest_admission: float = float("inf")  # start of the first request that may have admitted the user
    promised_at: float = float("inf")  # arrival of the first promise
    promised_sequences: list[int] = field(default_factory=list)  # distinct, in the order of the answers

    @property
    def maybe_admitted(self) -> bool:
        return self.earliest_admission < float("inf")


class _Campaign:
    """The requests and rows of one campaign, by user."""

    def __init__(self, requests: Sequence[Request], rows: CampaignRows, verdict: CampaignVerdict) -> None:
        self.requests = sorted(requests, key=lambda request: request.end)
        self.began = min(request.start for request in requests)
        self.rows = rows
        self.verdict = verdict
        self.users: dict[str, _User] = defaultdict(_User)
        self.written: dict[str, list[int]] = defaultdict(list)
        for user_id, sequence in [*rows.coupons, *rows.failed]:
            self.written[user_id].append(sequence)
        for request in self.requests:
            self._see(request)

    def _see(self, request: Request) -> None:
        if not request.was_sent:
            return
        user = self.users[request.user_id]
        user.first_asked = min(user.first_asked, request.start)
        if request.may_have_admitted:
            user.earliest_admission = min(user.earliest_admission, request.start)
        if request.promises:
            user.promised_at = min(user.promised_at, request.end)
            if request.sequence is None:
                self.verdict.found(Kind.WITHOUT_SEQUENCE, f"{request.user_id}, {request.status}")
            elif request.sequence not in user.promised_sequences:
                user.promised_sequences.append(request.sequence)

    def sequence_of(self, user_id: str) -> int | None:
        """The written sequence, unless only others were promised."""
        promised, written = self.users[user_id].promised_sequences, self.written.get(user_id, [])
        known = [sequence for sequence in written if sequence in promised] or promised or written
        return known[0] if known else None

    def at(self, moment: float) -> str:
        return f"{moment - self.began:+.3f} s"


def _check_campaign(
    requests: Sequence[Request], events: Sequence[Event], rows: CampaignRows, staleness_sec: float
) -> CampaignVerdict:
    verdict = CampaignVerdict(rows.campaign_id, requests=len(requests))
    campaign = _Campaign(requests, rows, verdict)
    mine = [event for event in events if event.campaign_id in (None, rows.campaign_id)]
    _check_promises(campaign)
    _check_rows(campaign)
    _check_order(campaign)
    _check_sold_out(campaign, mine, staleness_sec)
    return verdict


def _check_promises(campaign: _Campaign) -> None:
    found = campaign.verdict.found
    owners: dict[int, str] = {}
    for user_id, user in campaign.users.items():
        written = campaign.written.get(user_id, [])
        campaign.verdict.promised += bool(user.promised_sequences)
        if len(user.promised_sequences) > 1:
            found(Kind.CHANGED, f"{user_id}: {user.promised_sequences}")
        if user.promised_sequences and not written:
            found(Kind.LOST, f"{user_id} #{user.promised_sequences[0]}, promised at {campaign.at(user.promised_at)}")
        elif user.promised_sequences and not set(user.promised_sequences) & set(written):
            found(Kind.OTHER_SEQUENCE, f"{user_id}: promised {user.promised_sequences}, written {written}")
        for sequence in user.promised_sequences:
            if owners.setdefault(sequence, user_id) != user_id:
                found(Kind.SEQUENCE_TWICE, f"#{sequence} promised to {owners[sequence]} and {user_id}")
    for request in campaign.requests:
        promised_at = campaign.users[request.user_id].promised_at if request.was_sent else float("inf")
        if request.status in REFUSALS and request.start > promised_at:
            answer = f"{request.status} {request.code} at {campaign.at(request.start)} to {campaign.at(request.end)}"
            found(Kind.REFUSED_AFTER_PROMISE, f"{request.user_id}, promised by {campaign.at(promised_at)}: {answer}")


def _check_rows(campaign: _Campaign) -> None:
    rows, found = campaign.rows, campaign.verdict.found
    for user_id, times in Counter(user_id for user_id, _ in rows.coupons).items():
        if times > 1:
            found(Kind.TWO_COUPONS, f"{user_id}: {campaign.written[user_id]}")
    owners: dict[int, str] = {}
    for user_id, sequence in [*rows.coupons, *rows.failed]:
        if owners.setdefault(sequence, user_id) != user_id:
            found(Kind.SEQUENCE_TWICE, f"#{sequence} written for {owners[sequence]} and {user_id}")
    coupons = set(rows.coupons)
    for user_id, sequence in rows.succeeded:
        if (user_id, sequence) not in coupons:
            found(Kind.SUCCESS_WITHOUT_COUPON, f"{user_id} #{sequence}")
    held = max(len(rows.coupons), len(campaign.written))
    if held > rows.quantity:
        found(Kind.BEYOND_QUANTITY, f"{held} of {rows.quantity}, {len(rows.coupons)} of them coupons")


def _check_order(campaign: _Campaign) -> None:
    """Merges the users, in the order of their first requests, with the promises, in the order of their arrivals."""
    users = [(user_id, user, campaign.sequence_of(user_id)) for user_id, user in list(campaign.users.items())]
    known = [(user_id, user, sequence) for user_id, user, sequence in users if sequence is not None]
    promises = iter(
        sorted((user.promised_at, sequence, user_id) for user_id, user, sequence in known if user.promised_sequences)
    )
    highest, coming = (0, "", 0.0), next(promises, None)
    for user_id, user, sequence in sorted(known, key=lambda each: each[1].first_asked):
        while coming is not None and coming[0] < user.first_asked:
            highest, coming = max(highest, (coming[1], coming[2], coming[0])), next(promises, None)
        if highest[0] > sequence:
            campaign.verdict.found(
                Kind.OUT_OF_ORDER,
                f"{user_id} first asked at {campaign.at(user.first_asked)} and has #{sequence}; {highest[1]} had been "
                f"promised #{highest[0]} by {campaign.at(highest[2])}",
            )


def _check_sold_out(campaign: _Campaign, events: Sequence[Event], staleness_sec: float) -> None:
    rows, verdict = campaign.rows, campaign.verdict
    quantities = _quantities(rows, events, staleness_sec)
    last_rebuild = _last_rebuild(rows, events)
    holders: list[float] = []
    forgotten: list[float] = []
    for user_id, user in campaign.users.items():
        if user.maybe_admitted:
            (holders if user.promised_sequences or user_id in campaign.written else forgotten).append(
                user.earliest_admission
            )
    verdict.untracked = sum(not campaign.users[user_id].maybe_admitted for user_id in campaign.written)
    holders.sort()
    forgotten.sort()
    for request in campaign.requests:
        if request.code != SOLD_OUT:
            continue
        verdict.sold_out += 1
        held = bisect_left(holders, request.end) + verdict.untracked
        if request.start < last_rebuild:
            held += bisect_left(forgotten, request.end)
        least = min(each for each, since, until in quantities if since < request.end and until > request.start)
        if held < least:
            verdict.found(
                Kind.SOLD_OUT_EARLY,
                f"{request.user_id} at {campaign.at(request.start)} to {campaign.at(request.end)}: at most {held} "
                f"tickets were held, of {least}",
            )


def _quantities(rows: CampaignRows, events: Sequence[Event], staleness_sec: float) -> list[tuple[int, float, float]]:
    """Each quantity with the longest period in which it may have been in force. Raises Inconclusive."""
    changes = sorted(filter(_changed_the_quantity, events), key=lambda event: event.end)
    if not changes:
        return [(rows.quantity, float("-inf"), float("inf"))]
    if changes[-1].details["after"] != rows.quantity:
        raise Inconclusive(
            f"campaign {rows.campaign_id}: its quantity is {rows.quantity}, the history ends with another"
        )
    first = changes[0]
    periods = [(int(first.details["before"]), float("-inf"), first.end + staleness_sec)]
    periods += [(int(one.details["after"]), one.start, next_.end + staleness_sec) for one, next_ in pairwise(changes)]
    return [*periods, (rows.quantity, changes[-1].start, float("inf"))]


def _changed_the_quantity(event: Event) -> bool:
    """A failed change does not count, even if it reached Redis: users may be told only of committed quantities."""
    details = event.details
    return event.what == QUANTITY_CHANGED and details["before"] != details["after"] and not details.get("failed")


def _last_rebuild(rows: CampaignRows, events: Sequence[Event]) -> float:
    """The end of the last rebuild: no rebuild followed an answer that began later."""
    rebuilds = [event.end for event in events if event.what == REBUILT]
    if rows.epoch - 1 > len(rebuilds):
        return float("inf")
    return max(rebuilds, default=float("-inf"))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="history_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, nargs="+", help="a history; several files are read as one history")
    parser.add_argument("--staleness-sec", type=float, default=STALENESS_SEC, help="(default %(default)s)")
    options = parser.parse_args(arguments)
    try:
        verdict = check_files(options.file, staleness_sec=options.staleness_sec)
    except (BrokenHistory, Inconclusive, OSError) as error:
        print(f"history_check: {error}", file=sys.stderr)
        return 2
    print(verdict)
    return 0 if verdict.holds else 1


def check_files(paths: Sequence[Path], *, staleness_sec: float = STALENESS_SEC) -> Verdict:
    """Checks the files against the database of the settings. Raises Inconclusive, BrokenHistory and OSError."""
    from django.db import DatabaseError, InterfaceError

    from faults.history_rows import load_rows  # importing it needs Django to be set up

    history = sum((read_history(path) for path in paths), History([], []))
    try:
        rows = load_rows({request.campaign_id for request in history.requests})
    except (DatabaseError, InterfaceError) as error:
        raise Inconclusive(f"the database does not answer: {' '.join(str(error).split())}") from error
    return check_history(history, rows, staleness_sec=staleness_sec)


if __name__ == "__main__":
    make_printing_harmless()
    import os

    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "couponsite.settings")
    django.setup()
    sys.exit(main())
