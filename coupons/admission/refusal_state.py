"""Reads how campaigns answer users without a ticket, so that a process can refuse applications from memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from coupons.admission import scripts
from coupons.admission.gate import Outcome
from coupons.admission.keys import campaign_keys


@dataclass(frozen=True, slots=True)
class RefusalState:
    """A current campaign at `now_ms`. `refusal` is None while the campaign admits users.

    Within an epoch tickets are only added, so (epoch, revision, admitted) identifies one set of admitted users.
    """

    epoch: int
    revision: int
    admitted: int
    now_ms: int
    refusal: Outcome | None
    opens_at_ms: int


def refusal_states(epochs: Mapping[UUID, int]) -> dict[UUID, RefusalState]:
    """Makes one round trip. The result lacks campaigns whose state is not current, or newer than the given epoch.

    Raises GateUnavailable when Redis did not answer.
    """
    calls = [(campaign_keys(campaign_id), [epoch]) for campaign_id, epoch in epochs.items()]
    found = {}
    for (campaign_id, epoch), reply in zip(epochs.items(), scripts.run_each("refusal_state", calls), strict=True):
        if reply[0] == b"CURRENT":
            _, revision, admitted, now_ms, reason, opens_at_ms = reply
            refusal = None if reason is None else Outcome(reason.decode())
            found[campaign_id] = RefusalState(epoch, revision, admitted, now_ms, refusal, opens_at_ms)
    return found
