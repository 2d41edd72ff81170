"""One application to the gate, with the epoch that this process knows."""

import time
from uuid import UUID

from coupons.admission import gate
from coupons.admission.directory import Known, directory
from coupons.admission.gate import Admission, EpochAhead, Outcome
from coupons.admission.together import Follow, Wake
from coupons.clock import milliseconds
from coupons.errors import GateUnavailable, StateStale
from coupons.telemetry import GATE_SECONDS


def admit(
    *, campaign_id: UUID, user_id: str, deadline: float, follow: Follow[Admission] | None = None
) -> Admission | None:
    """The gate's decision; None = there is no such campaign. `deadline` is a monotonic time.

    `follow` begins what comes of it, in whichever thread asked the gate; this returns when that has ended, or at the
    deadline, by which it may not have been called.

    Raises RetryLater (GateUnavailable, StateStale, DirectoryUnavailable): the place may have been taken or not, and
    the same call again tells.
    """
    known = directory().look_up(campaign_id, wait_sec=deadline - time.monotonic())
    if known is None:
        return None
    try:
        return _admit(campaign_id, known, user_id, deadline, follow)
    except EpochAhead:
        newer = directory().look_up(campaign_id, wait_sec=deadline - time.monotonic(), newer_than=known.epoch)
        if newer is None:
            raise
        return _admit(campaign_id, newer, user_id, deadline, follow)


def _admit(
    campaign_id: UUID, known: Known, user_id: str, deadline: float, follow: Follow[Admission] | None
) -> Admission:
    started = time.monotonic()

    def answered(admission: Admission, wake: Wake) -> bool:
        GATE_SECONDS.observe(time.monotonic() - started)
        return follow is not None and follow(admission, wake)

    try:
        return gate.admit(
            campaign_id=campaign_id,
            epoch=known.epoch,
            user_id=user_id,
            wait_sec=deadline - started,
            follow=answered,
        )
    except (GateUnavailable, StateStale) as error:
        GATE_SECONDS.observe(time.monotonic() - started)
        # A draft: Redis has nothing of it, and nothing is wrong with that.
        if known.epoch == 0 and not isinstance(error, GateUnavailable | EpochAhead):
            return Admission(Outcome.NOT_OPEN, known.epoch, opens_at_ms=milliseconds(known.opens_at))
        raise
