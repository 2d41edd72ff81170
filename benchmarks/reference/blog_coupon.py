"""The blog's table: who got a coupon, and nothing that keeps it from being one too many."""

from django.db import models
from django.db.models.functions import Now


class BlogCoupon(models.Model):
    user_id = models.CharField(max_length=128)
    issued_at = models.DateTimeField(db_default=Now())

    objects: models.Manager["BlogCoupon"] = models.Manager()

    class Meta:
        app_label = "blog"

    def __str__(self) -> str:
        return self.user_id
