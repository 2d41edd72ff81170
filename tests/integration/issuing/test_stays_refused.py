"""What was given up, refused or recorded stays so, whoever delivers the message again; SUCCESS is a coupon."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import IntegrityError, connection, transaction

from consumers.registry import Handled, Received
from coupons.admission.scripts import admission_redis
from coupons.issuing.failed_events import Failure, give_up_events, record_failures
from coupons.issuing.retry import RetryReport, retry_due_events, retry_events_now
from coupons.messaging.signing import sign
from coupons.models import Campaign, Coupon, EventStatus, FailAttempt, FailCode, FailEventHistory, PartitionOffset
from faults.ledgers import reconcile
from tests.support.service import Service, message
from tests.support.tickets import admit, consume, held, issued_users, rebuild, received, were_read


@contextmanager
def refused_by_postgresql(user_id: str) -> Iterator[None]:
    """For a reason of its own, as a constraint of the shop's."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"ALTER TABLE coupons_coupon ADD CONSTRAINT shop_refuses CHECK (user_id <> '{user_id}') NOT VALID"
        )
        try:
            yield
        finally:
            cursor.execute("ALTER TABLE coupons_coupon DROP CONSTRAINT shop_refuses")


@pytest.fixture
def refused(service: Service, settings: LazySettings) -> Campaign:
    """User a is in, and has a failed event: PostgreSQL refused the coupon, for a reason that has passed."""
    settings.RETRY_BASE_DELAY_SEC = 0
    settings.RETRY_MAX_ATTEMPTS = 1
    campaign = service.campaign(10)
    admit(campaign, "a")
    with refused_by_postgresql("a"):
        consume(received(campaign, "a", 1))
    assert FailEventHistory.objects.get().error_code == FailCode.DATABASE_REFUSED
    return campaign


def give_up(*users: str) -> int:
    events = FailEventHistory.objects.filter(user_id__in=users)
    return give_up_events(event_ids=[event.pk for event in events], actor="kim", reason="refunded")


@pytest.mark.parametrize("offset", [0, 70], ids=["delivered again", "produced again"])
def test_a_ticket_that_was_given_up_is_never_issued(refused: Campaign, offset: int) -> None:
    assert give_up("a") == 1

    assert consume(received(refused, "a", 1, offset=offset)) == Handled(done=0, duplicates=1)

    assert not Coupon.objects.exists()
    assert FailEventHistory.objects.count() == 1
    [ledger] = reconcile(campaign_ids=[refused.pk])
    assert (ledger.closes, ledger.failed, ledger.issued) == (True, 1, 0)


def test_its_neighbours_in_the_batch_are_issued(refused: Campaign) -> None:
    admit(refused, "b", "c")
    give_up("a")

    handled = consume(*(received(refused, user, number, offset=number) for number, user in enumerate("abc", 1)))

    assert handled == Handled(done=2, duplicates=1)
    assert issued_users(refused) == {"b": 2, "c": 3}


def test_nor_by_another_failed_event_of_the_same_ticket(refused: Campaign) -> None:
    with refused_by_postgresql("a"):
        consume(received(refused, "a", 1, offset=50))
    first, second = FailEventHistory.objects.order_by("pk")
    give_up_events(event_ids=[first.pk], actor="kim", reason="refunded")

    assert retry_events_now(event_ids=[second.pk], actor="kim") == RetryReport(failed=1)
    assert not Coupon.objects.exists()
    assert "gave up" in FailAttempt.objects.get().error_message


def test_a_ticket_that_has_its_coupon_cannot_be_given_up(refused: Campaign) -> None:
    consume(received(refused, "a", 1))

    assert give_up("a") == 0
    assert retry_due_events(limit=5, actor="test") == RetryReport(succeeded=1)


def test_a_given_up_late_message_does_not_exclude_its_user(service: Service) -> None:
    """`not-admitted` says that the gate did not hold it. The same user may get the same sequence later."""
    campaign = service.campaign(10)
    consume(received(campaign, "a", 1, epoch=0))
    give_up("a")
    admit(campaign, "a")

    assert consume(received(campaign, "a", 1, offset=9, epoch=1)).done == 1


