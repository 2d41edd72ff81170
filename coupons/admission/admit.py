"""Applies for one user at the gate, with the epoch from this process's campaign cache."""

import time
from uuid import UUID

from coupons.admission import gate
from coupons.admission.campaign_cache import CachedCampaign, campaign_cache
from coupons.admission.gate import Admission, EpochAhead, Outcome
from coupons.errors import GateUnavailable, StateStale
from coupons.metrics import GATE_SECONDS
from coupons.runtime.clock import milliseconds


def admit(*, campaign_id: UUID, user_id: str, deadline: float) -> Admission | None:
    """Returns the gate's decision, or None if there is no such campaign. `deadline` is a monotonic time.

    Raises RetryLater (GateUnavailable, StateStale, CampaignCacheUnavailable): the user may have been admitted or not;
    repeating the call gives the answer.
    """
    known = campaign_cache().look_up(campaign_id, wait_sec=deadline - time.monotonic())
    if known is None:
        return None
    try:
        return _admit(campaign_id, known, user_id)
    except EpochAhead:
        newer = campaign_cache().look_up(campaign_id, wait_sec=deadline - time.monotonic(), newer_than=known.epoch)
        if newer is None:
            raise
        return _admit(campaign_id, newer, user_id)


def _admit(campaign_id: UUID, known: CachedCampaign, user_id: str) -> Admission:
    try:
        with GATE_SECONDS.time():
            return gate.admit(campaign_id=campaign_id, epoch=known.epoch, user_id=user_id)
    except (GateUnavailable, StateStale) as error:
        if is_draft(known, error):
            return draft_admission(known)
        raise


def is_draft(known: CachedCampaign, error: Exception) -> bool:
    """Returns whether the gate's error only means that a draft has no state in Redis yet."""
    return known.epoch == 0 and not isinstance(error, GateUnavailable | EpochAhead)


def draft_admission(known: CachedCampaign) -> Admission:
    """Answers for a campaign that was never loaded, as the gate would."""
    return Admission(Outcome.NOT_OPEN, known.epoch, opens_at_ms=milliseconds(known.opens_at))
