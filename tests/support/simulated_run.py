"""A correct service in simulated time, with a crowd and faults: the histories that the history checker is tested with.

The gate decides at one moment between a request's start and its answer, or later when the answer was lost. A rebuild
keeps every ticket that was published, and forgets some that were not; nobody was promised those.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from faults.history import NO_ANSWER, NO_CONNECTION, QUANTITY_CHANGED, REBUILT, Event, History, Request
from faults.verdict import CampaignRows

CAMPAIGN = "c"
STALE_SEC = 0.15
MAX_ATTEMPTS = 25


@dataclass(slots=True)
class Run:
    """What a crowd wrote down, and the rows in the end."""

    history: History
    rows: CampaignRows

    @property
    def promises(self) -> dict[str, list[Request]]:
        """Of each promised user its promises, by their ends."""
        found: dict[str, list[Request]] = {}
        for request in sorted(self.history.requests, key=lambda request: request.end):
            if request.promises:
                found.setdefault(request.user_id, []).append(request)
        return found


@dataclass(slots=True)
class Gate:
    """Who is in, as docs/design.md has it."""

    quantity: int
    held: dict[str, int] = field(default_factory=dict)
    published: set[str] = field(default_factory=set)
    next_sequence: int = 1
    epoch: int = 1
    paused: bool = False
    rebuilding: bool = False

    def decide(self, user_id: str, *, publishes: bool) -> tuple[int, str]:
        if self.rebuilding:
            return 503, "unavailable"
        status = 200 if user_id in self.held else 202
        if status == 202:
            if self.paused:
                return 409, "paused"
            if len(self.held) >= self.quantity:
                return 409, "sold-out"
            self.held[user_id] = self.next_sequence
            self.next_sequence += 1
        if publishes:
            self.published.add(user_id)
        return status, ""

    def rebuild(self, random: Random) -> None:
        """Unpublished tickets may be gone, and with the hash also what the next sequence was."""
        for user_id in [user_id for user_id in self.held if user_id not in self.published]:
            if random.random() < 0.7:
                del self.held[user_id]
        if random.random() < 0.5:
            self.next_sequence = max(self.held.values(), default=0) + 1
        self.epoch += 1
        self.rebuilding = False


class Simulation:
    """`run()` once."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 1_000.0
        self.gate = Gate(self.random.randint(4, 30))
        self.history = History([], [])
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def run(self) -> Run:
        self._let_users_come()
        self._let_operators_and_faults_come()
        while self._queue:
            self.now, _, act = heapq.heappop(self._queue)
            act()
        return Run(self.history, self._rows())

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._numbers), act))

    def _let_users_come(self) -> None:
        for number in range(self.random.randint(10, 60)):
            when = self.random.uniform(0, 3)
            for _ in range(2 if self.random.random() < 0.1 else 1):  # some ask twice at the same time
                self._after(when, lambda number=number: self._ask(f"u{number}"))  # type: ignore[misc]
        for number in range(self.random.choice([0, 0, 0, 2])):
            stranger = f"stranger{number}"
            self._after(self.random.uniform(0, 3), lambda name=stranger: self._come_from_elsewhere(name))  # type: ignore[misc]

    def _come_from_elsewhere(self, user_id: str) -> None:
        self.gate.decide(user_id, publishes=True)

    def _let_operators_and_faults_come(self) -> None:
        at = 0.0
        for _ in range(self.random.choice([0, 1, 3])):
            at += self.random.uniform(0.5, 1.5)
            self._after(
                at,
                self.random.choice([self._raise, self._raise, self._lower, self._pause, self._rebuild, self._rebuild]),
            )

    # --- one request ---

    def _ask(self, user_id: str, attempt: int = 1) -> None:
        start, fate = self.now, self.random.random()
        arrives = self.random.uniform(0.001, 0.05)
        if fate < 0.03:
            self._end(user_id, start, attempt, NO_ANSWER, NO_CONNECTION)
        elif fate < 0.08:  # never arrived
            self._after(0.3, lambda: self._end(user_id, start, attempt, NO_ANSWER, "timeout"))
        elif fate < 0.15:  # arrived, perhaps after nobody waited any more
            publishes = self.random.random() < 0.5
            self._after(self.random.uniform(0.001, 0.9), lambda: self._decide_unheard(user_id, publishes=publishes))
            self._after(0.3, lambda: self._end(user_id, start, attempt, NO_ANSWER, "closed by the server"))
        else:
            self._after(arrives, lambda: self._decide(user_id, start, attempt, confirmed=fate > 0.25))

    def _decide_unheard(self, user_id: str, *, publishes: bool) -> None:
        self.gate.decide(user_id, publishes=publishes)

    def _decide(self, user_id: str, start: float, attempt: int, *, confirmed: bool) -> None:
        """Who is not confirmed has the place, and is told 503; the message may have landed all the same."""
        status, code = self.gate.decide(user_id, publishes=confirmed or self.random.random() < 0.5)
        sequence = self.gate.held.get(user_id)
        if status in (200, 202) and not confirmed:
            status, code, sequence = 503, "unconfirmed", None
        answer_sec = self.random.choice([0.01, 0.03, 0.6])
        self._after(answer_sec, lambda: self._end(user_id, start, attempt, status, code, sequence))

    def _end(
        self, user_id: str, start: float, attempt: int, status: int, code: str, sequence: int | None = None
    ) -> None:
        request = Request(
            campaign_id=CAMPAIGN,
            user_id=user_id,
            attempt=attempt,
            start=start,
            end=self.now,
            status=status,
            code=code,
            sequence=sequence if status in (200, 202) else None,
        )
        self.history.requests.append(request)
        again = code == "paused" or status in (NO_ANSWER, 503) or (request.promises and self.random.random() < 0.2)
        gives_up = self.random.random() < 0.1
        if again and not gives_up and attempt < MAX_ATTEMPTS:
            self._after(self.random.uniform(0.02, 0.3), lambda: self._ask(user_id, attempt + 1))

    # --- operators and faults ---

    def _raise(self) -> None:
        self._change(lambda: self.gate.quantity + self.random.randint(1, 8))

    def _lower(self) -> None:
        """Never below who is in."""
        self._change(lambda: max(len(self.gate.held), self.gate.quantity - self.random.randint(1, 5), 1))

    def _change(self, choose: Callable[[], int]) -> None:
        """In force at some moment of the event; a raise up to `STALE_SEC` after it."""
        start, took = self.now, self.random.uniform(0.01, 0.2)

        def take_effect() -> None:
            before, self.gate.quantity = self.gate.quantity, choose()
            late = STALE_SEC if self.gate.quantity > before else 0.0
            end = max(self.now - self.random.uniform(0, late), start)
            details = {"before": before, "after": self.gate.quantity}
            event = Event(what=QUANTITY_CHANGED, start=start, end=end, campaign_id=CAMPAIGN, details=details)
            self.history.events.append(event)

        self._after(took, take_effect)

    def _pause(self) -> None:
        self.gate.paused = True
        self._after(0.3, lambda: setattr(self.gate, "paused", False))

    def _rebuild(self) -> None:
        start, self.gate.rebuilding = self.now, True
        noticed = self.random.random() < 0.7

        def finish() -> None:
            self.gate.rebuild(self.random)
            if noticed:
                self.history.events.append(Event(what=REBUILT, start=start, end=self.now))

        self._after(self.random.uniform(0.2, 0.6), finish)

    def _rows(self) -> CampaignRows:
        """Once all is quiet: each ticket is a coupon, and now and then a failed event."""
        failing = self.random.choice([0.0, 0.0, 0.1])
        coupons: list[tuple[str, int]] = []
        failed: list[tuple[str, int]] = []
        for ticket in self.gate.held.items():
            (failed if self.random.random() < failing else coupons).append(ticket)
        return CampaignRows(
            campaign_id=CAMPAIGN,
            quantity=self.gate.quantity,
            epoch=self.gate.epoch,
            coupons=coupons,
            failed=failed,
        )
