"""What the gate's refusals are as problems: for the view, and for the lobby in front of it."""

import time

from coupons.admission.gate import Outcome
from coupons.clock import moment_of
from coupons.problems import Code, Problem, jittered

RETRY_PAUSED_SEC = 5
RETRY_NOT_OPEN_MAX_SEC = 3600


def refusal(outcome: Outcome, opens_at_ms: int | None, now_ms: int | None) -> Problem:
    """`now_ms` is Redis's time; both numbers matter for NOT_OPEN alone."""
    if outcome is Outcome.SOLD_OUT:
        return Problem(Code.SOLD_OUT)
    if outcome is Outcome.CLOSED:
        return Problem(Code.CLOSED)
    if outcome is Outcome.PAUSED:
        return Problem(Code.PAUSED, "Admission goes on later.", jittered(RETRY_PAUSED_SEC))
    opens_at_ms = opens_at_ms or 0
    wait_sec = max(opens_at_ms - (now_ms or time.time() * 1000), 0) / 1000
    opens_at = moment_of(opens_at_ms).isoformat()
    return Problem(
        Code.NOT_OPEN,
        f"It opens at {opens_at}.",
        jittered(min(wait_sec, RETRY_NOT_OPEN_MAX_SEC)),
        {"opens_at": opens_at},
    )
