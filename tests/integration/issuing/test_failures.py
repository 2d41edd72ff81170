"""Failed events as they are stored: one per message, whatever bytes, and due only if a later attempt can help."""

from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from coupons.issuing.failed_events import MAX_ERROR_TEXT, Failure, record_failures
from coupons.models import Campaign, FailCode, FailEventHistory

pytestmark = pytest.mark.django_db


def failure(**values: Any) -> Failure:
    fields: dict[str, Any] = {
        "code": FailCode.INVALID_MESSAGE,
        "reason": "no JSON",
        "payload": b"x",
        "topic": "t",
        "partition": 0,
        "offset": 1,
        "named": {},
    }
    return Failure(**(fields | values))


def test_the_same_message_again_adds_no_row() -> None:
    record_failures([failure()])
    record_failures([failure(), failure(reason="another text")])

    assert FailEventHistory.objects.count() == 1


def test_the_same_offset_with_other_bytes_is_another_message() -> None:
    record_failures([failure(), failure(payload=b"y")])

    assert FailEventHistory.objects.count() == 2


@pytest.mark.parametrize("place", [{"topic": "u"}, {"partition": 1}, {"offset": 2}], ids=str)
def test_the_same_bytes_elsewhere_are_another_message(place: dict[str, Any]) -> None:
    record_failures([failure(), failure(**place)])

    assert FailEventHistory.objects.count() == 2


def test_the_payload_is_kept_byte_for_byte_with_its_hash() -> None:
    payload = bytes(range(256)) * 400
    record_failures([failure(payload=payload)])

    event = FailEventHistory.objects.get()
    assert bytes(event.payload) == payload
    assert event.payload_hash == sha256(payload).hexdigest()


@pytest.mark.parametrize(
    "value",
    ["a\x00b", "\ud800", "x" * 10_000, 10**3_000, ["deep", ["er"]], {"a": None}, None, True, 1.5, "\U0001f600" * 300],
    ids=lambda value: repr(value)[:12],
)
def test_whatever_a_message_names_can_be_stored(value: object) -> None:
    record_failures([failure(named={"campaign_id": value, "user_id": value, "sequence": value})])

    event = FailEventHistory.objects.get()
    assert len(event.user_id) <= 128
    assert len(event.campaign_ref) <= 200
    assert event.campaign_id is None
    assert event.sequence is None


@pytest.mark.parametrize(
    ("sequence", "stored"), [(0, 0), (2**63 - 1, 2**63 - 1), (2**63, None), (-1, None), (True, None), ("3", None)]
)
def test_a_sequence_is_stored_if_a_column_can_hold_it(sequence: object, stored: int | None) -> None:
    record_failures([failure(named={"sequence": sequence})])

    assert FailEventHistory.objects.get().sequence == stored


def test_a_known_campaign_is_linked_and_an_unknown_one_text() -> None:
    known = Campaign.objects.create(name="x", quantity=1, opens_at=timezone.now())
    unknown = uuid4()
    record_failures(
        [
            failure(named={"campaign_id": str(known.pk)}),
            failure(named={"campaign_id": str(unknown)}, offset=2),
            failure(named={"campaign_id": "no uuid"}, offset=3),
        ]
    )

    rows = FailEventHistory.objects.order_by("offset").values_list("campaign_id", "campaign_ref")
    assert list(rows) == [(known.pk, str(known.pk)), (None, str(unknown)), (None, "no uuid")]


def test_a_long_reason_is_cut() -> None:
    record_failures([failure(reason="x" * 10_000)])

    assert len(FailEventHistory.objects.get().error_message) == MAX_ERROR_TEXT


@pytest.mark.parametrize("code", FailCode)
def test_only_retryable_failures_become_due(code: FailCode) -> None:
    record_failures([failure(code=code)])

    due = FailEventHistory.objects.get().next_attempt_at
    assert (due is not None) == (code in (FailCode.QUANTITY_EXCEEDED, FailCode.DATABASE_REFUSED))


def test_the_first_attempt_is_due_within_the_base_delay(settings: Any) -> None:
    settings.RETRY_BASE_DELAY_SEC = 60
    record_failures([failure(code=FailCode.QUANTITY_EXCEEDED)])

    event = FailEventHistory.objects.get()
    assert event.next_attempt_at is not None
    assert 30 <= (event.next_attempt_at - event.created_at).total_seconds() <= 61
