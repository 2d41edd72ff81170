"""Pushes a campaign's quantity, window and state to Redis: after a change, and again if the push did not arrive."""

import logging
import time
from contextlib import suppress
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from coupons.admission import campaign_store
from coupons.admission.campaign_store import CampaignSettings, Description, PushResult
from coupons.errors import DATABASE_DOWN, OperatorError, PushDidNotArrive, RetryLater
from coupons.models import Campaign
from coupons.runtime.clock import milliseconds
from coupons.runtime.failpoints import PUSH_COMMITTED, PUSH_LOWERED, failpoint

logger = logging.getLogger(__name__)


def settings_of(campaign: Campaign) -> CampaignSettings:
    return CampaignSettings(
        revision=campaign.revision,
        state=campaign.state,
        quantity=campaign.quantity,
        opens_at_ms=milliseconds(campaign.opens_at),
        closes_at_ms=None if campaign.closes_at is None else milliseconds(campaign.closes_at),
    )


def push_change(campaign: Campaign) -> None:
    """Pushes the change that PostgreSQL has just committed. Raises PushDidNotArrive; the caller need not act."""
    # Crash here => Redis keeps the former settings until the keeper's push_again brings them up to date.
    failpoint(PUSH_COMMITTED)
    try:
        result = _push(campaign)
        if result is PushResult.SUPERSEDED:
            # The keeper or a later change was faster, which is fine; or PostgreSQL is an older copy.
            push_again(campaign.pk)
        if result in (PushResult.ON_HOLD, PushResult.SUPERSEDED):
            time.sleep(hold_ms() / 1000)  # after it, every process uses the new settings
    except RetryLater as error:
        raise PushDidNotArrive(
            f"Saved, but Redis has not heard of it yet ({error}). The keeper pushes it as soon as it can."
        ) from error
    if result is PushResult.BELOW_ADMITTED:
        raise PushDidNotArrive("Saved, but Redis has admitted more users than this quantity allows.")


def load_in_redis(campaign: Campaign) -> None:
    """Creates the state of a campaign whose epoch PostgreSQL has just raised from 0 to 1."""
    # Crash here => PostgreSQL has epoch 1 and Redis no state, which is STALE; the keeper's rebuild creates it.
    failpoint(PUSH_COMMITTED)
    try:
        loaded = campaign_store.load(campaign_id=campaign.pk, epoch=campaign.epoch, settings=settings_of(campaign))
    except RetryLater as error:
        raise PushDidNotArrive(f"Opened, but Redis did not answer ({error}). The keeper loads it.") from error
    if not loaded:
        raise PushDidNotArrive("Opened, but Redis had keys of this campaign already. The keeper rebuilds them.")


def lower_in_redis(campaign: Campaign) -> None:
    """Stops admission at the lower quantity before PostgreSQL commits it: no user is admitted above it meanwhile.

    Runs while the caller's transaction holds the row. Raises OperatorError or RetryLater.
    """
    result = campaign_store.lower(
        campaign_id=campaign.pk, epoch=campaign.epoch, revision=campaign.revision, quantity=campaign.quantity
    )
    if result is PushResult.BELOW_ADMITTED:
        admitted = campaign_store.describe(campaign_id=campaign.pk, epoch=campaign.epoch).admitted
        raise OperatorError(
            f"quantity: {admitted} users are already in, so it cannot go down to {campaign.quantity}. "
            f"The least possible now is {admitted}."
        )
    if result is PushResult.SUPERSEDED:
        raise OperatorError("Another change of this campaign is on its way to Redis; try again in a few seconds.")
    failpoint(PUSH_LOWERED)


def undo_lowering(campaign_id: UUID) -> None:
    """Restores PostgreSQL's settings in Redis after a failed transaction. They may be the lower quantity, if only the
    answer to the commit was lost. If a server does not answer now, the keeper does this later."""
    with suppress(RetryLater, *DATABASE_DOWN):
        push_again(campaign_id)


def hold_ms() -> int:
    """Returns how long processes may still refuse from memory. Redis's time has whole ms, rounded down, hence + 1."""
    return settings.REFUSAL_LEASE_MS + 1


def _push(campaign: Campaign) -> PushResult:
    settings_now = settings_of(campaign)
    return campaign_store.push(campaign_id=campaign.pk, epoch=campaign.epoch, settings=settings_now, hold_ms=hold_ms())


def is_in_sync(campaign: Campaign, description: Description) -> bool:
    """Returns whether Redis has the campaign's last revision, and no lowering that is still undecided."""
    return description.settings == settings_of(campaign) and description.lowering_revision is None


def push_again(campaign_id: UUID) -> bool:
    """Pushes PostgreSQL's settings to Redis if they differ. Returns whether it pushed. Raises RetryLater.

    It waits for an operator's transaction that is under way. A change that only Redis has counts as never made, and a
    revision above both undoes it: a lowering that was not committed, or a newer state because PostgreSQL is an older
    copy.
    """
    with transaction.atomic():
        campaign = Campaign.objects.select_for_update(no_key=True).get(pk=campaign_id)
        if not campaign.is_loaded:
            return False
        description = campaign_store.describe(campaign_id=campaign.pk, epoch=campaign.epoch)
        if is_in_sync(campaign, description):
            return False
        least = max(description.settings.revision + 1, description.lowering_revision or 0)
        if campaign.revision < least:
            campaign.revision = least
            campaign.updated_at = Now()
            campaign.save(update_fields=["revision", "updated_at"])
    result = _push(campaign)
    if result is PushResult.BELOW_ADMITTED:
        # PostgreSQL is an older copy, or was changed by hand; `reconcile_campaigns` prints the remedy.
        logger.error("campaign.quantity_below_admitted id=%s quantity=%d", campaign.pk, campaign.quantity)
        return False
    logger.info("campaign.pushed_again id=%s revision=%d", campaign.pk, campaign.revision)
    return True
