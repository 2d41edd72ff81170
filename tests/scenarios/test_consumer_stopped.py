"""Row 18: a consumer comes back after the group has given its partitions, and the batch in its hand, to another."""

from coupons.runtime.failpoints import CONSUMER_COMMITTED, CONSUMER_SETTLED
from tests.support.group import MAX_POLL_INTERVAL, assert_admission_went_on, committed
from tests.support.matrix import Row
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until

ALL = {0, 1, 2, 3}


def test_the_stale_commit_of_a_paused_consumer_does_no_harm(
    service: Service,
) -> None:
    """It sends no heartbeat meanwhile. When it goes on it settles in Redis, and commits in Kafka, what is long done."""
    consumers = [service.manage("run_coupon_consumer", "--solo", **MAX_POLL_INTERVAL) for _ in range(2)]
    service.web(**LONG_TIMEOUTS)
    wait_until(lambda: all(len(each.partitions) == 2 for each in consumers), what="two partitions each")
    row = Row.begin(service, 18, name="stopped")

    with row.fault("a consumer: SIGSTOP with a batch written and not committed, SIGCONT after another did it"):
        service.arm(CONSUMER_COMMITTED, "stop")
        away = service.wait_for(CONSUMER_COMMITTED)
        absent, other = sorted(consumers, key=lambda each: each.pid != away)
        wait_until(lambda: other.partitions == ALL, within_sec=30, what="the other one takes over all")
        before = committed()
        row.crowd.wait_for_promises("with one consumer", users=30)
        wait_until(lambda: all(committed()[number] > before[number] for number in ALL), what="it does their batches")
        moved = committed()
        service.resume(CONSUMER_COMMITTED)
        absent.says("consumer.offset_not_committed outcome=redelivered")
    row.wait_for_promises(users=30)

    wait_until(
        lambda: len(absent.partitions) == len(other.partitions) == 2 and absent.partitions.isdisjoint(other.partitions),
        what=lambda: f"it has joined again: {absent.partitions} {other.partitions}",
    )
    now = committed()
    assert all(now[number] >= moved[number] for number in ALL), "the stale commit rewound nobody"
    row.holds()
    assert_admission_went_on(row.crowd)
    assert [each.stop() for each in consumers] == [0, 0]
    row.write()


def test_a_consumer_too_slow_for_its_poll_joins_again(service: Service) -> None:
    """Its heartbeats go on, so only max.poll.interval.ms tells the group of it."""
    polls_often = {"COUPON_KAFKA_CLIENT_CONFIG": "max.poll.interval.ms=2500"}
    consumer = service.manage("run_coupon_consumer", "--solo", **polls_often)
    service.web(**LONG_TIMEOUTS)
    consumer.says("consumer.assigned")
    row = Row.begin(service, 18, name="slow")

    with row.fault("a consumer: 6 s over one batch, 3.5 s more than the group waits"):
        service.arm(CONSUMER_SETTLED, "sleep:6000")
        service.wait_for(CONSUMER_SETTLED)
        row.crowd.wait_for_promises("meanwhile", users=30)
        consumer.says("Application maximum poll interval")
        wait_until(lambda: consumer.partitions == ALL and "consumer.revoked" in consumer.output, what="it is back")
    row.wait_for_promises(users=30)

    row.holds()
    assert_admission_went_on(row.crowd)
    assert consumer.stop() == 0
    row.write()
