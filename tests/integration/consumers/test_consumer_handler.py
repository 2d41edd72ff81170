"""The handler of coupon_create: a batch becomes coupons and failed events, and a redelivery changes nothing."""

from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings

from consumers.registry import Handled, Received
from coupons.errors import GateUnavailable, StateStale
from coupons.messaging.signing import sign
from coupons.models import Campaign, Coupon, EventStatus, FailEventHistory
from faults.ledgers import reconcile
from tests.support.service import Service
from tests.support.tickets import admit, consume, held, insert_coupons, issued_users, received


def raw(payload: bytes, offset: int = 0, partition: int = 0) -> Received:
    return Received(settings.TOPIC, partition, offset, payload, sign(payload))


def codes() -> list[str]:
    return list(FailEventHistory.objects.order_by("offset").values_list("error_code", flat=True))


def test_a_good_message_becomes_a_coupon_and_leaves_pending(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")

    assert consume(received(campaign, "a", 1)) == Handled(done=1)
    assert issued_users(campaign) == {"a": 1}
    assert not held(campaign, "a")["a"].pending


def test_a_redelivered_batch_changes_nothing(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    batch = [received(campaign, "a", 1), raw(b"junk", 1), received(campaign, "forged", 2, offset=2)]
    consume(*batch)

    assert consume(*batch) == Handled(done=0, duplicates=1, failed=0)
    assert (Coupon.objects.count(), FailEventHistory.objects.count()) == (1, 2)


BAD: dict[str, bytes] = {
    "no JSON": b"hello",
    "a NUL byte": b"a\x00b",
    "NUL in the user": b'{"v":1,"campaign_id":"x\\u0000","user_id":"a\\u0000b","sequence":1}',
    "lone surrogates": b'{"v":1,"campaign_id":"\\ud800","user_id":"\\udfff","sequence":1}',
    "overlong": b'{"v":1,"x":"' + b"y" * 100_000 + b'"}',
    "empty": b"",
    "no UTF-8": b"\xff\xfe\x00",
    "deep": b"[" * 3_000,
    "an unknown version": b'{"v":2}',
    "a huge sequence": b'{"v":1,"campaign_id":"c","user_id":"u","sequence":' + b"9" * 3_000 + b"}",
    "lists where texts belong": b'{"v":1,"campaign_id":["c"],"user_id":{"u":1},"sequence":true}',
}


@pytest.mark.parametrize("payload", BAD.values(), ids=BAD.keys())
def test_only_the_bad_message_becomes_a_failed_event(service: Service, payload: bytes) -> None:
    campaign = service.campaign()
    admit(campaign, "a", "b")

    handled = consume(received(campaign, "a", 1), raw(payload, 1), received(campaign, "b", 2, offset=2))

    assert handled == Handled(done=2, failed=1)
    assert issued_users(campaign) == {"a": 1, "b": 2}
    assert bytes(FailEventHistory.objects.get().payload) == payload


def test_every_kind_of_failure_in_one_batch_is_told_apart(service: Service) -> None:
    campaign = service.campaign(3)
    admit(campaign, "a", "b", "c")
    insert_coupons(campaign, [("b", 9), ("thief", 8)])

    consume(
        raw(b"junk", 0),
        raw(b'{"v":9}', 1),
        received(uuid4(), "x", 1, offset=2),
        received(campaign, "forged", 4, offset=3),
        received(campaign, "b", 2, offset=4),
        received(campaign, "a", 1, offset=5),
        received(campaign, "c", 3, offset=6),
    )

    assert codes() == [
        "invalid-message",
        "unknown-version",
        "unknown-campaign",
        "not-admitted",
        "conflict",
        "quantity-exceeded",
    ]
    assert set(issued_users(campaign)) == {"b", "thief", "a"}


def test_a_failed_event_settles_its_held_ticket(service: Service) -> None:
    campaign = service.campaign(1)
    admit(campaign, "a")
    Campaign.objects.filter(pk=campaign.pk).update(issued_count=1)
    consume(received(campaign, "a", 1))
    Campaign.objects.filter(pk=campaign.pk).update(issued_count=0)

    assert codes() == ["quantity-exceeded"]
    assert not held(campaign, "a")["a"].pending
    [ledger] = reconcile()
    assert (ledger.failed, ledger.closes) == (1, True)


def test_a_failed_event_keeps_the_message_and_its_position(service: Service) -> None:
    campaign = service.campaign()
    consume(received(campaign, "forged", 4, offset=77))

    event = FailEventHistory.objects.get()
    assert (event.campaign_id, event.campaign_ref) == (campaign.pk, str(campaign.pk))
    assert (event.user_id, event.sequence, event.attempts) == ("forged", 4, 0)
    assert (event.topic, event.partition, event.offset) == (settings.TOPIC, 0, 77)
    assert event.event_status == EventStatus.FAIL


@pytest.mark.parametrize(
    ("away", "error"),
    [("redis", GateUnavailable), ("state", StateStale)],
)
def test_what_is_down_is_no_failure(service: Service, away: str, error: Any) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    if away == "redis":
        service.stack("pause", "redis")
    else:
        Campaign.objects.filter(pk=campaign.pk).update(epoch=9)

    with pytest.raises(error):
        consume(received(campaign, "a", 1), raw(b"junk", 1))
    assert not FailEventHistory.objects.exists()
    assert not Coupon.objects.exists()


def test_redelivery_settles_a_batch_killed_after_its_commit(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    insert_coupons(campaign, [("a", 1)])

    assert consume(received(campaign, "a", 1)) == Handled(done=0, duplicates=1)
    assert not held(campaign, "a")["a"].pending
