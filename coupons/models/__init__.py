"""What PostgreSQL stores."""

from coupons.models.campaigns import (
    LOADED,
    MAX_METADATA_BYTES,
    MAX_QUANTITY,
    MAX_USER_ID_LENGTH,
    MAX_VALID_DAYS,
    Campaign,
    CampaignState,
    Coupon,
)
from coupons.models.failed_events import GIVEN_UP, HELD_CODES, EventStatus, FailAttempt, FailCode, FailEventHistory
from coupons.models.operations import (
    ApiKey,
    AuditEntry,
    ErasedTicket,
    GivenAnswer,
    Heartbeat,
    JobRun,
    LogInCount,
    PartitionOffset,
    Scope,
)
from coupons.models.redemptions import (
    LIVE,
    MAX_ORDER_REF_LENGTH,
    CouponEvent,
    EventKind,
    Redemption,
    RedemptionState,
)

__all__ = [
    "GIVEN_UP",
    "HELD_CODES",
    "LIVE",
    "LOADED",
    "MAX_METADATA_BYTES",
    "MAX_ORDER_REF_LENGTH",
    "MAX_QUANTITY",
    "MAX_USER_ID_LENGTH",
    "MAX_VALID_DAYS",
    "ApiKey",
    "AuditEntry",
    "Campaign",
    "CampaignState",
    "Coupon",
    "CouponEvent",
    "ErasedTicket",
    "EventKind",
    "EventStatus",
    "FailAttempt",
    "FailCode",
    "FailEventHistory",
    "GivenAnswer",
    "Heartbeat",
    "JobRun",
    "LogInCount",
    "PartitionOffset",
    "Redemption",
    "RedemptionState",
    "Scope",
]
