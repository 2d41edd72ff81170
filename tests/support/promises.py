"""Promises and what became of them: the check that every scenario ends with."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from coupons.api.accept import Acceptance, accept
from coupons.errors import DATABASE_DOWN, RetryLater
from coupons.ledger.reconcile import Ledger, reconcile
from coupons.messaging.topics import partition_lags
from coupons.models import Campaign, Coupon
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
    wait_until(lambda: _is_quiet(campaign), within_sec=within_sec, what=lambda: f"quiet; {_state(campaign)}")
    rows = list(Coupon.objects.filter(campaign=campaign).values_list("user_id", "sequence"))
    coupons = dict(rows)
    assert len(coupons) == len(rows), "a user has two coupons"
    assert len(set(coupons.values())) == len(rows), "a sequence was issued twice"
    broken = {user: (sequence, coupons.get(user)) for user, sequence in promises.items()}
    broken = {user: both for user, both in broken.items() if both[0] != both[1]}
    assert not broken, f"{len(broken)} promises broken, user -> (promised, issued): {dict(list(broken.items())[:5])}"
    campaign.refresh_from_db()
    assert len(rows) <= campaign.quantity
    ledger = next(reconcile(campaign_ids=[campaign.pk]))
    assert ledger.closes, ledger.document()
    assert (ledger.tickets, ledger.issued, ledger.failed) == (len(rows) + failed, len(rows), failed)
    return ledger


def _accept(campaign: Campaign, user: str) -> Acceptance | None:
    try:
        return accept(campaign_id=campaign.pk, user_id=user, trace="test")
    except RetryLater:
        return None


def issued(campaign: Campaign) -> int:
    return Coupon.objects.filter(campaign=campaign).count()


def _is_quiet(campaign: Campaign) -> bool:
    """The group has committed all of the topic, and nothing is pending."""
    try:
        unread = sum(lag.lag for lag in partition_lags().values())
        ledger = next(reconcile(campaign_ids=[campaign.pk]))
    except (RetryLater, *DATABASE_DOWN):
        return False
    return unread == 0 and ledger.pending == 0 and not ledger.differences


def _state(campaign: Campaign) -> str:
    try:
        lags = {number: (lag.committed, lag.end) for number, lag in partition_lags().items()}
        ledger = next(reconcile(campaign_ids=[campaign.pk]))
    except (RetryLater, *DATABASE_DOWN) as error:
        return f"nobody can tell: {error}"
    return f"partition -> (committed, end) {lags}; {ledger.document()}"
