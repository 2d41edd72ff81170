"""Rows 31, 38 and 41: what PostgreSQL refuses is no success, ids that are taken refuse nobody, and what was given up,
refused or recorded stays so."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from coupons.admission.scripts import admission_redis
from coupons.issuing.failed_events import give_up_events
from coupons.messaging.messages import decode
from coupons.models import AuditEntry, Coupon, EventStatus, FailAttempt, FailCode, FailEventHistory
from tests.support.matrix import MANY, Row
from tests.support.promises import assert_history_holds
from tests.support.service import Service, message
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.topic import read_topic, unread
from tests.support.waiting import wait_until

DUE_AT_ONCE = {"COUPON_RETRY_BASE_DELAY_SEC": "0"}
REFUSED = "3$"  # users whose id ends so


@contextmanager
def some_users_refused() -> Iterator[None]:
    """By PostgreSQL, for a reason of its own."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = 0; SET statement_timeout = 0")
        cursor.execute("ALTER TABLE coupons_coupon ADD CONSTRAINT refused CHECK (user_id !~ %s) NOT VALID", [REFUSED])
        try:
            yield
        finally:
            cursor.execute("ALTER TABLE coupons_coupon DROP CONSTRAINT refused")


def refused_users() -> set[str]:
    events = FailEventHistory.objects.filter(error_code=FailCode.DATABASE_REFUSED)
    return set(events.values_list("user_id", flat=True))


def messages_of(users: set[str]) -> list[bytes]:
    """Of all that can be read."""
    found = [each.payload for each in read_topic() if each.payload.startswith(b"{")]
    return [payload for payload in found if decode(payload).user_id in users]


def successes_without_a_coupon() -> int:
    tickets = set(Coupon.objects.values_list("campaign_id", "user_id", "sequence"))
    succeeded = FailEventHistory.objects.filter(event_status=EventStatus.SUCCESS)
    return sum(ticket not in tickets for ticket in succeeded.values_list("campaign_id", "user_id", "sequence"))


def test_a_twice_refused_ticket_never_succeeds_without_a_coupon(service: Service) -> None:
    service.manage("run_coupon_consumer", "--solo", **DUE_AT_ONCE).says("consumer.assigned")
    service.web(**LONG_TIMEOUTS)
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=MANY)
    row = Row(31, crowd)

    with row.fault("PostgreSQL refuses some tickets; each of their messages comes twice; retried meanwhile"):
        with some_users_refused():
            wait_until(lambda: len(refused_users()) >= 15, within_sec=40, what="enough are refused")
            service.produce(*messages_of(refused_users()))
            wait_until(twice_refused, within_sec=30, what="and some of them twice")
            retried = service.run("retry_failed_coupons", "--limit", "40", **DUE_AT_ONCE)
            assert retried.exit_code == 0
            assert "0 succeeded" in retried.output
            assert not FailEventHistory.objects.filter(event_status=EventStatus.SUCCESS).exists()
            assert set(FailAttempt.objects.values_list("error_code", flat=True)) == {FailCode.DATABASE_REFUSED}
        wait_until(lambda: all_retried(service), within_sec=40, what="all are issued now")
    row.wait_for_promises(users=20)

    assert_history_holds(crowd, campaigns=[campaign])
    assert successes_without_a_coupon() == 0
    row.write()


def twice_refused() -> bool:
    users = list(FailEventHistory.objects.values_list("user_id", flat=True))
    return len(users) - len(set(users)) >= 10


def all_retried(service: Service) -> bool:
    service.run("retry_failed_coupons", **DUE_AT_ONCE)
    return not FailEventHistory.objects.exclude(event_status=EventStatus.SUCCESS).exists()


def test_id_sequences_set_back_lose_nothing(service: Service) -> None:
    """As a database that was moved by logical replication: the rows came along, the sequences did not."""
    _, consumer, _ = service.everything(**LONG_TIMEOUTS)
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=MANY)
    row = Row(38, crowd)
    service.produce(b"junk 1", b"junk 2")
    crowd.wait_for_promises("before", users=50)
    wait_until(lambda: FailEventHistory.objects.count() == 2, what="failed events")

    with row.fault("setval(..., 1) for coupons, failed events and audit, each several times"):
        for number in range(3):
            for table in ("coupons_coupon", "coupons_faileventhistory", "coupons_auditentry"):
                with connection.cursor() as cursor:
                    cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), 1, false)")
            service.produce(f"junk {number} again".encode())
            paused = service.post(f"campaigns/{campaign.pk}/pause")
            resumed = service.post(f"campaigns/{campaign.pk}/resume")
            assert (paused.status, resumed.status) == (200, 200), (paused.data, resumed.data)
            crowd.wait_for_promises("meanwhile", users=30)
    row.wait_for_promises(users=30)

    assert_history_holds(crowd, campaigns=[campaign])
    assert set(FailEventHistory.objects.values_list("error_code", flat=True)) == {FailCode.INVALID_MESSAGE}
    assert FailEventHistory.objects.count() == 5
    assert AuditEntry.objects.filter(what__in=["Paused", "Resumed"]).count() == 6
    assert consumer.exit_code is None
    row.write()


def test_a_renamed_group_changes_nothing_that_has_ended(service: Service) -> None:
    """Given-up tickets, refused ones and poison; delivered again to another group, and produced again."""
    service.web(**LONG_TIMEOUTS)
    keeper = service.keeper()
    consumer = service.consumer("--solo", **DUE_AT_ONCE)
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=MANY)
    row = Row(41, crowd)
    with some_users_refused():
        wait_until(lambda: len(refused_users()) >= 10, within_sec=40, what="enough are refused")
    service.produce(*(b"junk" for _ in range(30)))
    service.produce(*(message(campaign.pk, f"ghost-{number}", 10_000 + number, epoch=1) for number in range(5)))
    wait_until(lambda: FailEventHistory.objects.filter(user_id__startswith="ghost").count() == 5, what="refused ones")
    given_up = refused_users()
    events = list(FailEventHistory.objects.filter(user_id__in=given_up).values_list("pk", flat=True))
    assert give_up_events(event_ids=events, actor="kim", reason="refunded") == len(events)
    wait_until(lambda: unread() < 20, what="all is read")
    before = failed_events()
    assert consumer.stop() == 0

    with row.fault("all delivered again to a group of another name, and some of it produced again; then FLUSHALL"):
        again = service.consumer(
            "--solo", COUPON_CONSUMER_GROUP=f"{service.topic}_renamed", COUPON_CONSUMER_POISON_LIMIT="25"
        )
        service.produce(*messages_of(given_up | {f"ghost-{number}" for number in range(5)}))
        crowd.wait_for_promises("behind all that", users=40)
        admission_redis().flushall()
        keeper.says("rebuild.done")
    row.wait_for_promises(users=30)

    assert_history_holds(crowd, campaigns=[campaign], failed=len(given_up))
    assert not Coupon.objects.filter(user_id__in=given_up).exists()
    assert not Coupon.objects.filter(user_id__startswith="ghost").exists()
    assert set(before) <= set(failed_events())
    assert {user for user, *_ in failed_events()} == {user for user, *_ in before}
    assert again.exit_code is None, "poison that is recorded does not count again"
    row.write()


def failed_events() -> list[tuple[str, int | None, int, int]]:
    return list(FailEventHistory.objects.values_list("user_id", "sequence", "partition", "offset"))
