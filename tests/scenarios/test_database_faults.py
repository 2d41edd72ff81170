"""PostgreSQL goes away under a working consumer: it waits, keeps its place in the group, and records no failure."""

import time

from django.db import connection, transaction

from coupons.messaging.topics import partition_lags
from coupons.models import FailCode, FailEventHistory
from tests.support.process import Process
from tests.support.promises import Promises, apply_all, assert_kept, issued
from tests.support.service import Service
from tests.support.waiting import hold, wait_until

# The consumer must come back to Kafka within this, or the group takes its partitions away.
MAX_POLL_INTERVAL = {"COUPON_KAFKA_CLIENT_CONFIG": "max.poll.interval.ms=6000"}


def test_postgresql_stopped_and_started_mid_batch(service: Service) -> None:
    """Also: a failed event cannot be written either while it is down, so the offset of its message does not move."""
    campaign = service.campaign(400)
    consumer = service.consumer("--solo", "--max-rate", "100", "--batch-size", "20", **MAX_POLL_INTERVAL)
    promises = apply_all(campaign, range(200))
    wait_until(lambda: issued(campaign) >= 40, what="some coupons")

    service.stack("kill", "postgres")
    service.produce(b"no JSON")
    promises |= apply_all(campaign, range(200, 220))
    consumer.says("consumer.waiting")
    before = committed()
    stopped_at = time.monotonic()
    hold(7, lambda: committed() == before, "no offset moves while the database is down")
    assert time.monotonic() - stopped_at > 6, "longer than the group waits for a consumer that does not poll"
    service.stack("start", "postgres")

    consumer.says("consumer.resumed")
    assert_kept(campaign, promises)
    event = FailEventHistory.objects.get()
    assert (event.error_code, bytes(event.payload)) == (FailCode.INVALID_MESSAGE, b"no JSON")
    assert_membership_kept(consumer)
    assert consumer.stop() == 0


def test_connections_ended_by_the_server_cost_one_retry_and_no_failure(service: Service) -> None:
    campaign = service.campaign(400)
    consumer = service.consumer("--solo", "--max-rate", "100", "--batch-size", "10")
    promises: Promises = {}

    for turn in range(3):
        promises |= apply_all(campaign, range(turn * 50, turn * 50 + 50))
        wait_until(lambda turn=turn: issued(campaign) > turn * 50, what="it works")  # type: ignore[misc]
        terminate_others()

    assert_kept(campaign, promises)
    assert not FailEventHistory.objects.exists()
    assert_membership_kept(consumer)


def test_a_table_that_is_locked_is_waited_for_with_an_end(service: Service) -> None:
    campaign = service.campaign(100)
    consumer = service.consumer("--solo", COUPON_DB_LOCK_TIMEOUT_MS="300")

    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE coupons_coupon IN ACCESS EXCLUSIVE MODE")
        promises = apply_all(campaign, range(20))
        consumer.says("consumer.waiting")
        assert set(committed().values()) == {None}

    consumer.says("consumer.resumed")
    assert_kept(campaign, promises)
    assert not FailEventHistory.objects.exists()
    assert_membership_kept(consumer)


def committed() -> dict[int, int | None]:
    return {number: lag.committed for number, lag in partition_lags().items()}


def terminate_others() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )


def assert_membership_kept(consumer: Process) -> None:
    assert consumer.output.count("consumer.assigned") == 1
    assert "consumer.revoked" not in consumer.output
