"""Promises and what became of them: the check that every scenario ends with."""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from redis.exceptions import RedisError

from coupons.admission import campaign_store
from coupons.admission.gate import Admission
from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.api.accept import accept
from coupons.campaigns.lifecycle import change_campaign
from coupons.campaigns.redis_sync import is_in_sync
from coupons.errors import DATABASE_DOWN, PushDidNotArrive, RetryLater
from coupons.messaging.topics import partition_lags
from coupons.models import Campaign, Coupon
from coupons.reconciliation.ledger import Ledger
from faults.crowd import Crowd
from faults.history import QUANTITY_CHANGED, Event
from faults.history_check import check_files
from faults.ledgers import is_at_rest, reconcile
from faults.verdict import CampaignVerdict
from tests.support.waiting import wait_until

Promises = dict[str, int]  # user -> sequence


def apply_all(campaign: Campaign, users: Iterable[object]) -> Promises:
    """All of them apply, in this process, as a web process would; each must be promised a coupon.

    Who is told "repeat" repeats, as a client would: a busy machine may take longer than a promise may.
    """

    def apply(user: str) -> tuple[str, int]:
        acceptance = wait_until(lambda: _accept(campaign, user), what=f"user {user} is answered")
        assert acceptance.ticket is not None, acceptance
        return user, acceptance.ticket.sequence

    with ThreadPoolExecutor(8) as pool:
        return dict(pool.map(apply, map(str, users)))


def assert_kept(
    campaign: Campaign, promises: Mapping[str, int], *, failed: int = 0, within_sec: float = 40.0
) -> Ledger:
    """Once all is quiet, every promised user has one coupon with that very sequence, and the ledger closes.

    `failed` tickets may be held by a failed event instead. Compared by set; counts alone would hide a swap.
    """
    ledger = _quiet_ledger(campaign, within_sec)
    rows = list(Coupon.objects.filter(campaign=campaign).values_list("user_id", "sequence"))
    coupons = dict(rows)
    assert len(coupons) == len(rows), "a user has two coupons"
    assert len(set(coupons.values())) == len(rows), "a sequence was issued twice"
    broken = {user: (sequence, coupons.get(user)) for user, sequence in promises.items()}
    broken = {user: both for user, both in broken.items() if both[0] != both[1]}
    assert not broken, f"{len(broken)} promises broken, user -> (promised, issued): {dict(list(broken.items())[:5])}"
    campaign.refresh_from_db()
    assert len(rows) <= campaign.quantity
    assert ledger.closes, ledger.document()
    assert (ledger.tickets, ledger.issued, ledger.failed) == (len(rows) + failed, len(rows), failed)
    return ledger


def assert_history_holds(
    *crowds: Crowd, campaigns: Iterable[Campaign], failed: int = 0, within_sec: float = 60.0, untracked: int = 0
) -> dict[UUID, CampaignVerdict]:
    """Ends the crowds, waits for quiet, and asks both the verifier and the history checker; each campaign's verdict.

    `failed` tickets in all may be held by failed events, `untracked` may be held by users of no crowd. A crowd that was
    promised nothing proves nothing, so that fails too.
    """
    for crowd in crowds:
        crowd.stop()
    held_by_failures = 0
    for campaign in campaigns:
        ledger = _quiet_ledger(campaign, within_sec)
        assert ledger.closes, ledger.document()
        held_by_failures += ledger.failed
    verdict = check_files([crowd.path for crowd in crowds])
    for crowd in crowds:
        crowd.keep_history |= not verdict.holds
    assert verdict.holds, f"{verdict}\nhistories: {[str(crowd.path) for crowd in crowds]}"
    assert all(crowd.promised for crowd in crowds), str(verdict)
    assert sum(each.untracked for each in verdict.campaigns) == untracked, str(verdict)
    assert held_by_failures == failed, f"{held_by_failures} {verdict}"
    return {UUID(each.campaign_id): each for each in verdict.campaigns}


def change_quantity(crowd: Crowd, campaign: Campaign, quantity: int) -> None:
    """As an operator does it, and noted in the crowd's history: from when to when nobody can say which one holds.

    Returns when Redis has it. Raises OperatorError, RetryLater: then nothing has changed.
    """
    campaign.refresh_from_db()
    start, before = time.monotonic(), campaign.quantity
    try:
        change_campaign(campaign_id=campaign.pk, changes={"quantity": quantity}, actor="test")
    except PushDidNotArrive:
        wait_until(lambda: _redis_has_it(campaign), within_sec=60, what="the keeper has pushed the change")
    details = {"before": before, "after": quantity}
    event = Event(
        what=QUANTITY_CHANGED, start=start, end=time.monotonic(), campaign_id=str(campaign.pk), details=details
    )
    crowd.history.event(event)


def _redis_has_it(campaign: Campaign) -> bool:
    campaign.refresh_from_db()
    try:
        return is_in_sync(campaign, campaign_store.describe(campaign_id=campaign.pk, epoch=campaign.epoch))
    except RetryLater:
        return False


def _accept(campaign: Campaign, user: str) -> Admission | None:
    try:
        return accept(campaign_id=campaign.pk, user_id=user, trace="test")
    except RetryLater:
        return None


def issued(campaign: Campaign) -> int:
    return Coupon.objects.filter(campaign=campaign).count()


def _quiet_ledger(campaign: Campaign, within_sec: float) -> Ledger:
    """Once all of the topic was read and nothing is pending."""

    def at_rest() -> Ledger | None:
        # A ledger costs too much to ask for one while these tell that it would not be at rest.
        if any(lag.lag for lag in partition_lags().values()) or _may_have_pending(campaign):
            return None
        ledger = _ledger_of(campaign)
        return ledger if is_at_rest(ledger) else None

    return wait_until(at_rest, within_sec=within_sec, what=lambda: f"quiet; {_state(campaign)}")


def _ledger_of(campaign: Campaign) -> Ledger:
    """A campaign that was never opened has an empty one."""
    ledgers = list(reconcile(campaign_ids=[campaign.pk]))
    return ledgers[0] if ledgers else Ledger(campaign.pk, campaign.name, campaign.quantity)


def _may_have_pending(campaign: Campaign) -> bool:
    try:
        return bool(admission_redis().zcard(campaign_keys(campaign.pk).pending))
    except RedisError:  # it did not answer in time
        return True


def _state(campaign: Campaign) -> str:
    try:
        lags = {number: (lag.read, lag.end) for number, lag in partition_lags().items()}
        ledger = _ledger_of(campaign)
    except (RetryLater, *DATABASE_DOWN) as error:
        return f"nobody can tell: {error}"
    return f"partition -> (read, end) {lags}; {ledger.document()}"
