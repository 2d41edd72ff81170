"""Checks what clients send, with errors that name the field, and makes the documents that they get."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.utils.timezone import is_naive
from rest_framework import serializers

from coupons.admission.campaign_store import Description
from coupons.api.problems import Code
from coupons.messaging.messages import USER_ID, is_user_id
from coupons.models import MAX_QUANTITY, MAX_USER_ID_LENGTH, MAX_VALID_DAYS, Campaign, CampaignState
from coupons.redemption.coupon_life import CouponStatus
from coupons.runtime.clock import moment_of
from coupons.runtime.text import compose

MAX_NAME_LENGTH = 200


class UserIdField(serializers.RegexField):
    """Takes a string unchanged, without stripping or converting numbers, so that each user has one spelling."""

    _CHARACTERS = f"Must be 1-{MAX_USER_ID_LENGTH} characters of A-Z a-z 0-9 . _ : @ | + -, and neither . nor .."
    default_error_messages = {
        "not_a_string": 'Must be a string, for example "42".',
        "blank": _CHARACTERS,
        "invalid": _CHARACTERS,
    }

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("not_a_string")
        if not is_user_id(data):
            self.fail("invalid")
        return data


class ApplicationDocument(serializers.Serializer[Any]):
    user_id = UserIdField(f"^{USER_ID.pattern}$", help_text="Optional with a user's token, which names the user.")


def read_user_id(data: Any, *, own: str | None) -> str:
    """Returns a body's applicant. Raises ValidationError, made by the serializer, which names the field.

    `own` is the user of the caller's token, and the applicant when the body has no user id.
    """
    if own is not None and isinstance(data, Mapping) and "user_id" not in data:
        return own
    if isinstance(data, dict) and is_user_id(data.get("user_id")):
        return str(data["user_id"])
    serializer = ApplicationDocument(data=data)
    serializer.is_valid(raise_exception=True)
    return str(serializer.validated_data["user_id"])


class MomentField(serializers.DateTimeField):
    """Accepts ISO 8601 with an offset: a time without one means different moments in different time zones."""

    default_error_messages = {"no_offset": "Give the time with its offset, for example 2026-12-01T10:00:00+09:00."}

    def enforce_timezone(self, value: datetime) -> datetime:
        if is_naive(value):
            self.fail("no_offset")
        try:
            return value.astimezone(UTC)  # PostgreSQL takes no offset of 16 hours or more
        except OverflowError:
            self.fail("overflow")

    def to_representation(self, value: datetime | str) -> str:
        """Writes UTC as +00:00; DRF would write Z. Leaves a text as it is, like DRF."""
        return value if isinstance(value, str) else value.isoformat()


class TextField(serializers.CharField):
    """Accepts only a string; DRF's field takes numbers, too."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class NameField(TextField):
    """Accepts what the schema does: a string whose length counts before the blanks around it are removed, and
    also once it is composed, which makes a few characters several."""

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, str) and max(len(data), len(compose(data))) > MAX_NAME_LENGTH:
            self.fail("max_length", max_length=MAX_NAME_LENGTH)
        return super().to_internal_value(data)


class NumberField(serializers.IntegerField):
    """Accepts a JSON number, not a string that looks like one."""

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return super().to_internal_value(data)


