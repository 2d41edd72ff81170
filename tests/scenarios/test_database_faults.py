"""Rows 19 to 22: PostgreSQL goes away under a working consumer. It waits, keeps its place in the group, and records no
failure; users are admitted all the while."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import pytest
from django.db import connection, transaction

from coupons.runtime.failpoints import CONSUMER_INSERTED
from faults.visits import Habits
from tests.support.disk import coupons_on, fill, small_disk
from tests.support.group import (
    MAX_POLL_INTERVAL,
    assert_admission_went_on,
    assert_membership_kept,
    assert_offsets_stay,
    committed,
)
from tests.support.matrix import Row
from tests.support.process import Process
from tests.support.promises import issued
from tests.support.service import Service
from tests.support.sessions import end_other_sessions, read_only_for_new_sessions
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until

ENDS_ITS_WAITS = {"COUPON_DB_STATEMENT_TIMEOUT_MS": "1000"}


@dataclass(frozen=True)
class Outage:
    """How PostgreSQL goes away, which lasts for as long as the block does, and what the consumer says of it."""

    row: int
    what: str
    begin: Callable[[Service], AbstractContextManager[None]]
    says: str
    settings: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def with_a_batch_inserted(service: Service, verb: str, back: str) -> Iterator[None]:
    """And not committed."""
    service.arm(CONSUMER_INSERTED, "stop")
    service.wait_for(CONSUMER_INSERTED)
    service.stack(verb, "postgres")
    service.resume(CONSUMER_INSERTED)
    yield
    service.stack(back, "postgres")


@contextmanager
def read_only(service: Service) -> Iterator[None]:
    """As after a failover to a server that is not promoted yet. Sessions stay as they began, whatever is set later."""
    with read_only_for_new_sessions():
        end_other_sessions()
        yield


@contextmanager
def disk_full(service: Service) -> Iterator[None]:
    """The coupons' table lies on a file system of its own, of 16 MiB."""
    with small_disk() as disk, coupons_on(disk), fill(disk):
        yield


OUTAGES = {
    "crash": Outage(
        19,
        "postgres: SIGKILL with a batch inserted and not committed, started again after 5 s",
        lambda service: with_a_batch_inserted(service, "kill", "start"),
        "consumer.waiting",
    ),
    # The server keeps none of its own time-outs then; the wait ends on this side of the connection.
    "hang": Outage(
        21,
        "postgres: SIGSTOP with a batch inserted and not committed, SIGCONT after 5 s",
        lambda service: with_a_batch_inserted(service, "pause", "resume"),
        "PostgreSQL did not answer in time",
        ENDS_ITS_WAITS,
    ),
    "read-only": Outage(22, "postgres: default_transaction_read_only for 5 s", read_only, "read-only transaction"),
    "full": Outage(22, "postgres: the disk of coupons_coupon full for 5 s", disk_full, "No space left on device"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.system] if name == "full" else []) for name in OUTAGES]
)
def test_a_consumer_waits_for_postgresql_and_records_no_failure(service: Service, name: str) -> None:
    outage = OUTAGES[name]
    consumer, keeper = consumer_and_others(service, **MAX_POLL_INTERVAL, **outage.settings)
    row = Row.begin(service, outage.row, name=name)

    with row.fault(outage.what):
        with outage.begin(service):
            consumer.says(outage.says)
            assert_offsets_stay(row.crowd)
        consumer.says("consumer.resumed")
    row.wait_for_promises(users=30)

    row.holds()
    assert_membership_kept(consumer)
    assert_admission_went_on(row.crowd)
    assert (consumer.stop(), keeper.stop()) == (0, 0)
    row.write()


