"""Creates, opens, changes and closes campaigns. PostgreSQL commits first, except that a lowering first stops admission.

Every function locks the row, checks the state, raises the revision, records the actor and the reason, and commits; then
it pushes the change to Redis. It raises OperatorError (nothing has changed; the text says what to do) or
PushDidNotArrive (the change is saved and the keeper pushes it). When it returns, all processes use the new settings.
"""

import json
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypedDict, Unpack
from uuid import UUID

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from coupons import audit
from coupons.campaigns.redis_sync import load_in_redis, lower_in_redis, push_change, undo_lowering
from coupons.errors import OperatorError
from coupons.models import MAX_METADATA_BYTES, MAX_QUANTITY, Campaign, CampaignState
from coupons.redemption.codes import current_code_key
from coupons.runtime.clock import database_now
from coupons.runtime.text import compose

logger = logging.getLogger(__name__)


class CouponTerms(TypedDict, total=False):
    """What holds for the coupons. It may still change when the campaign is closed, since its coupons live on."""

    valid_from: datetime | None
    valid_until: datetime | None
    valid_days: int | None
    metadata: dict[str, Any]


class CampaignChanges(CouponTerms, total=False):
    name: str
    quantity: int
    opens_at: datetime
    closes_at: datetime | None


def create_campaign(
    *,
    name: str,
    quantity: int,
    opens_at: datetime | None = None,
    closes_at: datetime | None = None,
    actor: str,
    reason: str = "",
    **terms: Unpack[CouponTerms],
) -> Campaign:
    """Creates a draft, which admits no user yet. Without `opens_at` the window begins now."""
    name = compose(name.strip())
    opens_at = opens_at or database_now()
    campaign = Campaign(name=name, quantity=quantity, opens_at=opens_at, closes_at=closes_at, **terms)
    check_new_values(campaign)
    with transaction.atomic():
        campaign.save(force_insert=True)
        audit.record(actor=actor, row=campaign, what=f"Created as a draft with quantity {quantity}", reason=reason)
    campaign.refresh_from_db()
    _log("created", campaign, actor)
    return campaign


def open_campaign(*, campaign_id: UUID, actor: str, reason: str = "") -> Campaign:
    """Opens a draft and loads it into Redis, which happens once in a campaign's life."""
    with transaction.atomic(durable=True):  # durable: no caller's transaction delays the commit
        campaign = _begin_change(campaign_id, allowed=[CampaignState.DRAFT], to="open")
        if campaign.closes_at is not None and campaign.closes_at <= database_now():
            raise OperatorError(f"closes_at, {campaign.closes_at.isoformat()}, has passed: move it first.")
        campaign.state = CampaignState.OPEN
        campaign.epoch = 1
        campaign.code_key = current_code_key()
        _save(campaign, "state", "epoch", "code_key")
        audit.record(actor=actor, row=campaign, what="Opened", reason=reason)
    _log("opened", campaign, actor)
    load_in_redis(campaign)
    return campaign


def pause_campaign(*, campaign_id: UUID, actor: str, reason: str = "") -> Campaign:
    """Stops admission until the campaign is resumed. Admitted users keep their tickets."""
    return _change_state(
        campaign_id, actor, reason, verb="pause", allowed=[CampaignState.OPEN], to=CampaignState.PAUSED
    )


def resume_campaign(*, campaign_id: UUID, actor: str, reason: str = "") -> Campaign:
    return _change_state(
        campaign_id, actor, reason, verb="resume", allowed=[CampaignState.PAUSED], to=CampaignState.OPEN
    )


def close_campaign(*, campaign_id: UUID, actor: str, reason: str = "") -> Campaign:
    """Stops admission for good. Admitted users still get their coupons."""
    allowed = [CampaignState.OPEN, CampaignState.PAUSED]
    return _change_state(campaign_id, actor, reason, verb="close", allowed=allowed, to=CampaignState.CLOSED)


def change_campaign(*, campaign_id: UUID, changes: CampaignChanges, actor: str, reason: str = "") -> Campaign:
    """Changes name, quantity, window, validity and metadata: all of the values or none.

    A raise goes to PostgreSQL first: otherwise its CHECK would refuse users admitted in between. A lower quantity stops
    admission in Redis first, never below the number admitted: otherwise the gate would admit users above it in between.
    It is in force once PostgreSQL has committed it and the push has reached Redis. Once a campaign has opened, its
    coupons may become good for longer, and never for shorter.
    """
    if not changes:
        raise OperatorError("Nothing to change.")
    if "name" in changes:
        changes = {**changes, "name": compose(changes["name"])}
    lowers = False
    try:
        with transaction.atomic(durable=True):
            allowed = [CampaignState.DRAFT, CampaignState.OPEN, CampaignState.PAUSED]
            if CouponTerms.__annotations__.keys() >= changes.keys():
                allowed.append(CampaignState.CLOSED)
            campaign = _begin_change(campaign_id, allowed=allowed, to="change")
            lowers = campaign.epoch > 0 and changes.get("quantity", campaign.quantity) < campaign.quantity
            if campaign.epoch > 0:
                _refuse_shorter_validity(campaign, changes)
            what = _describe(campaign, changes)
            for field, value in changes.items():
                setattr(campaign, field, value)
            check_new_values(campaign)
            if lowers:
                # Crash from here on => Redis stops at the lower quantity until the keeper's push_again.
                lower_in_redis(campaign)
            _save(campaign, *changes)
            audit.record(actor=actor, row=campaign, what=what, reason=reason)
    except Exception:
        if lowers:
            undo_lowering(campaign_id)
        raise
    _log("changed", campaign, actor)
    if campaign.is_loaded:
        push_change(campaign)
    return campaign


