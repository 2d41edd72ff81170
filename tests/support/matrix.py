"""The rows of the fault matrix: what was done, what users were told meanwhile, and how long until they went on.

Each scenario test of a row writes one JSON file; `python -m faults.table` makes docs/faults.md from them.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from coupons.models import Campaign, FailEventHistory
from faults.crowd import Crowd
from faults.history import read_history
from faults.visits import Habits
from tests.support.promises import assert_history_holds
from tests.support.service import Service

# Who is told to repeat in a second comes sooner, so that an outage is over sooner.
MANY = Habits(users_per_sec=60, max_wait_sec=0.5)
# For rows in which a web server ends. In others one of each answers beside the other (Service.webs).
BOTH_WAYS = pytest.mark.parametrize("answered_by", ["front", "view"], indirect=True)


class Row:
    """One row's run. `fault` marks when it lasts, `wait_for_promises` how long after it users were promised again, and
    `write` puts both into the results when all checks of the test have passed."""

    campaign: Campaign
    """The crowd's only one, of a row that `begin` has made."""

    def __init__(self, number: int, crowd: Crowd, *, name: str = "") -> None:
        self.crowd = crowd
        self._number = number
        self._name = name
        self._faults: list[str] = []
        self._ended_at = 0.0
        self._recovery_sec: list[float] = []

    @classmethod
    def begin(cls, service: Service, number: int, *, name: str = "", habits: Habits = MANY, users: int = 30) -> Self:
        """With a crowd of whom so many have been promised a coupon, of a campaign that has room for all who come."""
        campaign = service.campaign(20_000)
        row = cls(number, service.crowd(campaign, habits=habits), name=name)
        row.campaign = campaign
        row.crowd.wait_for_promises("before", users=users)
        return row

    @contextmanager
    def fault(self, what: str) -> Iterator[None]:
        """Around one fault, from its injection until the part is healthy again. `what` is for people to read."""
        with self.crowd.history.during(what):
            yield
        self._faults.append(what)
        self._ended_at = time.monotonic()

    def wait_for_promises(self, *, users: int = 1, within_sec: float = 60.0) -> None:
        """Users are promised again. Notes how long that took since the end of the fault, for the first of them."""
        self.crowd.wait_for_promises("after the fault", users=1, within_sec=within_sec)
        self._recovery_sec.append(time.monotonic() - self._ended_at)
        if users > 1:
            self.crowd.wait_for_promises("after the fault", users=users - 1, within_sec=within_sec)

    def holds(self) -> None:
        """Every promise is kept once all is quiet, and no message failed."""
        assert_history_holds(self.crowd, campaigns=Campaign.objects.filter(pk__in=self.crowd.campaign_ids))
        assert not FailEventHistory.objects.exists()

    def write(self) -> None:
        """After `holds`, so that the table has no row whose checks failed.

        Of a test that runs both ways the table shows the front's run.
        """
        if os.environ.get("COUPON_FRONT") == "false":
            return
        history = read_history(self.crowd.path)
        answers: Counter[str] = Counter()
        seconds: list[float] = []
        for what in self._faults:
            since, until = history.time_of(what)
            seconds += history.answer_seconds(since=since, until=until)
            for request in history.requests:
                if since <= request.start < until and request.was_sent:
                    answers[f"{request.status or 'no answer'} {request.code}".strip()] += 1
        document = {
            "row": self._number,
            "name": self._name,
            "test": os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0],
            "faults": self._faults,
            "answers_during": dict(answers.most_common()),
            "p99_sec_during": _p99(seconds),
            "recovery_sec": [round(each, 2) for each in self._recovery_sec],
            "promised": self.crowd.promised,
        }
        folder = Path(os.environ["STACK_HOME"]) / "matrix"
        folder.mkdir(parents=True, exist_ok=True)
        suffix = f"-{self._name}" if self._name else ""
        (folder / f"{self._number:02}{suffix}.json").write_text(json.dumps(document, indent=1) + "\n")


def _p99(seconds: list[float]) -> float | None:
    ordered = sorted(seconds)
    return round(ordered[max(round(len(ordered) * 0.99) - 1, 0)], 3) if ordered else None
