"""Builds the names of a campaign's keys in Redis; no other module does.

All keys of a campaign carry the hash tag `{campaign id}`, so that they live in one cluster slot. No key has a TTL.

    coupon:{id}:campaign   hash: run_id, epoch, revision, state, window, quantity, and the counts that admit.lua checks
    coupon:{id}:tickets    hash: user -> sequence (admitted users only)
    coupon:{id}:pending    sorted set: user -> age or position of the message, see coupons/messaging/positions.py
    coupon:{id}:mender     string: the token of the rebuild that may swap in a new state; only there during a rebuild
"""

from functools import lru_cache
from typing import NamedTuple
from uuid import UUID


class CampaignKeys(NamedTuple):
    """The three keys that every script gets, in this order."""

    campaign: str
    tickets: str
    pending: str


@lru_cache(maxsize=1_024)
def campaign_keys(campaign_id: UUID | str) -> CampaignKeys:
    prefix = f"coupon:{{{campaign_id}}}"
    return CampaignKeys(f"{prefix}:campaign", f"{prefix}:tickets", f"{prefix}:pending")


def rebuilder_key(campaign_id: UUID | str) -> str:
    return f"coupon:{{{campaign_id}}}:mender"


def building_keys(campaign_id: UUID | str, token: str) -> tuple[str, str]:
    """A rebuild writes the new tickets and pending here, before one script swaps them in."""
    prefix = f"coupon:{{{campaign_id}}}:building:{token}"
    return f"{prefix}:tickets", f"{prefix}:pending"
