"""What is asked to end finishes what it has in hand; nothing is left behind."""

import os
import signal
import socket

from coupons.runtime.failpoints import CONSUMER_INSERTED
from tests.support.promises import apply_all, assert_kept, issued
from tests.support.service import PYTHON, Service
from tests.support.tickets import issued_users
from tests.support.topic import committed_users
from tests.support.waiting import wait_until


def test_a_consumer_that_is_asked_to_end_finishes_and_commits(service: Service) -> None:
    campaign = service.campaign(500)
    promises = apply_all(campaign, range(200))
    # 20 at once and 20 a second: nine seconds for all of them, of which the test needs the first.
    consumer = service.consumer("--concurrency", "2", "--max-rate", "20", "--batch-size", "10")
    wait_until(lambda: issued(campaign) > 20, what="it works")

    consumer.signal(signal.SIGTERM)

    assert consumer.wait() == 0
    assert "Traceback" not in consumer.output
    assert not service.left_over()
    done = issued_users(campaign)
    assert 20 < len(done) < 200
    assert committed_users() <= set(done), "nothing is committed but what is written"
    if "offset_not_committed" not in consumer.output:  # one leaves while the other's commit is on its way
        assert committed_users() == set(done), "and all of that"
    service.consumer("--solo")
    assert_kept(campaign, promises)


def test_a_second_signal_ends_a_consumer_at_once(service: Service) -> None:
    """A worker stands still in the middle of a batch, so the first one has to wait for it."""
    campaign = service.campaign(100)
    service.arm(CONSUMER_INSERTED, "stop")
    consumer = service.consumer()
    promises = apply_all(campaign, range(20))
    service.wait_for(CONSUMER_INSERTED)

    consumer.signal(signal.SIGTERM)
    consumer.says("supervisor.stopping signal=SIGTERM")
    consumer.signal(signal.SIGTERM)

    consumer.wait()
    assert "supervisor.stopping signal=SIGKILL" in consumer.output
    wait_until(lambda: not service.left_over())
    service.consumer()
    assert_kept(campaign, promises)


def test_ctrl_c_of_make_run_leaves_no_process(service: Service) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run = service.start("run", [PYTHON, "bin/run"], WEB_PORT=str(port))
    for text in ("consumer.assigned", "keeper: one round", "jobs.started", "Started worker-2"):
        run.says(text)
    assert {"web", "consumer", "keeper", "jobs"} <= {
        line.split("|")[0].split()[-1] for line in run.output.splitlines() if "|" in line
    }

    os.killpg(run.pid, signal.SIGINT)  # a terminal's Ctrl-C reaches the whole group

    assert run.wait() == 0, run.output
    wait_until(lambda: not service.left_over(), what="everything has ended")
    assert "Traceback" not in run.output
