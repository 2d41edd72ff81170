"""Reads campaigns' current counts and states from Redis and PostgreSQL for the operators' pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Func, IntegerField, OuterRef

from coupons.admission.campaign_store import Description, describe_each
from coupons.campaigns.redis_sync import is_in_sync
from coupons.errors import RetryLater, StateStale
from coupons.models import Campaign, CampaignState, EventStatus, FailEventHistory

MAX_COUNTED = 1_000


class RedisState(StrEnum):
    CURRENT = "current"
    NOT_PUSHED = "not updated yet"
    STALE = "stale"
    NOT_LOADED = "not loaded"
    UNLOADED = "no longer loaded"
    SILENT = "does not answer"


_BADGES = {RedisState.CURRENT: "good", RedisState.NOT_PUSHED: "warn", RedisState.STALE: "bad", RedisState.SILENT: "bad"}


@dataclass(frozen=True, slots=True)
class LiveState:
    """`admitted` and `pending` are None while they are unknown. `open_events` stops at MAX_COUNTED + 1."""

    redis: RedisState
    explanation: str
    quantity: int
    issued: int
    open_events: int
    admitted: int | None = None
    pending: int | None = None

    @property
    def remaining(self) -> int | None:
        return None if self.admitted is None else max(self.quantity - self.admitted, 0)

    @property
    def open_events_text(self) -> str:
        return f"{self.open_events:,}" if self.open_events <= MAX_COUNTED else f"more than {MAX_COUNTED:,}"

    @property
    def kind(self) -> str:
        return _BADGES.get(self.redis, "plain")


def read_live_states(campaigns: Sequence[Campaign]) -> dict[UUID, LiveState]:
    """Makes one query, and one round trip to Redis for each hundred campaigns."""
    open_events = _open_events([campaign.pk for campaign in campaigns])
    loaded = {campaign.pk: campaign.epoch for campaign in campaigns if campaign.is_loaded}
    answers: Mapping[UUID, Description | RetryLater]
    try:
        answers = describe_each(loaded)
    except RetryLater as error:
        answers = dict.fromkeys(loaded, error)
    return {each.pk: _live(each, answers.get(each.pk), open_events.get(each.pk, 0)) for each in campaigns}


def _live(campaign: Campaign, answer: Description | RetryLater | None, open_events: int) -> LiveState:
    issued = campaign.issued_count
    if isinstance(answer, Description):
        state, text = _compare(campaign, answer)
        quantity = answer.settings.quantity
        return LiveState(state, text, quantity, issued, open_events, answer.admitted, answer.pending)
    if campaign.epoch == 0:
        text = "A draft is loaded into Redis when you open it."
        return LiveState(RedisState.NOT_LOADED, text, campaign.quantity, issued, open_events, 0, 0)
    if campaign.unloaded_at is not None:
        text = "Its tickets were all settled, and it was unloaded: PostgreSQL alone has them."
        return LiveState(RedisState.UNLOADED, text, campaign.quantity, issued, open_events)
    return LiveState(*_unknown(campaign, answer), campaign.quantity, issued, open_events)


def _compare(campaign: Campaign, answer: Description) -> tuple[RedisState, str]:
    if is_in_sync(campaign, answer):
        return RedisState.CURRENT, f"Redis has revision {campaign.revision}, the latest one."
    if answer.lowering_revision is not None:
        return RedisState.NOT_PUSHED, (
            "A lower quantity is being saved, or could not be saved. Once that many users are admitted, the others are "
            "asked to wait until the keeper has checked."
        )
    return RedisState.NOT_PUSHED, (
        f"Redis has revision {answer.settings.revision}, PostgreSQL has {campaign.revision}. "
        "Users are admitted by the old settings until the keeper has sent the new ones to Redis."
    )


def _unknown(campaign: Campaign, error: RetryLater | None) -> tuple[RedisState, str]:
    reason = str(error).removeprefix(f"campaign {campaign.pk}: ")
    if not isinstance(error, StateStale):
        return RedisState.SILENT, f"No users are admitted while Redis does not answer. {reason}"
    if campaign.state == CampaignState.CLOSED:
        return RedisState.UNLOADED, f"Redis has no current data of this closed campaign. {reason}"
    return RedisState.STALE, f"No users are admitted until the keeper has rebuilt the campaign in Redis. {reason}"


def _open_events(campaign_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Counts each campaign's failed events that are not SUCCESS; each count stops at MAX_COUNTED + 1."""
    still_open = FailEventHistory.objects.exclude(event_status=EventStatus.SUCCESS)
    of_campaign = still_open.filter(campaign=OuterRef("pk")).order_by().values("pk")
    counted = Func(ArraySubquery(of_campaign[: MAX_COUNTED + 1]), function="CARDINALITY", output_field=IntegerField())
    rows = Campaign.objects.filter(pk__in=campaign_ids).order_by().annotate(open_events=counted)
    return dict(rows.values_list("pk", "open_events"))
