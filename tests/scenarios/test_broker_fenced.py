"""Row 13 as Kafka's controller may see it: the broker answers, but its heartbeats are lost, so metadata do not name it.

A client that asks for metadata then drops the last broker that it knew. librdkafka begins anew with bootstrap.servers,
almost always; told `metadata.recovery.strategy=none` it never does (docs/decisions/0006).
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from stack_parts.home import Home

from faults.visits import Habits
from tests.support.matrix import Row
from tests.support.service import Service

NEVER_ANEW = {"COUPON_KAFKA_CLIENT_CONFIG": "metadata.recovery.strategy=none"}


@pytest.mark.system
def test_processes_recover_after_losing_every_broker(service: Service) -> None:
    # A worker whose client has given up is followed by another.
    web, consumer, keeper = service.everything("--concurrency", "1", **NEVER_ANEW)
    row = Row.begin(service, 13, name="fenced", habits=Habits(users_per_sec=100), users=50)

    with (
        row.fault("kafka: its heartbeats lost until it is fenced, and clients drop their last broker"),
        heartbeats_lost(),
    ):
        web.says("producer.lost_brokers", within_sec=60)
        consumer.says("consumer.lost_brokers", within_sec=60)
    row.wait_for_promises(users=50)

    row.holds()
    assert "Traceback" not in web.output + consumer.output + keeper.output
    assert (web.stop(), consumer.stop(), keeper.stop()) == (0, 0, 0)
    row.write()


@contextmanager
def heartbeats_lost() -> Iterator[None]:
    """The packets to the controller's port, to which nobody else sends, are dropped."""
    port = Home.current().state().ports["kafka_controller"]
    rule = ["OUTPUT", "-p", "tcp", "-d", "127.0.0.1", "--dport", str(port), "-j", "DROP"]
    subprocess.run(["iptables", "-I", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run(["iptables", "-D", *rule], check=True)
