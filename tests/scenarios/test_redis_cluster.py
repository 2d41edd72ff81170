"""REDIS_URL leads to a Redis Cluster: nothing starts with it, and what runs already says so."""

from collections.abc import Iterator

import pytest

from coupons.admission.scripts import IS_CLUSTER
from harness import free_port
from tests.support.process import ROOT
from tests.support.redis_cluster import ClusterNode
from tests.support.service import Service
from tests.support.waiting import wait_until

WEB = [str(ROOT / "bin" / "web")]


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterNode]:
    node = ClusterNode(tmp_path_factory.mktemp("cluster"))
    node.start()
    try:
        yield node
    finally:
        node.stop()


def test_nothing_starts_with_a_redis_cluster(service: Service, cluster: ClusterNode) -> None:
    at = {"REDIS_URL": cluster.url}
    started = [
        service.manage(*command, **at)
        for command in (["run_keeper"], ["run_coupon_consumer"], ["rebuild_admission"], ["reconcile_campaigns"])
    ]
    web = service.start("web", WEB, **at, WEB_PORT=str(free_port()))
    check = service.manage("check", "--deploy", "--tag", "coupons", **at)

    for process in started:
        assert process.wait(within_sec=60) == 1, process.output
        assert process.output == f"CommandError: {IS_CLUSTER}\n"
    assert web.wait(within_sec=60) == 1
    assert web.output == f"bin/web: {IS_CLUSTER}\n"
    assert check.wait(within_sec=60) == 1
    assert "coupons.E022" in check.output
    assert service.manage("create_topic", **at).wait(within_sec=60) == 0, "it needs no Redis"


def test_a_cluster_that_comes_up_later_is_named(service: Service, cluster: ClusterNode) -> None:
    """Redis is down at the start, which refuses nothing."""
    cluster.stop()
    port = free_port()
    service.url = f"http://127.0.0.1:{port}"
    at = {"REDIS_URL": cluster.url}
    web = service.start("web", WEB, **at, WEB_PORT=str(port), COUPON_WEB_WORKERS="1")
    web.says("Started worker-1", within_sec=40)
    keeper = service.manage("run_keeper", "--interval-ms", "300", **at)
    keeper.says("keeper: one round")

    cluster.start()

    keeper.says(f"keeper.waiting step=redis error={IS_CLUSTER}")
    assert keeper.has_said("step=redis") == 1
    wait_until(lambda: service.get("/readyz").status == 503, what="readyz")
    assert b'"redis": "is a Redis Cluster"' in service.get("/readyz").data
