"""Rows 19 to 21: PostgreSQL goes away under a working consumer. It waits, keeps its place in the group, and records no
failure; users are admitted all the while."""

from django.db import connection, transaction

from coupons.models import FailEventHistory
from coupons.runtime.failpoints import CONSUMER_INSERTED
from faults.visits import Habits
from tests.support.group import (
    MAX_POLL_INTERVAL,
    assert_admission_went_on,
    assert_membership_kept,
    assert_offsets_stay,
    committed,
)
from tests.support.matrix import Row
from tests.support.patience import PATIENT
from tests.support.process import Process
from tests.support.promises import assert_history_holds, issued
from tests.support.service import Service
from tests.support.sessions import end_other_sessions
from tests.support.waiting import wait_until

MANY = Habits(users_per_sec=80)


def test_postgresql_crashes_in_the_middle_of_a_batch(service: Service) -> None:
    consumer, keeper = consumer_and_others(service, **MAX_POLL_INTERVAL)
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=MANY)
    row = Row(19, crowd)
    crowd.goes_on("before", users=50)

    with row.fault("postgres: SIGKILL with a batch inserted and not committed, started again after 5 s"):
        service.arm(CONSUMER_INSERTED, "stop")
        service.wait_for(CONSUMER_INSERTED)
        service.stack("kill", "postgres")
        service.resume(CONSUMER_INSERTED)
        consumer.says("consumer.waiting")
        assert_offsets_stay(crowd)
        service.stack("start", "postgres")
        consumer.says("consumer.resumed")
    row.goes_on(users=30)

    assert_history_holds(crowd, campaigns=[campaign])
    assert not FailEventHistory.objects.exists()
    assert_membership_kept(consumer)
    assert_admission_went_on(crowd)
    assert (consumer.stop(), keeper.stop()) == (0, 0)
    row.write()


def test_ended_connections_cost_one_retry_and_no_failure(service: Service) -> None:
    """All of the service's connections: first with a batch inserted and not committed, then at any moment."""
    consumer, keeper = consumer_and_others(service, **PATIENT)
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=MANY)
    row = Row(20, crowd)
    crowd.goes_on("before", users=30)

    with row.fault("postgres: all connections ended with a batch inserted and not committed"):
        service.arm(CONSUMER_INSERTED, "stop")
        service.wait_for(CONSUMER_INSERTED)
        end_other_sessions()
        service.resume(CONSUMER_INSERTED)
        consumer.says("consumer.resumed")
    assert consumer.output.count("consumer.waiting") == 1, "one retry"
    row.goes_on(users=30)
    with row.fault("postgres: all connections ended, four times"):
        for turn in range(4):
            before = issued(campaign)
            end_other_sessions()
            crowd.goes_on(f"turn {turn}", users=10)
            wait_until(lambda before=before: issued(campaign) > before, what="it works")  # type: ignore[misc]
    row.goes_on(users=30)

    assert_history_holds(crowd, campaigns=[campaign])
    assert not FailEventHistory.objects.exists()
    assert consumer.output.count("consumer.waiting") == consumer.output.count("consumer.resumed") <= 5
    assert_membership_kept(consumer)
    assert_admission_went_on(crowd)
    assert (consumer.stop(), keeper.stop()) == (0, 0)
    row.write()


