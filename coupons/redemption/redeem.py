"""Redeems, holds, returns and revokes coupons: the only writer of Redemption and CouponEvent.

Every function is one transaction. It locks the coupon's row first and reads state and time after that, so that of two
requests for one coupon the second sees what the first has done; PostgreSQL's unique constraints back that, and what
they refuse is tried again (overtaken.py). Each is idempotent by what it names: a repeat after a lost answer changes
nothing and returns the same.

A redemption needs PostgreSQL alone. It gives no place back to the gate, neither does a return.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection, transaction

from coupons import audit
from coupons.models import Coupon, CouponEvent, EventKind, Redemption, RedemptionState
from coupons.redemption.coupon_life import CouponLife, Obstacle, OrderUse, life_of_code, life_of_redemption
from coupons.redemption.overtaken import Overtaken, repeats_if_overtaken
from coupons.runtime.failpoints import REDEMPTION_COMMITTED, REDEMPTION_WRITTEN, failpoint
from coupons.runtime.id_sequences import heals_id_sequences

logger = logging.getLogger(__name__)

MAX_HOLD_SEC = 86_400

_LOCK = """
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET LOCAL lock_timeout = {wait_ms};
    SELECT FROM coupons_coupon WHERE {condition} FOR NO KEY UPDATE {skip}
