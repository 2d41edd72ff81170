"""What the gate's refusals are as problems: for the view and for the front."""

import time

from coupons.admission.gate import Outcome
from coupons.api.problems import RETRY_SOON_SEC, Code, Problem, retry_after
from coupons.runtime.clock import moment_of

FARTHEST_RETRY_SEC = 3600
"""A campaign may be moved forward meanwhile. Whoever is back before the opening is told the rest of the way."""
EARLY_MS = 100
"""Who comes so little before the opening is not sent away for a whole second, but waits for it (accept.py).

Retry-After counts on it: rounded up from this moment on, it brings everybody back from 100 ms before the opening to
900 ms after it, and the way there and back (or a clock that is a little slow) does not make it later than a second.
"""


def refusal(outcome: Outcome, opens_at_ms: int | None, now_ms: int | None) -> Problem:
    """`now_ms` is Redis's time; both numbers matter for NOT_OPEN alone."""
    if outcome is Outcome.SOLD_OUT:
        return Problem(Code.SOLD_OUT)
    if outcome is Outcome.CLOSED:
        return Problem(Code.CLOSED)
    if outcome is Outcome.PAUSED:
        return Problem(Code.PAUSED, "Admission goes on later.", RETRY_SOON_SEC)
    opens_at_ms = opens_at_ms or 0
    wait_ms = opens_at_ms - (now_ms or time.time() * 1000)
    opens_at = moment_of(opens_at_ms).isoformat()
    return Problem(
        Code.NOT_OPEN,
        f"It opens at {opens_at}.",
        min(retry_after((wait_ms - EARLY_MS) / 1000), FARTHEST_RETRY_SEC),
        {"opens_at": opens_at},
    )
