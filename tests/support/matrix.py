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
from typing import Any

from faults.crowd import Crowd
from faults.history import read_history


class Row:
    """One row's run. `fault` marks when it lasts, `wait_for_promises` how long after it users were promised again, and
    `write` puts both into the results when all checks of the test have passed."""

    def __init__(self, number: int, crowd: Crowd, *, name: str = "") -> None:
        self._number = number
        self._name = name
        self._crowd = crowd
        self._faults: list[str] = []
        self._ended_at = 0.0
        self._recovery_sec: list[float] = []

    @contextmanager
    def fault(self, what: str) -> Iterator[None]:
        """Around one fault, from its injection until the part is healthy again. `what` is for people to read."""
        with self._crowd.history.during(what):
            yield
        self._faults.append(what)
        self._ended_at = time.monotonic()

    def wait_for_promises(self, *, users: int = 1, within_sec: float = 60.0) -> None:
        """Users are promised again. Notes how long that took since the end of the fault, for the first of them."""
        self._crowd.wait_for_promises("after the fault", users=1, within_sec=within_sec)
        self._recovery_sec.append(time.monotonic() - self._ended_at)
        if users > 1:
            self._crowd.wait_for_promises("after the fault", users=users - 1, within_sec=within_sec)

    def write(self, **more: Any) -> None:
        """After `assert_history_holds`, so that the table has no row whose checks failed. `more` is for people too.

        The table shows the front's run; some rows are also run by the view (tests/scenarios/conftest.py).
        """
        if os.environ.get("COUPON_FRONT") == "false":
            return
        history = read_history(self._crowd.path)
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
            "promised": self._crowd.promised,
            **more,
        }
        folder = Path(os.environ["STACK_HOME"]) / "matrix"
        folder.mkdir(parents=True, exist_ok=True)
        suffix = f"-{self._name}" if self._name else ""
        (folder / f"{self._number:02}{suffix}.json").write_text(json.dumps(document, indent=1) + "\n")


def _p99(seconds: list[float]) -> float | None:
    ordered = sorted(seconds)
    return round(ordered[max(round(len(ordered) * 0.99) - 1, 0)], 3) if ordered else None
