"""A consumer dies by SIGKILL: what it had in hand comes again, nothing is written twice, nothing is lost."""

import signal

from coupons.failpoints import CONSUMER_COMMITTED, CONSUMER_FAILURES_RECORDED, CONSUMER_INSERTED, CONSUMER_SETTLED
from coupons.messaging.topics import partition_lags
from coupons.models import FailEventHistory
from tests.support.promises import Promises, apply_all, assert_kept, issued
from tests.support.service import Service
from tests.support.waiting import wait_until


def test_killed_before_and_after_the_database_commit_nothing_is_lost_or_written_twice(service: Service) -> None:
    """Row 16: three consumers, each of which dies at another point of its first batch."""
    campaign = service.campaign(60)
    dying = [service.manage("run_coupon_consumer", "--solo") for _ in range(3)]
    wait_until(
        lambda: (
            sorted(number for consumer in dying for number in consumer.partitions) == [0, 1, 2, 3]
            and all(consumer.partitions for consumer in dying)
        ),
        what=lambda: f"partitions for each: {[consumer.partitions for consumer in dying]}",
    )

    points = (CONSUMER_INSERTED, CONSUMER_COMMITTED, CONSUMER_SETTLED)
    for point in points:
        service.arm(point, "kill")

    promises = apply_all(campaign, range(60))

    assert {service.wait_for(point) for point in points} == {consumer.pid for consumer in dying}
    assert [consumer.wait() for consumer in dying] == [-signal.SIGKILL] * 3
    assert 0 < issued(campaign) < 60, "two had committed to the database, one had not"
    assert {lag.committed for lag in partition_lags().values()} == {None}, "and none to Kafka"
    service.consumer("--solo")
    assert_kept(campaign, promises)


def test_workers_killed_at_each_point_of_a_batch_are_started_again_and_go_on(service: Service) -> None:
    """Row 16, with the parent that users run: also while a batch's failures are recorded."""
    campaign = service.campaign(100)
    consumer = service.consumer("--concurrency", "3")
    points = (CONSUMER_INSERTED, CONSUMER_FAILURES_RECORDED, CONSUMER_COMMITTED, CONSUMER_SETTLED)
    for point in points:
        service.arm(point, "kill")
    for number in range(12):
        service.produce(b"no message of ours %d" % number, key=str(number))

    promises = apply_all(campaign, range(80))

    killed = {service.wait_for(point) for point in points}
    assert len(killed) == 4
    assert consumer.pid not in killed
    assert_kept(campaign, promises)
    assert consumer.output.count("exit=-9") == 4
    assert FailEventHistory.objects.count() == 12, "one for each foreign message, whoever died over it"
    assert consumer.stop() == 0


def test_a_worker_stopped_after_its_commit_and_resumed_when_another_did_its_batch_does_no_harm(
    service: Service,
) -> None:
    campaign = service.campaign(100)
    consumer = service.consumer("--concurrency", "2")
    wait_until(lambda: consumer.output.count("consumer.assigned") >= 2, what="both have partitions")
    service.arm(CONSUMER_COMMITTED, "stop")
    promises = apply_all(campaign, range(40))
    service.wait_for(CONSUMER_COMMITTED)

    wait_until(lambda: issued(campaign) == 40, what="the other one, with all the partitions, has written the rest")
    service.resume(CONSUMER_COMMITTED)

    assert_kept(campaign, promises | apply_all(campaign, range(40, 60)))
    assert consumer.stop() == 0


def test_a_killed_parent_leaves_no_worker_behind_and_the_next_one_goes_on(service: Service) -> None:
    campaign = service.campaign(400)
    parent = service.consumer("--concurrency", "2", "--max-rate", "100", "--batch-size", "10")
    promises = apply_all(campaign, range(200))
    wait_until(lambda: issued(campaign) > 20, what="some coupons")

    parent.kill()

    wait_until(lambda: not service.left_over(), within_sec=10, what=lambda: f"workers end: {service.left_over()}")
    done = issued(campaign)
    assert done < 200
    assert "parent_gone" in parent.output
    service.consumer()
    assert_kept(campaign, promises | apply_all(campaign, range(200, 220)))


def test_workers_killed_five_times_under_load_are_started_again_and_lose_nothing(service: Service) -> None:
    campaign = service.campaign(1_000)
    consumer = service.consumer("--concurrency", "2", "--batch-size", "20", "--max-rate", "300")
    promises: Promises = {}
    for kill in range(5):
        before = issued(campaign)
        promises |= apply_all(campaign, range(kill * 150, kill * 150 + 150))
        wait_until(lambda before=before: issued(campaign) > before, what="it works")  # type: ignore[misc]
        workers = [pid for pid, command in service.left_over().items() if "--child-of" in command]
        service.kill(workers[kill % len(workers)])
        wait_until(
            lambda kill=kill: consumer.output.count("supervisor.died") == kill + 1,  # type: ignore[misc]
            what="the parent notices",
        )

    ledger = assert_kept(campaign, promises)
    assert (ledger.issued, ledger.first_sequence, ledger.last_sequence) == (750, 1, 750)
    assert consumer.stop() == 0
