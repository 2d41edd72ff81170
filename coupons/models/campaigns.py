"""Campaigns and their coupons."""

import uuid

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

MAX_QUANTITY = 10_000_000
MAX_USER_ID_LENGTH = 128
MAX_VALID_DAYS = 36_500
MAX_METADATA_BYTES = 4_096


class CampaignState(models.TextChoices):
    DRAFT = "draft"
    OPEN = "open"
    PAUSED = "paused"
    CLOSED = "closed"


class Campaign(models.Model):
    """One first-come-first-served offer.

    `revision` rises with every change that Redis must get. `epoch` rises with every rebuild (0 = never loaded), and
    `mended_epoch` follows when that rebuild has ended: a Redis with a lower epoch is an older copy. A trigger on the
    coupon table keeps `issued_count` (migration 0002), never this program. An unloaded campaign is closed and settled,
    and has left Redis for good (reconciliation/unload.py).

    A coupon may be redeemed from `valid_from` until `valid_until`, or for `valid_days` times 24 hours after it was
    issued; NULL is no limit. `metadata` is the shop's own. `code_key` names the key of the coupons' codes
    (redemption/codes.py); it is empty before a campaign opens, and for good if a version without such keys opened it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=200)
    quantity = models.PositiveIntegerField()
    opens_at = models.DateTimeField()
    closes_at = models.DateTimeField(null=True, blank=True)
    state = models.CharField(max_length=10, choices=CampaignState, default=CampaignState.DRAFT, editable=False)
    revision = models.PositiveBigIntegerField(default=0, editable=False)
    epoch = models.PositiveBigIntegerField(default=0, editable=False)
    mended_epoch = models.PositiveBigIntegerField(
        db_default=0, editable=False, help_text="The epoch of the last rebuild that Redis has taken over"
    )
    issued_count = models.PositiveIntegerField(default=0, editable=False)
    valid_from = models.DateTimeField(null=True, blank=True)
    valid_until = models.DateTimeField(null=True, blank=True)
    valid_days = models.PositiveIntegerField(null=True, blank=True)
    metadata = models.JSONField(db_default=models.Value({}, output_field=models.JSONField()), blank=True, default=dict)
    code_key = models.CharField(max_length=80, db_default="", blank=True, editable=False)
    log_ends = models.JSONField(
        db_default=models.Value({}, output_field=models.JSONField()),
        editable=False,
        help_text="Where each rebuild found the topic's end: epoch -> partition -> offset",
    )
    closed_at = models.DateTimeField(null=True, editable=False)
    unloaded_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("-created_at",)
        constraints = [
            models.CheckConstraint(
                name="campaign_quantity_in_range", condition=Q(quantity__gte=1, quantity__lte=MAX_QUANTITY)
            ),
            models.CheckConstraint(
                name="campaign_closes_after_it_opens",
                condition=Q(closes_at__isnull=True) | Q(closes_at__gt=F("opens_at")),
                violation_error_message="closes_at: it must be later than opens_at.",
            ),
            models.CheckConstraint(
                name="campaign_issued_within_quantity", condition=Q(issued_count__lte=F("quantity"))
            ),
            models.CheckConstraint(
                name="campaign_unloaded_is_closed",
                condition=Q(unloaded_at__isnull=True) | Q(state=CampaignState.CLOSED),
            ),
            models.CheckConstraint(
                name="campaign_valid_until_or_days",
                condition=Q(valid_until__isnull=True) | Q(valid_days__isnull=True),
                violation_error_message="valid_days: give either it or valid_until.",
            ),
            models.CheckConstraint(
                name="campaign_valid_days_in_range",
                condition=Q(valid_days__isnull=True) | Q(valid_days__gte=1, valid_days__lte=MAX_VALID_DAYS),
            ),
            models.CheckConstraint(
                name="campaign_valid_until_after_from",
                condition=Q(valid_from__isnull=True) | Q(valid_until__isnull=True) | Q(valid_until__gt=F("valid_from")),
                violation_error_message="valid_until: it must be later than valid_from.",
            ),
        ]
        permissions = [("operate_campaign", "Can open, pause, resume, close and resize campaigns")]

    def __str__(self) -> str:
        return self.name

    @property
    def is_loaded(self) -> bool:
        """As LOADED says of rows."""
        return self.epoch > 0 and self.unloaded_at is None


LOADED = Q(epoch__gt=0, unloaded_at__isnull=True)
"""Campaigns whose state Redis has or should have: opened, and not unloaded."""


class Coupon(models.Model):
    """One issued coupon. Rows are never deleted, and changed only where a user is erased (coupons/erasing/).

    The index of `coupon_one_per_user` starts with the user, so it also serves an operator's search by user.
    """

    campaign = models.ForeignKey(Campaign, on_delete=models.PROTECT, related_name="coupons", db_index=False)
    user_id = models.CharField(max_length=MAX_USER_ID_LENGTH)
    sequence = models.PositiveBigIntegerField()
    code = models.CharField(max_length=32)
    issued_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=("user_id", "campaign"), name="coupon_one_per_user"),
            models.UniqueConstraint(fields=("campaign", "sequence"), name="coupon_one_per_sequence"),
            models.UniqueConstraint(fields=("code",), name="coupon_code_unique"),
        ]
        permissions = [("see_code", "Can see the codes of coupons"), ("revoke_coupon", "Can revoke coupons")]

    def __str__(self) -> str:
        return f"{self.user_id} #{self.sequence}"
