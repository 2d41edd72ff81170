"""A Kafka that makes a topic for whoever asks for it: every part asks, and none makes one with settings of its own."""

from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient

from harness import free_port
from tests.support.kafka_that_makes_topics import KafkaThatMakesTopics
from tests.support.process import ROOT
from tests.support.service import Service
from tests.support.waiting import wait_until

WEB = [str(ROOT / "bin" / "web")]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaThatMakesTopics]:
    server = KafkaThatMakesTopics(tmp_path_factory.mktemp("kafka"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def test_every_part_asks_for_a_topic_and_none_makes_it(service: Service, kafka: KafkaThatMakesTopics) -> None:
    at = {"KAFKA_BOOTSTRAP_SERVERS": kafka.address, "COUPON_TOPIC": "coupon_craete"}
    campaign = service.campaign(10)
    port = free_port()
    service.url = f"http://127.0.0.1:{port}"
    web = service.start("web", WEB, **at, WEB_PORT=str(port), COUPON_WEB_WORKERS="1")
    web.says("web.no_topic topic=coupon_craete", within_sec=40)
    web.says("Started worker-1")

    assert b"topic is missing" in service.get("/readyz").data
    assert service.get("/metrics").status == 200
    assert service.apply(campaign, "a").status == 503
    assert service.manage("run_coupon_consumer", "--solo", **at).wait(within_sec=60) == 1
    for command in (["check", "--deploy"], ["reconcile_campaigns"], ["run_keeper", "--once"], ["rebuild_admission"]):
        service.manage(*command, **at).wait(within_sec=60)
        assert kafka.topics() == set(), command
    assert service.manage("relay_pending_coupons", **at).wait(within_sec=60) == 2
    assert kafka.topics() == set()

    assert service.manage("create_topic", **at).wait(within_sec=60) == 0
    assert kafka.topics() == {"coupon_craete"}
    wait_until(lambda: service.apply(campaign, "a").status == 200, within_sec=40, what="the same web process promises")


def test_a_topic_made_by_asking_is_repaired(service: Service, kafka: KafkaThatMakesTopics) -> None:
    at = {"KAFKA_BOOTSTRAP_SERVERS": kafka.address, "COUPON_TOPIC": "made_by_asking", "COUPON_TOPIC_PARTITIONS": "24"}
    AdminClient({"bootstrap.servers": kafka.address}).list_topics("made_by_asking", timeout=10)
    wait_until(lambda: "made_by_asking" in kafka.topics(), what="a foreign client has made the topic")
    before = service.manage("check", "--deploy", "--tag", "coupons", **at)

    assert before.wait(within_sec=60) == 1
    assert "partitions is 1, should be 24" in before.output
    assert service.manage("create_topic", **at).wait(within_sec=60) == 0
    after = service.manage("check", "--deploy", "--tag", "coupons", **at)
    assert after.wait(within_sec=60) == 0
    assert "made_by_asking" not in after.output
