"""One wrong thing put into the life of a scene's coupon, past every trigger; each as those of ledger_corruptions.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from coupons.models import Campaign, Coupon, CouponEvent, EventKind, Redemption, RedemptionState
from coupons.reconciliation.differences import Kind
from tests.support.ledger_scenes import Named, Scene, name


def redeem_for_a_second_order(scene: Scene) -> Named | None:
    taken = scene.take("redeemed", "held")
    if taken is None:
        return None
    coupon = coupon_of(scene, taken)
    add_event(coupon, add_redemption(coupon, "second", RedemptionState.REDEEMED))
    return [(Kind.TWO_LIVE, f"{name(taken)}: orders of {taken[0]}, second")]


def record_an_order_twice(scene: Scene) -> Named | None:
    taken = scene.take("returned")
    if taken is None:
        return None
    coupon = coupon_of(scene, taken)
    add_event(coupon, add_redemption(coupon, f"of {taken[0]}", RedemptionState.RETURNED))
    return [(Kind.ORDER_TWICE, name(taken))]


def revoke_a_coupon_in_use(scene: Scene) -> Named | None:
    taken = scene.take("redeemed", "held")
    if taken is None:
        return None
    CouponEvent.objects.create(coupon=coupon_of(scene, taken), kind=EventKind.REVOKED, actor="test")
    return [(Kind.LIVE_THOUGH_REVOKED, name(taken))]


def redeem_a_revoked_coupon(scene: Scene) -> Named | None:
    taken = scene.take("revoked")
    if taken is None:
        return None
    coupon = coupon_of(scene, taken)
    add_event(coupon, add_redemption(coupon, "late", RedemptionState.REDEEMED))
    return [(Kind.LIVE_THOUGH_REVOKED, name(taken))]


def redeem_before_or_after_its_time(scene: Scene) -> Named | None:
    taken = scene.take("redeemed", "held")
    if taken is None:
        return None
    hours = timedelta(hours=1)
    Campaign.objects.filter(pk=scene.campaign.pk).update(valid_from=Now() - hours, valid_days=1)
    began = Now() + scene.chance.choice([-2, 25]) * hours
    uses(scene, taken).update(created_at=began)
    return [(Kind.OUTSIDE_VALIDITY, name(taken))]


def change_a_state_without_an_event(scene: Scene) -> Named | None:
    taken = scene.take("redeemed", "held", "returned")
    if taken is None:
        return None
    use = uses(scene, taken).get()
    if use.state == RedemptionState.REDEEMED:
        uses(scene, taken).update(state=RedemptionState.RETURNED, ended_at=Now())
    else:  # a return, or an open hold, becomes a redemption that nobody asked for
        uses(scene, taken).update(state=RedemptionState.REDEEMED, redeemed_at=Now(), ended_at=None)
    return [(Kind.EVENT_WITHOUT_STATE, name(taken))]


def record_a_return_twice(scene: Scene) -> Named | None:
    taken = scene.take("returned")
    if taken is None:
        return None
    add_event(coupon_of(scene, taken), uses(scene, taken).get())
    return [(Kind.EVENT_WITHOUT_STATE, name(taken))]


def redeem_without_an_event(scene: Scene) -> Named | None:
    taken = scene.take("issued")
    if taken is None:
        return None
    add_redemption(coupon_of(scene, taken), "silent", RedemptionState.REDEEMED)
    return [(Kind.WITHOUT_EVENT, name(taken))]


def delete_the_events_of_a_redemption(scene: Scene) -> Named | None:
    taken = scene.take("redeemed", "held", "returned")
    if taken is None:
        return None
    with past_every_trigger():
        CouponEvent.objects.filter(coupon=coupon_of(scene, taken))._raw_delete("default")
    return [(Kind.WITHOUT_EVENT, name(taken))]


def record_an_event_of_another_coupon(scene: Scene) -> Named | None:
    taken, other = scene.take("issued"), scene.take("redeemed", "held")
    if taken is None or other is None:
        return None
    add_event(coupon_of(scene, taken), uses(scene, other).get())
    return [(Kind.OTHERS_EVENT, f"{name(taken)}, redemption ")]


def delete_a_redemption(scene: Scene) -> Named | None:
    taken = scene.take("redeemed", "held", "returned")
    if taken is None:
        return None
    with past_every_trigger():
        uses(scene, taken)._raw_delete("default")
    return [(Kind.EVENT_WITHOUT_REDEMPTION, f"{name(taken)}, redemption ")]


def delete_a_coupon_in_use(scene: Scene) -> Named | None:
    taken = scene.take("redeemed", "held", "returned")
    if taken is None:
        return None
    for use in uses(scene, taken):
        scene.orphans.append((Kind.WITHOUT_COUPON, f"order of {taken[0]}, redemption {use.pk}"))
    for event in CouponEvent.objects.filter(coupon=coupon_of(scene, taken)):
        scene.orphans.append((Kind.EVENT_WITHOUT_COUPON, f"{event.kind}, event {event.pk}"))
    with past_every_trigger():
        Coupon.objects.filter(campaign=scene.campaign, user_id=taken[0])._raw_delete("default")
    Campaign.objects.filter(pk=scene.campaign.pk).update(issued_count=F("issued_count") - 1)
    return [(Kind.LOST, name(taken))]


LIFE_CORRUPTIONS = (
    redeem_for_a_second_order,
    record_an_order_twice,
    revoke_a_coupon_in_use,
    redeem_a_revoked_coupon,
    redeem_before_or_after_its_time,
    change_a_state_without_an_event,
    record_a_return_twice,
    redeem_without_an_event,
    delete_the_events_of_a_redemption,
    record_an_event_of_another_coupon,
    delete_a_redemption,
    delete_a_coupon_in_use,
)


@contextmanager
def past_every_trigger() -> Iterator[None]:
    """As a replica writes: no foreign key is checked, and events may be deleted."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        yield


def coupon_of(scene: Scene, ticket: tuple[str, int]) -> Coupon:
    return Coupon.objects.get(campaign=scene.campaign, user_id=ticket[0])


def uses(scene: Scene, ticket: tuple[str, int]) -> Any:
    return Redemption.objects.filter(coupon=coupon_of(scene, ticket))


def add_redemption(coupon: Coupon, order_ref: str, state: RedemptionState) -> Redemption:
    ended_at = Now() if state == RedemptionState.RETURNED else None
    return Redemption.objects.create(
        coupon=coupon, order_ref=order_ref, state=state, redeemed_at=Now(), ended_at=ended_at
    )


def add_event(coupon: Coupon, use: Redemption) -> None:
    """Of the redemption's state."""
    CouponEvent.objects.create(coupon=coupon, redemption=use, kind=EventKind(use.state), actor="test")