class BodySerializer(serializers.Serializer[Any]):
    def checked(self) -> dict[str, Any]:
        """Returns the values of a good body. Raises ValidationError, also for a member that is not known."""
        self.is_valid(raise_exception=True)
        return dict(self.validated_data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if unknown := set(self.initial_data) - set(self.fields):
            raise serializers.ValidationError({name: ["There is no such field."] for name in sorted(unknown)})
        return attrs


class CampaignSerializer(BodySerializer):
    """A new campaign, or with `partial=True` a change of its values."""

    name = NameField(min_length=1, max_length=MAX_NAME_LENGTH)
    quantity = NumberField(min_value=1, max_value=MAX_QUANTITY)
    opens_at = MomentField(required=False)
    closes_at = MomentField(required=False, allow_null=True)
    valid_from = MomentField(required=False, allow_null=True, help_text="Coupons may be redeemed from then on.")
    valid_until = MomentField(required=False, allow_null=True, help_text="Coupons expire then.")
    valid_days = NumberField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=MAX_VALID_DAYS,
        help_text="Or so many times 24 hours after each was issued.",
    )
    metadata = serializers.DictField(required=False, help_text="The shop's own, at most 4,096 bytes of JSON.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        if not attrs:
            raise serializers.ValidationError(f"Name what is to change: {', '.join(self.fields)}.")
        opens_at, closes_at = attrs.get("opens_at"), attrs.get("closes_at")
        if opens_at and closes_at and closes_at <= opens_at:
            raise serializers.ValidationError({"closes_at": ["It must be later than opens_at."]})
        return attrs


# The answers' documents. These classes have no docstrings, as drf-spectacular shows docstrings to clients.
# `campaign_now` returns the values of a CampaignDocument, and DRF's pagination makes the CampaignListDocument.
class CampaignDocument(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=CampaignState.values)
    quantity = serializers.IntegerField()
    remaining = serializers.IntegerField(allow_null=True, help_text="null: not known at this moment.")
    admitted = serializers.IntegerField(allow_null=True)
    issued = serializers.IntegerField()
    opens_at = MomentField()
    closes_at = MomentField(allow_null=True)
    valid_from = MomentField(allow_null=True)
    valid_until = MomentField(allow_null=True)
    valid_days = serializers.IntegerField(allow_null=True)
    metadata = serializers.DictField()


class CampaignListDocument(serializers.Serializer[Any]):
    count = serializers.IntegerField()
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)
    results = CampaignDocument(many=True)


class NotPushedDocument(serializers.Serializer[Any]):
    pushed = serializers.BooleanField(help_text="false: saved, and on its way to the processes that admit.")
    detail = serializers.CharField()


class TicketDocument(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["pending", "issued", "failed"])
    sequence = serializers.IntegerField(min_value=1, allow_null=True)
    code = serializers.CharField(required=False, help_text="issued: the coupon's code.")
    issued_at = MomentField(required=False)
    valid_from = MomentField(required=False, allow_null=True, help_text="issued: null is no limit.")
    valid_until = MomentField(required=False, allow_null=True)
    coupon_status = serializers.ChoiceField(
        required=False, choices=[str(each) for each in CouponStatus], help_text="issued: what has become of the coupon."
    )

    def to_representation(self, instance: dict[str, Any]) -> dict[str, Any]:
        # DRF writes null for a member that may be null and is missing.
        return {name: value for name, value in super().to_representation(instance).items() if name in instance}


# Every application makes one of the next two, so `applied` and `Problem.document` make them as plain dicts, which cost
# less than a serializer. tests/unit/api/test_documents.py compares them.
class AppliedDocument(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["pending"])
    sequence = serializers.IntegerField(min_value=1, help_text="The place: 1 is the first.")
    status_url = serializers.CharField()


class ProblemDocument(serializers.Serializer[Any]):
    type = serializers.CharField(help_text="Leads to the code's section of docs/api.md.")
    title = serializers.CharField()
    status = serializers.IntegerField(min_value=400, max_value=599)
    code = serializers.ChoiceField(choices=[str(code) for code in Code])
    detail = serializers.CharField(required=False)
    errors = serializers.DictField(  # type: ignore[assignment]  # a serializer has a property of that name
        required=False, help_text="invalid: what is wrong with each field."
    )
    opens_at = serializers.DateTimeField(required=False, help_text="not-open: when it opens, to the millisecond.")
    valid_from = serializers.DateTimeField(required=False, help_text="not-valid-yet: from when on it may be redeemed.")
    valid_until = serializers.DateTimeField(required=False, help_text="expired: when.")


def campaign_now(campaign: Campaign, description: Description | None) -> dict[str, Any]:
    """Returns a campaign's values, with Redis's while Redis has it; `remaining` is None when it is not known."""
    values = {
        "id": campaign.pk,
        "name": campaign.name,
        "state": campaign.state,
        "quantity": campaign.quantity,
        "remaining": campaign.quantity if campaign.epoch == 0 else None,
        "admitted": None,
        "issued": campaign.issued_count,
        "opens_at": campaign.opens_at,
        "closes_at": campaign.closes_at,
        "valid_from": campaign.valid_from,
        "valid_until": campaign.valid_until,
        "valid_days": campaign.valid_days,
        "metadata": campaign.metadata,
    }
    if description is not None:
        now = description.settings
        values |= {
            "state": now.state,
            "quantity": now.quantity,
            "remaining": max(now.quantity - description.admitted, 0),
            "admitted": description.admitted,
            "opens_at": moment_of(now.opens_at_ms),
            "closes_at": None if now.closes_at_ms is None else moment_of(now.closes_at_ms),
        }
    return values
