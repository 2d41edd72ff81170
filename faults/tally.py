"""Thread-safe counters of a running crowd."""

import threading
from collections import Counter

from faults.history import NO_ANSWER, Request


class Tally:
    """`changed` is notified after each request. It is also the lock."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.answers: Counter[tuple[int, str]] = Counter()
        self.refused = 0  # visits that ended with a final answer other than a promise
        self.gave_up = 0  # visits that ended without a final answer
        self.promised_users: list[tuple[str, str]] = []
        self._promises: dict[str, dict[str, int]] = {}

    @property
    def promised(self) -> int:
        return len(self.promised_users)

    @property
    def unanswered(self) -> int:
        return self.count(NO_ANSWER)

    def copy(self) -> Counter[tuple[int, str]]:
        with self.changed:
            return Counter(self.answers)

    def promises(self, campaign_id: str) -> dict[str, int]:
        with self.changed:
            return dict(self._promises.get(campaign_id, {}))

    def promised_of(self, campaign_id: str | None) -> int:
        return self.promised if campaign_id is None else len(self._promises.get(campaign_id, {}))

    def count(self, status: int, code: str = "") -> int:
        """The number of requests with this answer; status 0 matches any code."""
        with self.changed:
            if status == NO_ANSWER:
                return sum(times for (told, _), times in self.answers.items() if told == NO_ANSWER)
            return self.answers[status, code]

    def record(self, request: Request, *, final: bool) -> None:
        with self.changed:
            self.answers[request.status, request.code] += 1
            if request.promises:
                promises = self._promises.setdefault(request.campaign_id, {})
                if request.user_id not in promises:
                    promises[request.user_id] = request.sequence or 0
                    self.promised_users.append((request.campaign_id, request.user_id))
            elif final:
                self.refused += 1
            self.changed.notify_all()

    def end_visit(self, *, final: bool) -> None:
        with self.changed:
            self.gave_up += not final
