"""The tables of the bare views that insert or read one row (reference.py); redemptions.py makes the first."""

from typing import ClassVar

from django.db import models


class Row(models.Model):
    """About as much as a redemption."""

    objects: ClassVar[models.Manager["Row"]] = models.Manager()
    code = models.CharField(max_length=32)
    order_ref = models.CharField(max_length=128)
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.code


class BareCoupon(models.Model):
    """The product's coupons, without the product."""

    objects: ClassVar[models.Manager["BareCoupon"]] = models.Manager()
    code = models.CharField(max_length=32)
    user_id = models.CharField(max_length=128)

    class Meta:
        managed = False
        db_table = "coupons_coupon"

    def __str__(self) -> str:
        return self.code
