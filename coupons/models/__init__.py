"""What PostgreSQL stores."""

from coupons.models.campaigns import LOADED, MAX_QUANTITY, MAX_USER_ID_LENGTH, Campaign, CampaignState, Coupon
from coupons.models.failed_events import GIVEN_UP, HELD_CODES, EventStatus, FailAttempt, FailCode, FailEventHistory
from coupons.models.operations import (
    ApiKey,
    AuditEntry,
    GivenAnswer,
    Heartbeat,
    JobRun,
    LogInCount,
    PartitionOffset,
    Scope,
)

__all__ = [
    "GIVEN_UP",
    "HELD_CODES",
    "LOADED",
    "MAX_QUANTITY",
    "MAX_USER_ID_LENGTH",
    "ApiKey",
    "AuditEntry",
    "Campaign",
    "CampaignState",
    "Coupon",
    "EventStatus",
    "FailAttempt",
    "FailCode",
    "FailEventHistory",
    "GivenAnswer",
    "Heartbeat",
    "JobRun",
    "LogInCount",
    "PartitionOffset",
    "Scope",
]