"""

_INSERT = """
    WITH inserted AS (
        INSERT INTO coupons_redemption (id, coupon_id, order_ref, state, hold_until, redeemed_at, created_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
    )
    INSERT INTO coupons_couponevent (coupon_id, redemption_id, kind, at, actor, reason) VALUES (%s, %s, %s, %s, %s, '')
"""

_OF_REDEMPTION = "id = (SELECT coupon_id FROM coupons_redemption WHERE id = %s)"

MayTouch = Callable[[UUID], bool]
"""Says whether the caller may touch a campaign. A coupon of another one does not exist for the caller."""


class RedemptionRefused(Exception):
    """Nothing was written."""


class NoSuchCoupon(RedemptionRefused):
    """No coupon has this code, or no redemption this id, as far as the caller may see."""


class NotRedeemable(RedemptionRefused):
    """Another order cannot redeem the coupon now; `obstacle` is the first reason."""

    def __init__(self, obstacle: Obstacle, life: CouponLife) -> None:
        super().__init__(str(obstacle))
        self.obstacle = obstacle
        self.life = life


class OrderReturned(RedemptionRefused):
    """This order has given the coupon back, for good: a late repeat must not redeem it once more."""


class HoldEnded(RedemptionRefused):
    """The hold's time was over before it was confirmed; redeem again for the same order."""


@dataclass(frozen=True, slots=True)
class RedemptionResult:
    """`is_new` says whether this call made the redemption live."""

    life: CouponLife
    use: OrderUse
    is_new: bool


@heals_id_sequences
@repeats_if_overtaken
def redeem(
    *,
    code: str,
    order_ref: str,
    user_id: str | None,
    hold_sec: int | None,
    actor: str,
    may_touch: MayTouch,
) -> RedemptionResult:
    """Redeems the coupon for this order, or holds it for `hold_sec` seconds. `code` is as `read_code` returns it.

    The same order again gets the same redemption. Without `hold_sec` it confirms its own hold.
    Raises NoSuchCoupon, NotRedeemable or OrderReturned.
    """
    with transaction.atomic(durable=True):
        _lock("code = %s", [code])
        life = _seen(life_of_code(code, order_ref=order_ref), may_touch)
        own = life.asked if user_id in (None, life.user_id) else None
        is_held = own is not None and life.is_held_by(own)
        if own is not None and (own.state == RedemptionState.REDEEMED or (is_held and hold_sec is not None)):
            return RedemptionResult(life, own, is_new=False)
        if own is not None and is_held:
            result = RedemptionResult(life, _confirm(life, own, actor), is_new=False)
        elif obstacles := life.obstacles(user_id=user_id):
            raise NotRedeemable(obstacles[0], life)
        elif own is not None and own.state == RedemptionState.RETURNED:
            raise OrderReturned
        else:
            result = RedemptionResult(life, _begin(life, order_ref, hold_sec, actor), is_new=True)
        failpoint(REDEMPTION_WRITTEN)
    # Crash here => the client got no answer; its repeat finds this redemption.
    failpoint(REDEMPTION_COMMITTED)
    _log(result.use.state, life, actor)
    return result


@heals_id_sequences
@repeats_if_overtaken
def confirm_hold(*, redemption_id: UUID, actor: str, may_touch: MayTouch) -> RedemptionResult:
    """Makes a hold final. Raises NoSuchCoupon, OrderReturned or HoldEnded."""
    with transaction.atomic(durable=True):
        life, use = _locked_use(redemption_id, may_touch)
        if use.state == RedemptionState.REDEEMED:
            return RedemptionResult(life, use, is_new=False)
        if use.state == RedemptionState.RETURNED:
            raise OrderReturned
        if not life.is_held_by(use):
            raise HoldEnded
        result = RedemptionResult(life, _confirm(life, use, actor), is_new=True)
        failpoint(REDEMPTION_WRITTEN)
    failpoint(REDEMPTION_COMMITTED)
    _log(result.use.state, life, actor)
    return result


@heals_id_sequences
@repeats_if_overtaken
def return_redemption(
    *, redemption_id: UUID, reason: str, actor: str, may_touch: MayTouch, audited: bool = False
) -> RedemptionResult:
    """Gives a redemption or a hold back, any time later: another order may redeem the coupon. Raises NoSuchCoupon."""
    with transaction.atomic(durable=True):
        life, use = _locked_use(redemption_id, may_touch)
        if use.state == RedemptionState.RETURNED:
            return RedemptionResult(life, use, is_new=False)
        returned = _end(life, use, RedemptionState.RETURNED, actor, reason)
        if audited:
            _audit(life, actor, f"Returned the redemption of order {use.order_ref}", reason)
        failpoint(REDEMPTION_WRITTEN)
    failpoint(REDEMPTION_COMMITTED)
    _log(returned.state, life, actor)
    return RedemptionResult(life, returned, is_new=True)


@heals_id_sequences
@repeats_if_overtaken
def revoke_coupon(*, code: str, reason: str, actor: str, may_touch: MayTouch) -> CouponLife:
    """Takes a coupon from its user for good, and ends a hold of it. Returns its life from before.

    Raises NoSuchCoupon, and NotRedeemable for a coupon that is redeemed: its order would stay as it is. Return that
    redemption first.
    """
    with transaction.atomic(durable=True):
        _lock("code = %s", [code])
        life = _seen(life_of_code(code), may_touch)
        if life.is_revoked:
            return life
        if life.live is not None and life.live.state == RedemptionState.REDEEMED:
            raise NotRedeemable(Obstacle.ALREADY_REDEEMED, life)
        if life.live is not None:
            _end(life, life.live, RedemptionState.RETURNED, actor, "the coupon was revoked")
        _record(life, None, EventKind.REVOKED, actor, reason)
        _audit(life, actor, "Revoked", reason)
        failpoint(REDEMPTION_WRITTEN)
    failpoint(REDEMPTION_COMMITTED)
    _log(EventKind.REVOKED, life, actor)
    return life


@heals_id_sequences
def lapse_hold(*, redemption_id: UUID, actor: str) -> bool:
    """Writes LAPSED on a hold whose time is over. Returns False, and has done nothing, if it is none any more or
    somebody is at work on its coupon: no order waits for this."""
    with transaction.atomic(durable=True):
        if not _lock(_OF_REDEMPTION, [redemption_id], waits=False):
            return False
        life, use = _seen_use(redemption_id, lambda campaign_id: True)
        if use.state != RedemptionState.HELD or life.is_held_by(use):
            return False
        _end(life, use, RedemptionState.LAPSED, actor, "")
        failpoint(REDEMPTION_WRITTEN)
    return True


def _lock(condition: str, values: list[Any], *, waits: bool = True) -> bool:
    """Serialises everything that changes this coupon's life. Does not collide with the foreign keys' locks.

    Whatever the role's default is, the statements that follow see what others have committed by then. A coupon whose
    lock a process keeps that stands still is no PostgreSQL that hangs: the wait ends before the API's own, which would
    open the circuit breaker to all coupons. Returns whether it has the lock, which it always has if it waits, unless
    there is no such coupon.
    """
    wait_ms = settings.API_DATABASE_TIMEOUT_MS // 2
    with connection.cursor() as cursor:
        skip = "" if waits else "SKIP LOCKED"
        cursor.execute(_LOCK.format(wait_ms=wait_ms, condition=condition, skip=skip), values)
        return bool(cursor.rowcount)


def _locked_use(redemption_id: UUID, may_touch: MayTouch) -> tuple[CouponLife, OrderUse]:
    _lock(_OF_REDEMPTION, [redemption_id])
    return _seen_use(redemption_id, may_touch)


def _seen_use(redemption_id: UUID, may_touch: MayTouch) -> tuple[CouponLife, OrderUse]:
    life = _seen(life_of_redemption(redemption_id), may_touch)
    if life.asked is None:
        raise NoSuchCoupon
    return life, life.asked


def _seen(life: CouponLife | None, may_touch: MayTouch) -> CouponLife:
    if life is None or not may_touch(life.campaign_id):
        raise NoSuchCoupon
    return life


def _begin(life: CouponLife, order_ref: str, hold_sec: int | None, actor: str) -> OrderUse:
    """Makes this order's redemption live; one whose hold has lapsed becomes live again."""
    asked, live = life.asked, life.live
    if live is not None:  # its time is over, also if it is this order's own
        ended = _end(life, live, RedemptionState.LAPSED, actor, "")
        asked = ended if live == asked else asked
    use = OrderUse(
        id=asked.id if asked is not None else uuid4(),
        order_ref=order_ref,
        state=RedemptionState.REDEEMED if hold_sec is None else RedemptionState.HELD,
        hold_until=None if hold_sec is None else life.now + timedelta(seconds=hold_sec),
        redeemed_at=life.now if hold_sec is None else None,
    )
    if asked is None:
        _insert(life, use, actor)
    else:
        _change(asked, use, ended_at=None)
        _record(life, use, EventKind(use.state), actor, "")
    return use


def _insert(life: CouponLife, use: OrderUse, actor: str) -> None:
    """Writes a redemption and its event in one round trip: two of the ORM's take a third of a redemption's time."""
    values: list[Any] = [use.id, life.id, use.order_ref, use.state, use.hold_until, use.redeemed_at, life.now]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [*values, life.id, use.id, use.state, life.now, actor])