def test_ended_connections_cost_one_retry_and_no_failure(service: Service) -> None:
    """All of the service's connections: first with a batch inserted and not committed, then at any moment."""
    consumer, keeper = consumer_and_others(service, **LONG_TIMEOUTS)
    row = Row.begin(service, 20)

    with row.fault("postgres: all connections ended with a batch inserted and not committed"):
        service.arm(CONSUMER_INSERTED, "stop")
        service.wait_for(CONSUMER_INSERTED)
        end_other_sessions()
        service.resume(CONSUMER_INSERTED)
        consumer.says("consumer.resumed")
    assert consumer.output.count("consumer.waiting") == 1, "one retry"
    row.wait_for_promises(users=30)
    with row.fault("postgres: all connections ended, four times"):
        for turn in range(4):
            before = issued(row.campaign)
            end_other_sessions()
            row.crowd.wait_for_promises(f"turn {turn}", users=10)
            wait_until(lambda before=before: issued(row.campaign) > before, what="it works")  # type: ignore[misc]
    row.wait_for_promises(users=30)

    row.holds()
    assert consumer.output.count("consumer.waiting") == consumer.output.count("consumer.resumed") <= 5
    assert_membership_kept(consumer)
    assert_admission_went_on(row.crowd)
    assert (consumer.stop(), keeper.stop()) == (0, 0)
    row.write()


def test_waits_for_a_locked_table_end(service: Service) -> None:
    """Two consumers, so that each of the server's two time-outs is seen to end a wait."""
    first, keeper = consumer_and_others(service, COUPON_DB_STATEMENT_TIMEOUT_MS="600", **MAX_POLL_INTERVAL)
    below_the_lock_s = f"{service.environment['DATABASE_URL']}?options=-c%20statement_timeout%3D300"
    second = service.consumer("--solo", DATABASE_URL=below_the_lock_s, **MAX_POLL_INTERVAL)
    wait_until(lambda: len(first.partitions) == len(second.partitions) == 2, what="two partitions each")
    assigned = first.output.count("consumer.assigned"), second.output.count("consumer.assigned")
    row = Row.begin(service, 21, name="lock")

    with row.fault("postgres: LOCK TABLE coupons_coupon for 5 s"), coupons_locked():
        first.says("canceling statement due to lock timeout")
        second.says("canceling statement due to statement timeout")
        assert_offsets_stay(row.crowd)
    for consumer in (first, second):
        consumer.says("consumer.resumed")
    row.wait_for_promises(users=30)

    row.holds()
    assert assigned == (first.output.count("consumer.assigned"), second.output.count("consumer.assigned"))
    assert len(first.partitions) == len(second.partitions) == 2, "they stayed in their group"
    assert_admission_went_on(row.crowd)
    assert [process.stop() for process in (first, second, keeper)] == [0, 0, 0]
    row.write()


def test_a_consumer_that_outwaits_its_group_joins_again(service: Service) -> None:
    """It pauses what it has when the wait ends, which the group has taken away by then and gives back."""
    longer_than_the_group = {"COUPON_DB_STATEMENT_TIMEOUT_MS": "18000"}  # half of it for a lock
    consumer, keeper = consumer_and_others(service, **MAX_POLL_INTERVAL, **longer_than_the_group)
    row = Row.begin(service, 21, habits=Habits(users_per_sec=20))

    with coupons_locked():
        consumer.says("exceeded")  # the group's time, as the client's own timer sees it
        consumer.says("canceling statement due to lock timeout")
    wait_until(lambda: consumer.output.count("consumer.assigned") == 2, what="it has its partitions again")
    before = issued(row.campaign)

    wait_until(lambda: issued(row.campaign) > before, what="coupons are written again")
    row.holds()
    assert (consumer.stop(), keeper.stop()) == (0, 0)


@contextmanager
def coupons_locked() -> Iterator[None]:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE coupons_coupon IN ACCESS EXCLUSIVE MODE")
        yield


def consumer_and_others(service: Service, **more: str) -> tuple[Process, Process]:
    """One consumer with these settings, a web server and a keeper."""
    consumer = service.manage("run_coupon_consumer", "--solo", **more)
    keeper = service.manage("run_keeper", "--interval-ms", "300")
    service.web(**LONG_TIMEOUTS)
    keeper.says("keeper: one round")
    wait_until(lambda: len(consumer.partitions) == len(committed()), what="it has all partitions")
    return consumer, keeper
