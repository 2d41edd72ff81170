"""What the gate has of a campaign; and campaigns of the gate alone, which PostgreSQL does not know."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from coupons.admission import campaign_store, scripts
from coupons.admission.campaign_cache import CachedCampaign
from coupons.admission.campaign_store import CampaignSettings, Description
from coupons.admission.gate import Admission, Held, admit_call, confirm_call
from coupons.admission.keys import CampaignKeys, campaign_keys, rebuilder_key
from coupons.admission.scripts import admission_redis
from coupons.errors import Unconfirmed
from coupons.messaging.positions import Position
from coupons.models import Campaign, CampaignState

HOUR_MS = 3_600_000


@dataclass
class Gate:
    """One campaign in Redis, loaded, and its keys to look at and to spoil."""

    quantity: int = 3
    state: str = "open"
    opens_in_ms: int = -HOUR_MS
    closes_in_ms: int | None = None
    revision: int = 1
    epoch: int = 1
    campaign_id: UUID = field(default_factory=uuid4)

    def __post_init__(self) -> None:
        assert campaign_store.load(campaign_id=self.campaign_id, epoch=self.epoch, settings=self.settings())

    @property
    def keys(self) -> CampaignKeys:
        return campaign_keys(self.campaign_id)

    def settings(self, **changes: Any) -> CampaignSettings:
        now_ms = round(time.time() * 1000)
        closes_at_ms = None if self.closes_in_ms is None else now_ms + self.closes_in_ms
        values: dict[str, Any] = {
            "revision": self.revision,
            "state": self.state,
            "quantity": self.quantity,
            "opens_at_ms": now_ms + self.opens_in_ms,
            "closes_at_ms": closes_at_ms,
        }
        return CampaignSettings(**(values | changes))

    def admit(self, user_id: str, *, epoch: int | None = None) -> Admission:
        epoch = epoch or self.epoch
        return admit_user(campaign_id=self.campaign_id, epoch=epoch, user_id=user_id)

    def confirm(self, user_id: str, position: Position | None, *, sequence: int = 1, epoch: int = 1) -> bool:
        held = Held(user_id, sequence, None)
        try:
            scripts.ask(confirm_call(self.campaign_id, epoch, held, position))
        except Unconfirmed:
            return False
        return True

    def push(self, revision: int, *, hold_ms: int = 0, **changes: Any) -> campaign_store.PushResult:
        settings = self.settings(revision=revision, **changes)
        return campaign_store.push(campaign_id=self.campaign_id, epoch=self.epoch, settings=settings, hold_ms=hold_ms)

    def describe(self) -> Description:
        return campaign_store.describe(campaign_id=self.campaign_id, epoch=self.epoch)

    def remove(self) -> None:
        admission_redis().delete(*self.keys, rebuilder_key(self.campaign_id))


def admit_user(*, campaign_id: UUID, epoch: int, user_id: str) -> Admission:
    """What the gate says to a process that knows this epoch."""
    known = CachedCampaign(epoch, datetime.now(UTC), closes_at=None, state=CampaignState.OPEN, is_unloaded=False)
    return scripts.ask(admit_call(campaign_id, known, user_id))


def in_redis(campaign: Campaign) -> CampaignSettings:
    """The settings of a campaign as the gate has them."""
    campaign.refresh_from_db()
    return campaign_store.describe(campaign_id=campaign.pk, epoch=campaign.epoch).settings


def damage_keys(campaign: Campaign) -> None:
    """Redis refuses every script on them, as it does on the keys of a slot that another node has."""
    key = campaign_keys(campaign.pk).campaign
    admission_redis().delete(key)
    admission_redis().set(key, "no hash")