def test_postgresql_hangs_and_the_consumer_does_not_hang_with_it(service: Service) -> None:
    """The server keeps none of its own time-outs then; the wait ends on this side of the connection."""
    ends_its_waits = {
        "COUPON_DB_LOCK_TIMEOUT_MS": "500",
        "COUPON_DB_STATEMENT_TIMEOUT_MS": "700",
        "COUPON_DB_ANSWER_TIMEOUT_MS": "1000",
        "COUPON_DB_CONNECT_TIMEOUT_SEC": "1",
    }
    consumer, keeper = consumer_and_others(service, **MAX_POLL_INTERVAL, **ends_its_waits)
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=MANY)
    row = Row(21, crowd, name="hang")
    crowd.goes_on("before", users=50)

    with row.fault("postgres: SIGSTOP with a batch inserted and not committed, SIGCONT after 5 s"):
        service.arm(CONSUMER_INSERTED, "stop")
        service.wait_for(CONSUMER_INSERTED)
        service.stack("pause", "postgres")
        service.resume(CONSUMER_INSERTED)
        consumer.says("PostgreSQL did not answer in time")
        assert_offsets_stay(crowd)
        service.stack("resume", "postgres")
        consumer.says("consumer.resumed")
    row.goes_on(users=30)

    assert_history_holds(crowd, campaigns=[campaign])
    assert not FailEventHistory.objects.exists()
    assert_membership_kept(consumer)
    assert_admission_went_on(crowd)
    assert (consumer.stop(), keeper.stop()) == (0, 0)
    row.write()


def test_waits_for_a_locked_table_end(service: Service) -> None:
    """Two consumers, so that each of the server's two time-outs is seen to end a wait."""
    first, keeper = consumer_and_others(service, COUPON_DB_LOCK_TIMEOUT_MS="300", **MAX_POLL_INTERVAL)
    second = service.consumer("--solo", COUPON_DB_STATEMENT_TIMEOUT_MS="300", **MAX_POLL_INTERVAL)
    wait_until(lambda: len(first.partitions) == len(second.partitions) == 2, what="two partitions each")
    assigned = first.output.count("consumer.assigned"), second.output.count("consumer.assigned")
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=MANY)
    row = Row(21, crowd, name="lock")
    crowd.goes_on("before", users=50)

    with row.fault("postgres: LOCK TABLE coupons_coupon for 5 s"), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE coupons_coupon IN ACCESS EXCLUSIVE MODE")
        first.says("canceling statement due to lock timeout")
        second.says("canceling statement due to statement timeout")
        assert_offsets_stay(crowd)
    for consumer in (first, second):
        consumer.says("consumer.resumed")
    row.goes_on(users=30)

    assert_history_holds(crowd, campaigns=[campaign])
    assert not FailEventHistory.objects.exists()
    assert assigned == (first.output.count("consumer.assigned"), second.output.count("consumer.assigned"))
    assert len(first.partitions) == len(second.partitions) == 2, "they stayed in their group"
    assert_admission_went_on(crowd)
    assert [process.stop() for process in (first, second, keeper)] == [0, 0, 0]
    row.write()


def test_a_consumer_that_outwaits_its_group_joins_again(
    service: Service,
) -> None:
    """It pauses what it has when the wait ends, which the group has taken away by then and gives back."""
    longer_than_the_group = {"COUPON_DB_LOCK_TIMEOUT_MS": "9000", "COUPON_DB_STATEMENT_TIMEOUT_MS": "10000"}
    consumer, keeper = consumer_and_others(service, **MAX_POLL_INTERVAL, **longer_than_the_group)
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=Habits(users_per_sec=20))
    crowd.goes_on("before", users=20)

    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE coupons_coupon IN ACCESS EXCLUSIVE MODE")
        consumer.says("exceeded")  # the group's time, as the client's own timer sees it
        consumer.says("canceling statement due to lock timeout")
    wait_until(lambda: consumer.output.count("consumer.assigned") == 2, what="it has its partitions again")
    before = issued(campaign)

    wait_until(lambda: issued(campaign) > before, what="coupons are written again")
    assert_history_holds(crowd, campaigns=[campaign])
    assert (consumer.stop(), keeper.stop()) == (0, 0)


def consumer_and_others(service: Service, **more: str) -> tuple[Process, Process]:
    """One consumer with these settings, a web server and a keeper."""
    consumer = service.manage("run_coupon_consumer", "--solo", **more)
    keeper = service.manage("run_keeper", "--interval-ms", "300")
    service.web(**PATIENT)
    keeper.says("keeper: looks")
    wait_until(lambda: len(consumer.partitions) == len(committed()), what="it has all partitions")
    return consumer, keeper