def check_new_values(campaign: Campaign) -> None:
    """Raises an OperatorError that names the field."""
    if not 1 <= campaign.quantity <= MAX_QUANTITY:
        raise OperatorError(f"quantity: {campaign.quantity} is not between 1 and {MAX_QUANTITY:,}.")
    if campaign.valid_until is not None and campaign.valid_until <= campaign.opens_at:
        raise OperatorError("valid_until: it must be later than opens_at.")
    check_metadata(campaign.metadata)
    try:
        campaign.full_clean(validate_constraints=False)
        campaign.validate_constraints(exclude={"issued_count"})
    except ValidationError as error:
        raise OperatorError(_first_message(error)) from None


def check_metadata(metadata: object) -> None:
    """Raises an OperatorError for what is no JSON object, is too large, or holds characters that PostgreSQL refuses."""
    if not isinstance(metadata, dict):
        raise OperatorError('metadata: it must be a JSON object, for example {"value": 5000}.')
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (TypeError, ValueError):  # also half of a surrogate pair
        raise OperatorError("metadata: it holds something that JSON cannot.") from None
    if "\\u0000" in text:
        raise OperatorError("metadata: it must not hold the character U+0000.")
    if size > MAX_METADATA_BYTES:
        raise OperatorError(f"metadata: it has {size:,} bytes, and may have {MAX_METADATA_BYTES:,}.")


def _refuse_shorter_validity(campaign: Campaign, changes: CampaignChanges) -> None:
    """Raises an OperatorError if a coupon could be good for a shorter time than its user was told."""
    starts = changes.get("valid_from", campaign.valid_from)
    if starts is not None and (campaign.valid_from is None or starts > campaign.valid_from):
        raise OperatorError("valid_from: once the campaign has opened, it may only become earlier.")
    until = changes.get("valid_until", campaign.valid_until)
    days = changes.get("valid_days", campaign.valid_days)
    if until is not None and (campaign.valid_until is None or until < campaign.valid_until):
        raise OperatorError("valid_until: once the campaign has opened, it may only become later, or be removed.")
    if days is not None and (campaign.valid_days is None or days < campaign.valid_days):
        raise OperatorError("valid_days: once the campaign has opened, they may only become more, or be removed.")


def _change_state(
    campaign_id: UUID, actor: str, reason: str, *, verb: str, allowed: Sequence[str], to: CampaignState
) -> Campaign:
    with transaction.atomic(durable=True):
        campaign = _begin_change(campaign_id, allowed=allowed, to=verb)
        campaign.state = to
        if to is CampaignState.CLOSED:
            campaign.closed_at = database_now()
        _save(campaign, "state", "closed_at")
        audit.record(actor=actor, row=campaign, what=f"{verb.capitalize()}d", reason=reason)  # Paused
    _log(to, campaign, actor)
    push_change(campaign)
    return campaign


def _begin_change(campaign_id: UUID, *, allowed: Sequence[str], to: str) -> Campaign:
    """Returns the row at its next revision, locked so that simultaneous changes of two operators run one by one."""
    try:
        campaign = Campaign.objects.select_for_update(no_key=True).get(pk=campaign_id)
    except Campaign.DoesNotExist:
        raise OperatorError(f"There is no campaign {campaign_id}.") from None
    if campaign.state not in allowed:
        states = " or ".join(allowed)
        raise OperatorError(f"Cannot {to} a campaign that is {campaign.state}; it must be {states}.")
    campaign.revision += 1
    return campaign


def _save(campaign: Campaign, *fields: str) -> None:
    campaign.updated_at = Now()
    try:
        with transaction.atomic():
            campaign.save(update_fields=[*fields, "revision", "updated_at"])
    except IntegrityError as error:
        raise OperatorError(f"PostgreSQL refused the change: {str(error).splitlines()[0]}") from error


def _describe(campaign: Campaign, changes: CampaignChanges) -> str:
    """Describes the changes with the former values. Call it before the values are set."""
    changed = [f"{field} from {_text(getattr(campaign, field))} to {_text(value)}" for field, value in changes.items()]
    return f"Changed {', '.join(changed)}"


def _text(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return value.isoformat(timespec="seconds") if isinstance(value, datetime) else str(value)


def _first_message(error: ValidationError) -> str:
    field, messages = next(iter(error.message_dict.items()))
    return messages[0] if field == NON_FIELD_ERRORS else f"{field}: {messages[0]}"


def _log(what: str, campaign: Campaign, actor: str) -> None:
    logger.info("campaign.%s id=%s revision=%d actor=%s", what, campaign.pk, campaign.revision, actor)
