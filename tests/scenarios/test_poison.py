"""Messages that can never be written: they alone become failed events; a flood of them stops the consumer."""

import json
from uuid import uuid4

from coupons.models import Campaign, Coupon, EventStatus, FailCode, FailEventHistory
from tests.support.promises import Promises, apply_all, assert_kept
from tests.support.service import Service, message
from tests.support.waiting import wait_until


def poison_for(campaign: Campaign) -> dict[bytes, FailCode]:
    """Every kind of bad message, and what it must become."""
    unknown = uuid4()
    return {
        b"": FailCode.INVALID_MESSAGE,
        b"no JSON": FailCode.INVALID_MESSAGE,
        b"\x00\xff\x00": FailCode.INVALID_MESSAGE,
        b"[" * 3_000: FailCode.INVALID_MESSAGE,
        b"[1]": FailCode.INVALID_MESSAGE,
        b'{"v":1,"user_id":"' + b"x" * 5_000 + b'"}': FailCode.INVALID_MESSAGE,
        message(campaign.pk, "nul\x00byte", 1): FailCode.INVALID_MESSAGE,
        message(campaign.pk, "\ud800", 1): FailCode.INVALID_MESSAGE,
        message(campaign.pk, "x" * 129, 1): FailCode.INVALID_MESSAGE,
        broken(campaign, user_id=7): FailCode.INVALID_MESSAGE,
        broken(campaign, sequence="7"): FailCode.INVALID_MESSAGE,
        broken(campaign, sequence=True): FailCode.INVALID_MESSAGE,
        broken(campaign, sequence=-1): FailCode.INVALID_MESSAGE,
        broken(campaign, sequence=2**70): FailCode.INVALID_MESSAGE,
        broken(campaign, admitted_at="yesterday"): FailCode.INVALID_MESSAGE,
        message("no-uuid", "1", 1): FailCode.INVALID_MESSAGE,
        broken(campaign, v=2): FailCode.UNKNOWN_VERSION,
        message(unknown, "1", 1): FailCode.UNKNOWN_CAMPAIGN,
        message(campaign.pk, "never-admitted", 1): FailCode.NOT_ADMITTED,
        message(campaign.pk, "1", 999): FailCode.NOT_ADMITTED,
    }


def broken(campaign: Campaign, **fields: object) -> bytes:
    return json.dumps(json.loads(message(campaign.pk, "1", 1)) | fields).encode()


def test_each_bad_message_becomes_a_failed_event_and_its_neighbours_are_issued(service: Service) -> None:
    campaign = service.campaign(100)
    poison = poison_for(campaign)
    # One batch of good and bad ones, mixed: the consumer starts when all are in the topic.
    promises: Promises = {}
    for number, payload in enumerate(poison):
        promises |= apply_all(campaign, [number * 2, number * 2 + 1])
        service.produce(payload, key=str(number))

    service.consumer("--solo")

    assert_kept(campaign, promises)
    events = FailEventHistory.objects.all()
    assert {bytes(event.payload): event.error_code for event in events} == poison
    assert len(events) == len(poison)
    assert {event.event_status for event in events} == {EventStatus.FAIL}
    assert {event.next_attempt_at for event in events} == {None}, "no attempt can end differently"
    assert set(events.values_list("topic", flat=True)) == {service.topic}


def test_a_flood_of_them_ends_the_consumer_with_a_clear_word(service: Service) -> None:
    campaign = service.campaign(10)
    promises = apply_all(campaign, range(5))
    service.produce(*(f"poison {number}".encode() for number in range(200)))

    consumer = service.manage("run_coupon_consumer", "--batch-size", "10", COUPON_CONSUMER_POISON_LIMIT="20")

    assert consumer.wait() == 3
    assert "messages in a row" in consumer.output
    assert "COUPON_CONSUMER_POISON_LIMIT" in consumer.output
    assert "Traceback" not in consumer.output
    recorded = FailEventHistory.objects.count()
    assert 20 < recorded <= 45, "the table is not filled"
    service.consumer("--solo")  # the limit of an operator who has looked
    assert_kept(campaign, promises)
    assert FailEventHistory.objects.count() == 200, "a redelivery adds no second row"


def test_what_the_gate_does_not_hold_is_never_issued_not_even_after_a_mend_or_a_retry(service: Service) -> None:
    campaign = service.campaign(10)
    promises = apply_all(campaign, range(3))
    service.consumer("--solo")
    service.produce(message(campaign.pk, "forged", 4), message(campaign.pk, "0", 7), message(campaign.pk, "late", 1))
    wait_until(lambda: FailEventHistory.objects.filter(error_code=FailCode.NOT_ADMITTED).count() == 3)

    assert service.run("rebuild_admission", str(campaign.pk)).exit_code == 0
    FailEventHistory.objects.update(next_attempt_at="2020-01-01T00:00:00Z")  # as an operator's "retry now"
    assert "3 failed again" in service.run("retry_failed_coupons").output
    service.produce(message(campaign.pk, "forged", 4), key="after the mend")
    wait_until(lambda: FailEventHistory.objects.filter(user_id="forged").count() == 2)

    assert_kept(campaign, promises)
    assert set(Coupon.objects.values_list("user_id", flat=True)) == {"0", "1", "2"}
