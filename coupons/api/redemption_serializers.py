"""Checks what a checkout sends, and makes the documents that it gets."""

from datetime import datetime
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from coupons.api.serializers import BodySerializer, MomentField, NumberField, TextField, UserIdField
from coupons.audit import MAX_REASON
from coupons.messaging.messages import USER_ID
from coupons.models import MAX_ORDER_REF_LENGTH, Coupon, RedemptionState
from coupons.redemption.codes import MAX_TYPED, InvalidCode, read_code
from coupons.redemption.coupon_life import CouponStatus, Obstacle
from coupons.redemption.redeem import MAX_HOLD_SEC


class CodeField(TextField):
    """Accepts a code as people type it, and returns it as it is stored. Its errors repeat no part of it."""

    def __init__(self) -> None:
        super().__init__(max_length=MAX_TYPED, help_text="As people type it: any case, hyphens or none, O for 0.")

    def to_internal_value(self, data: Any) -> str:
        try:
            return read_code(super().to_internal_value(data))
        except InvalidCode as error:
            raise serializers.ValidationError(str(error)) from None


class CheckSerializer(BodySerializer):
    code = CodeField()
    user_id = UserIdField(f"^{USER_ID.pattern}$", required=False, help_text="The user who wants to use it.")


class RedeemSerializer(CheckSerializer):
    order_ref = TextField(
        max_length=MAX_ORDER_REF_LENGTH, help_text="The shop's own name of the order. It names the redemption."
    )
    hold_sec = NumberField(
        required=False, min_value=1, max_value=MAX_HOLD_SEC, help_text="Hold it for so long instead; then confirm it."
    )


class ReturnSerializer(BodySerializer):
    reason = TextField(max_length=MAX_REASON)


class RevokeSerializer(BodySerializer):
    code = CodeField()
    reason = TextField(max_length=MAX_REASON)


def read_status(request: Request) -> str | None:
    """Returns the status that a list is limited to. Raises ValidationError."""
    given = request.query_params.getlist("status")
    if not given:
        return None
    if len(given) > 1 or given[0] not in list(CouponStatus):
        raise serializers.ValidationError({"status": [f"Give one of {', '.join(CouponStatus)}."]})
    return given[0]


def read_since(request: Request) -> datetime | None:
    """Returns the time from which on coupons are exported. Raises ValidationError."""
    given = request.query_params.getlist("since")
    if not given:
        return None
    if len(given) > 1:
        raise serializers.ValidationError({"since": ["Give one time."]})
    try:
        since: datetime = MomentField().run_validation(given[0])
    except serializers.ValidationError as error:
        raise serializers.ValidationError({"since": error.detail}) from None
    return since


# The answers' documents. These classes have no docstrings, as drf-spectacular shows docstrings to clients.
class CheckDocument(serializers.Serializer[Any]):
    redeemable = serializers.BooleanField()
    reasons = serializers.ListField(
        child=serializers.ChoiceField(choices=[str(each) for each in Obstacle]),
        help_text="Why not; a redemption would be refused with the first as its code.",
    )
    campaign = serializers.UUIDField()
    status = serializers.ChoiceField(choices=[str(each) for each in CouponStatus])
    valid_from = MomentField(allow_null=True)
    valid_until = MomentField(allow_null=True)
    metadata = serializers.DictField(help_text="The campaign's, as the shop gave it.")


class RedemptionDocument(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=RedemptionState.values)
    order_ref = serializers.CharField()
    hold_until = MomentField(allow_null=True)
    redeemed_at = MomentField(allow_null=True)
    campaign = serializers.UUIDField()
    user_id = serializers.CharField()
    sequence = serializers.IntegerField()
    valid_until = MomentField(allow_null=True)
    metadata = serializers.DictField()


class RevokedDocument(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["revoked"])
    campaign = serializers.UUIDField()
    user_id = serializers.CharField()


class CouponDocument(serializers.Serializer[Coupon]):
    campaign = serializers.UUIDField(source="campaign_id")
    name = serializers.CharField(source="campaign.name", help_text="The campaign's name.")
    sequence = serializers.IntegerField()
    status = serializers.ChoiceField(choices=[str(each) for each in CouponStatus])
    code = serializers.CharField(required=False, help_text="For the user, and for a service with the scope redeem.")
    issued_at = MomentField()
    valid_from = MomentField(source="campaign.valid_from", allow_null=True)
    valid_until = MomentField(allow_null=True)
    metadata = serializers.DictField(source="campaign.metadata")

    def to_representation(self, instance: Coupon) -> dict[str, Any]:
        document = super().to_representation(instance)
        if not self.context["shows_codes"]:
            del document["code"]
        return document


class CouponListDocument(serializers.Serializer[Any]):
    count = serializers.IntegerField()
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)
    results = CouponDocument(many=True)