def _confirm(life: CouponLife, use: OrderUse, actor: str) -> OrderUse:
    confirmed = OrderUse(use.id, use.order_ref, RedemptionState.REDEEMED, use.hold_until, life.now)
    _change(use, confirmed, ended_at=None)
    _record(life, confirmed, EventKind.REDEEMED, actor, "")
    return confirmed


def _end(life: CouponLife, use: OrderUse, state: RedemptionState, actor: str, reason: str) -> OrderUse:
    ended = OrderUse(use.id, use.order_ref, state, use.hold_until, use.redeemed_at)
    _change(use, ended, ended_at=life.now)
    _record(life, ended, EventKind(state), actor, reason)
    return ended


def _change(before: OrderUse, after: OrderUse, *, ended_at: datetime | None) -> None:
    """Conditional, although the lock makes it certain: whoever writes without it must not be overwritten."""
    changed = Redemption.objects.filter(pk=before.id, state=before.state).update(
        state=after.state, hold_until=after.hold_until, redeemed_at=after.redeemed_at, ended_at=ended_at
    )
    if changed != 1:
        raise Overtaken(f"redemption {before.id} was changed without the lock of its coupon")


def _record(life: CouponLife, use: OrderUse | None, kind: EventKind, actor: str, reason: str) -> None:
    redemption_id = None if use is None else use.id
    CouponEvent.objects.create(
        coupon_id=life.id, redemption_id=redemption_id, kind=kind, at=life.now, actor=actor, reason=reason
    )


def _audit(life: CouponLife, actor: str, what: str, reason: str) -> None:
    coupon = Coupon(pk=life.id, campaign_id=life.campaign_id, user_id=life.user_id, sequence=life.sequence)
    audit.record(actor=actor, row=coupon, what=what, reason=reason)


def _log(what: str, life: CouponLife, actor: str) -> None:
    logger.info("coupon.%s campaign=%s sequence=%d actor=%s", what, life.campaign_id, life.sequence, actor)
