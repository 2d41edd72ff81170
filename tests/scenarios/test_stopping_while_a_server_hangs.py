"""SIGTERM while no server answers: every process of the service ends by itself, in bounded time, exit code 0."""

import signal
import time

from coupons.runtime.failpoints import CONSUMER_COMMITTED
from tests.support.promises import apply_all, assert_kept
from tests.support.service import Service

WITHIN_SEC = 30.0  # what orchestrators give by default before they kill


def test_each_process_ends_while_all_servers_hang(service: Service) -> None:
    web, consumer, keeper = service.everything()
    jobs = service.manage("run_jobs")
    jobs.says("jobs.started")
    campaign = service.campaign(100)
    promises = apply_all(campaign, range(10))

    for part in ("kafka", "redis", "postgres"):
        service.stack("pause", part)
    processes = {"web": web, "consumer": consumer, "keeper": keeper, "jobs": jobs}
    for process in processes.values():
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + WITHIN_SEC
    codes = {name: process.wait(within_sec=deadline - time.monotonic()) for name, process in processes.items()}

    assert set(codes.values()) == {0}, codes
    for part in ("postgres", "redis", "kafka"):
        service.stack("resume", part)
    service.consumer("--solo")
    assert_kept(campaign, promises)


def test_a_consumer_ends_while_the_broker_hangs_its_commit(service: Service) -> None:
    """It leaves its group when the commit has had its time, not librdkafka's minute."""
    consumer = service.consumer("--solo")
    service.web()
    campaign = service.campaign(100)
    service.arm(CONSUMER_COMMITTED, "stop")
    promises = apply_all(campaign, range(10))
    service.wait_for(CONSUMER_COMMITTED)

    service.stack("pause", "kafka")
    consumer.signal(signal.SIGTERM)
    service.resume(CONSUMER_COMMITTED)
    assert consumer.wait(within_sec=WITHIN_SEC) == 0

    service.stack("resume", "kafka")
    service.consumer("--solo")
    assert_kept(campaign, promises)
