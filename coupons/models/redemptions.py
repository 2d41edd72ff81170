"""What happens to a coupon after it was issued. The rows of coupons themselves never change."""

import uuid

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from coupons.models.campaigns import Coupon

MAX_ORDER_REF_LENGTH = 128


class RedemptionState(models.TextChoices):
    HELD = "held"
    REDEEMED = "redeemed"
    RETURNED = "returned"
    LAPSED = "lapsed"


LIVE_STATES = (RedemptionState.HELD, RedemptionState.REDEEMED)
LIVE = Q(state__in=LIVE_STATES)
"""At most one redemption of a coupon is live. A hold whose time is over stays live until something notices it."""


class Redemption(models.Model):
    """One order's use of a coupon. Only redemption/redeem.py writes it, while it holds the coupon's row lock.

    A lapsed hold may become live again for the same order; RETURNED is final.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # No index of its own: that of `redemption_one_per_order` starts with the coupon.
    coupon = models.ForeignKey(Coupon, on_delete=models.PROTECT, related_name="redemptions", db_index=False)
    order_ref = models.CharField(max_length=MAX_ORDER_REF_LENGTH)
    state = models.CharField(max_length=10, choices=RedemptionState)
    hold_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    redeemed_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True, help_text="When it was returned, or its hold lapsed")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=("coupon",), condition=LIVE, name="redemption_one_live"),
            models.UniqueConstraint(fields=("coupon", "order_ref"), name="redemption_one_per_order"),
            models.CheckConstraint(
                name="redemption_times_fit_state",
                condition=Q(state=RedemptionState.HELD, hold_until__isnull=False, redeemed_at__isnull=True)
                | Q(state=RedemptionState.REDEEMED, redeemed_at__isnull=False, ended_at__isnull=True)
                | Q(state=RedemptionState.RETURNED, ended_at__isnull=False)
                | Q(state=RedemptionState.LAPSED, hold_until__isnull=False, ended_at__isnull=False),
            ),
        ]
        indexes = [
            models.Index(fields=("order_ref",), name="redemption_by_order"),  # db_index would make two
            models.Index(fields=("hold_until",), name="redemption_held", condition=Q(state=RedemptionState.HELD)),
        ]
        permissions = [("return_redemption", "Can return redemptions")]

    def __str__(self) -> str:
        return f"order {self.order_ref} ({self.state})"


class EventKind(models.TextChoices):
    """What an event did; of a redemption, the state that it has since."""

    HELD = "held"
    REDEEMED = "redeemed"
    RETURNED = "returned"
    LAPSED = "lapsed"
    REVOKED = "revoked"


class CouponEvent(models.Model):
    """One step in a coupon's life: who, when, what, why. Rows are final: a trigger refuses UPDATE, DELETE and TRUNCATE,
    except that a user's id becomes a pseudonym when the user is erased (migration 0016).

    Written in the transaction of the step. The one event that revokes a coupon is the only record of it.
    """

    coupon = models.ForeignKey(Coupon, on_delete=models.PROTECT, related_name="events", db_index=False)
    redemption = models.ForeignKey(
        Redemption, on_delete=models.PROTECT, null=True, related_name="events", db_index=False
    )
    kind = models.CharField(max_length=10, choices=EventKind)
    at = models.DateTimeField(db_default=Now())
    actor = models.CharField(max_length=150, help_text="api:KEY, a user of the admin, manage.py:USER, or a job")
    reason = models.TextField(blank=True)

    class Meta:
        verbose_name = "coupon event"
        constraints = [
            models.UniqueConstraint(
                fields=("coupon",), condition=Q(kind=EventKind.REVOKED), name="couponevent_revoked_once"
            ),
            models.CheckConstraint(
                name="couponevent_names_redemption",
                condition=Q(kind=EventKind.REVOKED, redemption__isnull=True)
                | (~Q(kind=EventKind.REVOKED) & Q(redemption__isnull=False)),
            ),
        ]
        indexes = [models.Index(fields=("coupon", "id"), name="couponevent_by_coupon")]

    def __str__(self) -> str:
        return f"{self.kind} by {self.actor}"