@pytest.mark.parametrize("first", ["consumer", "operator"])
def test_a_delivery_and_a_simultaneous_decision_exclude_each_other(refused: Campaign, first: str) -> None:
    """Each has looked before the other commits; only one of them may come through."""
    begun, go_on = Event(), Event()

    def pause_before_commit(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        done = execute(sql, params, many, context)
        if sql.startswith(("INSERT INTO coupons_coupon", 'UPDATE "coupons_faileventhistory"')):
            begun.set()
            assert go_on.wait(20)
        return done

    def deliver(slowly: bool) -> int:
        return _in_a_thread(lambda: consume(received(refused, "a", 1, offset=40)).done, pause_before_commit, slowly)

    def decide(slowly: bool) -> int:
        return _in_a_thread(lambda: give_up("a"), pause_before_commit, slowly)

    were_read()
    slow, quick = (deliver, decide) if first == "consumer" else (decide, deliver)
    with ThreadPoolExecutor(2) as pool:
        came_first = pool.submit(slow, True)
        assert begun.wait(20)
        came_second = pool.submit(quick, False)
        go_on.set()
        assert (came_first.result(30), came_second.result(30)) == (1, 0)
    assert Coupon.objects.count() == (1 if first == "consumer" else 0)


def _in_a_thread(do: Any, wrapper: Any, slowly: bool) -> int:
    try:
        if not slowly:
            return int(do())
        with connection.execute_wrapper(wrapper):
            return int(do())
    finally:
        connection.close()


GHOST = {"epoch": 1}


def test_a_refused_message_gets_no_place_by_a_rebuild(service: Service) -> None:
    """A group without offsets, so the whole topic counts as unread."""
    campaign = service.campaign(10)
    admit(campaign, *(f"u{number}" for number in range(8)))
    payload = message(campaign.pk, "ghost", 9, **GHOST)
    service.produce(payload, payload)
    consume(Received(service.topic, 0, 500, payload, sign(payload)))
    assert FailEventHistory.objects.get().error_code == FailCode.NOT_ADMITTED
    PartitionOffset.objects.all().delete()
    admission_redis().flushall()

    rebuild(campaign)

    assert "ghost" not in held(campaign, "ghost")


def test_a_message_of_the_same_ticket_counts_in_later_epochs(service: Service) -> None:
    """The late one was refused; then the same user got the same sequence, and was promised it."""
    campaign = service.campaign(10)
    late, promised = (message(campaign.pk, "a", 1, epoch=epoch) for epoch in (0, 1))
    consume(Received(service.topic, 0, 500, late, sign(late)))
    PartitionOffset.objects.all().delete()
    service.produce(promised)
    admission_redis().flushall()

    rebuild(campaign)

    assert held(campaign, "a")["a"].sequence == 1


def test_poison_that_was_recorded_is_not_counted_again(service: Service) -> None:
    batch = [Received(service.topic, 0, number, b"junk", sign(b"junk")) for number in range(1_001)]

    assert consume(*batch).failed == 1_001
    assert consume(*batch) == Handled(done=0)
    assert FailEventHistory.objects.count() == 1_001


def test_both_events_of_a_refused_ticket_fail_again(refused: Campaign) -> None:
    with refused_by_postgresql("a"):
        consume(received(refused, "a", 1, offset=50))
        assert retry_due_events(limit=10, actor="test") == RetryReport(failed=2)

    assert set(FailEventHistory.objects.values_list("event_status", flat=True)) == {EventStatus.FAIL}
    assert not Coupon.objects.exists()
    ids = list(FailEventHistory.objects.values_list("pk", flat=True))
    assert retry_events_now(event_ids=ids, actor="kim") == RetryReport(succeeded=2)
    assert issued_users(refused) == {"a": 1}


def test_two_messages_of_a_refused_ticket_become_two_events(service: Service) -> None:
    campaign = service.campaign(10)
    admit(campaign, "a", "b")

    with refused_by_postgresql("a"):
        handled = consume(
            received(campaign, "a", 1), received(campaign, "a", 1, offset=1), received(campaign, "b", 2, offset=2)
        )

    assert handled == Handled(done=1, failed=2)


def test_postgresql_itself_refuses_success_without_a_coupon(refused: Campaign) -> None:
    event = FailEventHistory.objects.get()

    with pytest.raises(IntegrityError, match="cannot be SUCCESS: its ticket has no coupon"), transaction.atomic():
        FailEventHistory.objects.filter(pk=event.pk).update(event_status=EventStatus.SUCCESS)
    consume(received(refused, "a", 1))
    FailEventHistory.objects.filter(pk=event.pk).update(event_status=EventStatus.SUCCESS)


def test_a_conflict_without_a_redelivery_drops_nothing(service: Service) -> None:
    """Another constraint of the table, such as an index that somebody added."""
    failures = [
        Failure(FailCode.INVALID_MESSAGE, "no JSON", json.dumps(number).encode(), service.topic, 0, number, {})
        for number in range(2)
    ]
    with connection.cursor() as cursor:
        cursor.execute("CREATE UNIQUE INDEX somebody_s ON coupons_faileventhistory (topic)")
    try:
        record_failures(failures[:1])
        with pytest.raises(IntegrityError, match="somebody_s"):
            record_failures(failures[1:])
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP INDEX somebody_s")
