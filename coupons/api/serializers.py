"""Checks what clients send, with errors that name the field, and makes the documents that they get."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.utils.timezone import is_naive
from rest_framework import serializers

from coupons.admission.campaign_store import Description
from coupons.messaging.messages import USER_ID, is_user_id
from coupons.models import MAX_QUANTITY, MAX_USER_ID_LENGTH, Campaign
from coupons.runtime.clock import moment_of

MAX_NAME_LENGTH = 200


class UserIdField(serializers.Field[str, Any, str, str]):
    """Takes a string unchanged, without stripping or converting numbers, so that each user has one spelling."""

    default_error_messages = {
        "not_a_string": 'Must be a string, for example "42".',
        "characters": f"Must be 1-{MAX_USER_ID_LENGTH} characters of A-Z a-z 0-9 . _ : @ | + -",
    }

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("not_a_string")
        if not is_user_id(data):
            self.fail("characters")
        return data

    def to_representation(self, value: str) -> str:
        return value


class ApplySerializer(serializers.Serializer[Any]):
    user_id = UserIdField()


_PLAIN_BODY = re.compile(
    rb'[ \t\r\n]*\{[ \t\r\n]*"user_id"[ \t\r\n]*:[ \t\r\n]*"(%s)"[ \t\r\n]*\}[ \t\r\n]*' % USER_ID.pattern.encode()
)


def user_id_of_plain_body(body: bytes) -> str | None:
    """Returns the applicant of a body that has only a user id, like nearly all; None = parse it as JSON.

    JSON writes a user id's characters in a second way only by an escape, which this refuses; so every JSON parser reads
    the same user id.
    """
    plain = _PLAIN_BODY.fullmatch(body)
    return None if plain is None else plain[1].decode("ascii")


def read_user_id(data: Any, *, own: str | None) -> str:
    """Returns a body's applicant. Raises ValidationError, made by the serializer, which names the field.

    `own` is the user of the caller's token, and the applicant when the body has no user id.
    """
    if own is not None and isinstance(data, Mapping) and "user_id" not in data:
        return own
    if isinstance(data, dict) and is_user_id(data.get("user_id")):
        return str(data["user_id"])
    serializer = ApplySerializer(data=data)
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


class NameField(serializers.CharField):
    """Accepts what the schema does: only a string, whose length counts before the blanks around it are removed."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if len(data) > MAX_NAME_LENGTH:
            self.fail("max_length", max_length=MAX_NAME_LENGTH)
        return super().to_internal_value(data)


class QuantityField(serializers.IntegerField):
    """Accepts a JSON number, not a string that looks like one."""

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return super().to_internal_value(data)


class CampaignSerializer(serializers.Serializer[Any]):
    """A new campaign, or with `partial=True` a change of its quantity and window."""

    name = NameField(min_length=1, max_length=MAX_NAME_LENGTH)
    quantity = QuantityField(min_value=1, max_value=MAX_QUANTITY)
    opens_at = MomentField(required=False)
    closes_at = MomentField(required=False, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        unknown = set(self.initial_data) - set(self.fields)
        if unknown:
            raise serializers.ValidationError({name: ["There is no such field."] for name in sorted(unknown)})
        if not attrs:
            raise serializers.ValidationError(f"Name what is to change: {', '.join(self.fields)}.")
        opens_at, closes_at = attrs.get("opens_at"), attrs.get("closes_at")
        if opens_at and closes_at and closes_at <= opens_at:
            raise serializers.ValidationError({"closes_at": ["It must be later than opens_at."]})
        return attrs


def campaign_document(campaign: Campaign, description: Description | None) -> dict[str, Any]:
    """Makes a campaign's document, with Redis's numbers while Redis has it; `remaining` is null when it is unknown."""
    loaded = description.settings if description else None
    return {
        "id": str(campaign.pk),
        "name": campaign.name,
        "state": loaded.state if loaded else campaign.state,
        "quantity": loaded.quantity if loaded else campaign.quantity,
        "remaining": _remaining(campaign, description),
        "admitted": description.admitted if description else None,
        "issued": campaign.issued_count,
        "opens_at": (moment_of(loaded.opens_at_ms) if loaded else campaign.opens_at).isoformat(),
        "closes_at": _closes_at(campaign, description),
    }


def _remaining(campaign: Campaign, description: Description | None) -> int | None:
    if description is not None:
        return max(description.settings.quantity - description.admitted, 0)
    return campaign.quantity if campaign.epoch == 0 else None


def _closes_at(campaign: Campaign, description: Description | None) -> str | None:
    if description is None:
        return campaign.closes_at.isoformat() if campaign.closes_at else None
    closes_at_ms = description.settings.closes_at_ms
    return None if closes_at_ms is None else moment_of(closes_at_ms).isoformat()
