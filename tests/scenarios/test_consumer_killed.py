"""Row 16: a consumer dies by SIGKILL. What it had in hand comes again, nothing is written twice, nothing is lost."""

import signal

from coupons.models import Coupon, FailEventHistory
from coupons.runtime.failpoints import (
    CONSUMER_COMMITTED,
    CONSUMER_FAILURES_RECORDED,
    CONSUMER_INSERTED,
    CONSUMER_SETTLED,
)
from faults.visits import Habits
from tests.support.group import assert_admission_went_on, committed
from tests.support.matrix import Row
from tests.support.promises import assert_history_holds, issued
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.topic import uncommitted_users
from tests.support.waiting import wait_until

# A user's two messages could lie in two batches.
ONCE_EACH = Habits(users_per_sec=100, repeat_share=0.0, duplicate_share=0.0)


def test_consumers_killed_around_their_commits_lose_and_repeat_nothing(service: Service) -> None:
    """Three consumers, each of which dies at another point of a batch; nobody is left to start them again."""
    dying = [service.manage("run_coupon_consumer", "--solo") for _ in range(3)]
    service.web(**LONG_TIMEOUTS)
    wait_until(
        lambda: (
            sorted(number for consumer in dying for number in consumer.partitions) == [0, 1, 2, 3]
            and all(consumer.partitions for consumer in dying)
        ),
        what=lambda: f"partitions for each: {[consumer.partitions for consumer in dying]}",
    )
    row = Row.begin(service, 16, name="each-point", habits=ONCE_EACH, users=50)
    wait_until(lambda: issued(row.campaign) > 0, what="they work")

    points = (CONSUMER_INSERTED, CONSUMER_COMMITTED, CONSUMER_SETTLED)
    with row.fault("three consumers: SIGKILL before the database commit, after it, and before the offset's"):
        for point in points:
            service.arm(point, "kill")
        assert {service.wait_for(point) for point in points} == {consumer.pid for consumer in dying}
        assert [consumer.wait() for consumer in dying] == [-signal.SIGKILL] * 3
        row.crowd.wait_for_promises(
            "without a consumer", users=5
        )  # the last commit's way to the broker is over by then
        written, moved = set(Coupon.objects.values_list("user_id", flat=True)), committed()
        coming_again = uncommitted_users()
        assert len(coming_again & written) >= 2, "two had committed to the database what none had committed to Kafka"
        assert coming_again - written, "and one to neither"
        row.crowd.wait_for_promises("without a consumer", users=50)
        assert (issued(row.campaign), committed()) == (len(written), moved)
        service.consumer("--solo")
    row.wait_for_promises(users=30)

    row.holds()
    assert_admission_went_on(row.crowd)
    row.write()


def test_workers_killed_at_each_point_are_started_again(service: Service) -> None:
    """With the parent that users run: also while a batch's failures are recorded."""
    consumer = service.manage("run_coupon_consumer", "--concurrency", "4")
    service.web(**LONG_TIMEOUTS)
    wait_until(lambda: consumer.output.count("consumer.assigned") >= 4, what="all are in the group")
    row = Row.begin(service, 16, name="workers")

    points = (CONSUMER_INSERTED, CONSUMER_COMMITTED, CONSUMER_SETTLED)
    with row.fault("four workers of a parent: SIGKILL, each at another point of a batch"):
        service.arm(CONSUMER_FAILURES_RECORDED, "kill")
        for number in range(12):
            service.produce(b"no message of ours %d" % number, key=str(number))
        killed = {service.wait_for(CONSUMER_FAILURES_RECORDED)}
        for point in points:
            service.arm(point, "kill")
        killed |= {service.wait_for(point) for point in points}
        wait_until(lambda: consumer.output.count("exit=-9") == 4, what="the parent notices")
    row.wait_for_promises(users=30)

    assert len(killed) == 4
    assert consumer.pid not in killed
    assert_history_holds(row.crowd, campaigns=[row.campaign])
    assert FailEventHistory.objects.count() == 12, "one for each foreign message, whoever died over it"
    assert consumer.output.count("exit=-9") == 4
    assert_admission_went_on(row.crowd)
    assert consumer.stop() == 0
    row.write()


def test_a_killed_parent_leaves_no_worker_behind(service: Service) -> None:
    parent = service.manage("run_coupon_consumer", "--concurrency", "2", "--max-rate", "60", "--batch-size", "10")
    service.web(**LONG_TIMEOUTS)
    row = Row.begin(service, 16, name="parent", users=100)
    wait_until(lambda: 20 < issued(row.campaign) < row.crowd.promised, what="some coupons, and some to do")

    with row.fault("the parent of two workers: SIGKILL"):
        parent.kill()
        wait_until(lambda: not workers_left(service), within_sec=20, what=lambda: f"{workers_left(service)} end")
        done = issued(row.campaign)
        row.crowd.wait_for_promises("without a consumer", users=30)
        assert issued(row.campaign) == done < row.crowd.promised
        service.consumer()
    row.wait_for_promises(users=30)

    assert "parent_gone" in parent.output
    row.holds()
    assert_admission_went_on(row.crowd)
    row.write()


def workers_left(service: Service) -> set[int]:
    return {pid for pid, command in service.left_over().items() if "run_coupon_consumer" in command}
