"""Rows 23 and 24: messages that can never be written become failed events, and they alone; a flood of them stops the
consumer."""

import json
from uuid import uuid4

from coupons.models import Campaign, Coupon, EventStatus, FailCode, FailEventHistory
from coupons.runtime.failpoints import CONSUMER_FAILURES_RECORDED, CONSUMER_SETTLED
from tests.support.group import (
    MAX_POLL_INTERVAL,
    assert_admission_went_on,
    assert_membership_kept,
    assert_offsets_stay,
)
from tests.support.matrix import Row
from tests.support.promises import apply_all, assert_history_holds, assert_kept
from tests.support.service import Service, message
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until


def poison_for(campaign: Campaign, user_id: str) -> dict[bytes, FailCode]:
    """Every kind of bad message, and what it must become. The user has a ticket."""
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
        message(campaign.pk, user_id, 99_999): FailCode.NOT_ADMITTED,
    }


def broken(campaign: Campaign, **fields: object) -> bytes:
    return json.dumps(json.loads(message(campaign.pk, "1", 1)) | fields).encode()


def test_each_bad_message_becomes_a_failed_event(service: Service) -> None:
    """They come in one batch with good ones: the consumer stops until all are in the topic."""
    _, consumer, keeper = service.everything(**LONG_TIMEOUTS)
    row = Row.begin(service, 23)
    user = next(iter(row.crowd.promises(row.campaign.pk)))
    poison = poison_for(row.campaign, user)

    with row.fault("topic: a message of every bad kind, among good ones"):
        service.arm(CONSUMER_SETTLED, "stop")
        service.wait_for(CONSUMER_SETTLED)
        for number, payload in enumerate(poison):
            service.produce(payload, key=str(number))
            row.crowd.wait_for_promises("between them", users=2)
        service.resume(CONSUMER_SETTLED)
        wait_until(lambda: FailEventHistory.objects.count() >= len(poison), what="all are recorded")
    row.wait_for_promises(users=30)

    assert_history_holds(row.crowd, campaigns=[row.campaign])
    events = FailEventHistory.objects.all()
    assert {bytes(event.payload): event.error_code for event in events} == poison
    assert len(events) == len(poison)
    assert {event.event_status for event in events} == {EventStatus.FAIL}
    assert {event.next_attempt_at for event in events} == {None}, "no attempt can end differently"
    assert set(events.values_list("topic", flat=True)) == {service.topic}
    assert "consumer.waiting" not in consumer.output
    assert_admission_went_on(row.crowd)
    assert (consumer.stop(), keeper.stop()) == (0, 0)
    row.write()


def test_a_flood_of_bad_messages_ends_the_consumer(service: Service) -> None:
    """Also while good ones come between them, which are issued when an operator has looked."""
    keeper = service.keeper(**LONG_TIMEOUTS)
    consumer = service.consumer("--batch-size", "10", COUPON_CONSUMER_POISON_LIMIT="20")
    service.web(**LONG_TIMEOUTS)
    row = Row.begin(service, 23, name="flood")

    with row.fault("topic: 400 bad messages among good ones; the consumer ends and is started again"):
        for key in range(8):
            service.produce(*(b"poison %d of %d" % (number, key) for number in range(50)), key=str(key))
        assert consumer.wait() == 3
        recorded = FailEventHistory.objects.count()
        row.crowd.wait_for_promises("without a consumer", users=30)
        service.consumer("--solo")  # the limit of an operator who has looked
    row.wait_for_promises(users=30)

    assert "more messages of topic" in consumer.output
    assert "COUPON_CONSUMER_POISON_LIMIT" in consumer.output
    assert "Traceback" not in consumer.output
    assert 20 < recorded < 200, "the table is not filled"
    assert_history_holds(row.crowd, campaigns=[row.campaign])
    assert FailEventHistory.objects.count() == 400, "a redelivery adds no second row"
    assert_admission_went_on(row.crowd)
    assert keeper.stop() == 0
    row.write()


def test_an_unrecorded_bad_message_keeps_its_offset(service: Service) -> None:
    """Row 24: some are in the transaction that PostgreSQL's crash undoes, some come when it is down."""
    consumer = service.consumer("--solo", **MAX_POLL_INTERVAL)
    service.web(**LONG_TIMEOUTS)
    row = Row.begin(service, 24)

    with row.fault("postgres: SIGKILL with failed events inserted and not committed, started again after 5 s"):
        service.arm(CONSUMER_FAILURES_RECORDED, "stop")
        service.produce(b"no JSON", b"nor this")
        service.wait_for(CONSUMER_FAILURES_RECORDED)
        service.stack("kill", "postgres")
        service.resume(CONSUMER_FAILURES_RECORDED)
        service.produce(b"nor that")
        consumer.says("consumer.waiting")
        assert_offsets_stay(row.crowd)
        service.stack("start", "postgres")
        consumer.says("consumer.resumed")
    row.wait_for_promises(users=30)

    assert_history_holds(row.crowd, campaigns=[row.campaign])
    events = FailEventHistory.objects.values_list("payload", "error_code")
    found = sorted((bytes(payload), code) for payload, code in events)
    assert found == [(text, FailCode.INVALID_MESSAGE) for text in (b"no JSON", b"nor that", b"nor this")]
    assert_membership_kept(consumer)
    assert_admission_went_on(row.crowd)
    assert consumer.stop() == 0
    row.write()


def test_a_refused_ticket_is_not_issued_after_rebuild_or_retry(service: Service) -> None:
    campaign = service.campaign(10)
    promises = apply_all(campaign, range(3))
    service.consumer("--solo")
    service.produce(message(campaign.pk, "forged", 4), message(campaign.pk, "0", 7), message(campaign.pk, "late", 1))
    wait_until(lambda: FailEventHistory.objects.filter(error_code=FailCode.NOT_ADMITTED).count() == 3)

    assert service.run("rebuild_admission", str(campaign.pk)).exit_code == 0
    FailEventHistory.objects.update(next_attempt_at="2020-01-01T00:00:00Z")  # as an operator's "retry now"
    assert "3 failed again" in service.run("retry_failed_coupons").output
    service.produce(message(campaign.pk, "forged", 4), key="after the rebuild")
    wait_until(lambda: FailEventHistory.objects.filter(user_id="forged").count() == 2)

    assert_kept(campaign, promises)
    assert set(Coupon.objects.values_list("user_id", flat=True)) == {"0", "1", "2"}
