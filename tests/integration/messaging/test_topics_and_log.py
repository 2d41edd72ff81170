"""The topic as an administrator sees it, and a stretch of it read by nobody's group."""

import json
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, Producer, TopicPartition
from django.conf import LazySettings

from coupons.errors import LogUnavailable
from coupons.messaging import topics
from coupons.messaging.kafka import client_config
from coupons.messaging.log import read_log
from coupons.messaging.positions import Position
from coupons.messaging.producer import publisher, publishers
from coupons.models import Campaign
from tests.support.group import committed
from tests.support.service import Service, message
from tests.support.tickets import publish, ticket, were_read
from tests.support.waiting import wait_until


@pytest.fixture
def one_partition(service: Service, settings: LazySettings) -> Service:
    settings.TOPIC = f"coupon_create_{uuid4().hex[:12]}"
    settings.TOPIC_PARTITIONS = 1
    topics.create_topic()
    wait_until(lambda: topics.partition_count() == 1, what="the topic")
    return service


def test_a_topic_is_made_once(one_partition: Service) -> None:
    assert not topics.create_topic()


def test_a_topic_is_made_with_the_required_settings(one_partition: Service) -> None:
    assert topics.settings_that_differ() == {}


def test_settings_that_differ_are_told_with_what_they_should_be(one_partition: Service, settings: LazySettings) -> None:
    settings.TOPIC_RETENTION_MS = 3_600_000
    settings.TOPIC_MIN_INSYNC_REPLICAS = 2

    assert topics.settings_that_differ() == {
        "retention.ms": (str(30 * 24 * 3600 * 1000), "3600000"),
        "min.insync.replicas": ("1", "2"),
    }


def test_a_topic_that_does_not_exist_has_no_partitions(service: Service, settings: LazySettings) -> None:
    settings.TOPIC = "coupon_create_not_there"

    assert topics.partition_count() is None


def test_offsets_of_a_missing_topic_name_the_command(service: Service, settings: LazySettings) -> None:
    settings.TOPIC = "coupon_create_not_there"

    with pytest.raises(LogUnavailable, match=r"Kafka has no topic coupon_create_not_there; `manage.py create_topic`"):
        topics.partition_lags()


def test_a_topic_deleted_meanwhile_names_the_command_too(
    service: Service, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper tells the first error of its kind alone, so that one must name the command, too."""
    settings.TOPIC = "coupon_create_not_there"
    counts = iter([4, None])
    with monkeypatch.context() as patched:
        patched.setattr(topics, "partition_count", lambda: next(counts))
        with pytest.raises(
            LogUnavailable, match=r"Kafka has no topic coupon_create_not_there; `manage.py create_topic`"
        ):
            topics.partition_lags()


def test_a_topic_refused_by_kafka_shows_its_words(service: Service, settings: LazySettings) -> None:
    settings.TOPIC = f"{settings.TOPIC}_three"
    settings.TOPIC_REPLICATION = 3

    with pytest.raises(LogUnavailable, match=r"create topic .*[Rr]eplication"):
        topics.create_topic()


def test_the_lag_is_what_was_not_read(one_partition: Service) -> None:
    one_partition.produce(*[b"x"] * 5)
    before = topics.partition_lags()[0]
    were_read(Position(0, 2))
    after = topics.partition_lags()[0]

    assert (before.read, before.next_offset, before.lag) == (None, 0, 5)
    assert (after.read, after.next_offset, after.lag) == (3, 3, 2)


@pytest.mark.parametrize(("read", "lag"), [(4, 2), (10, 2), (11, 1), (12, 0), (13, 2)])
def test_reading_stays_within_a_shortened_log(read: int, lag: int) -> None:
    found = topics.PartitionLag(start=10, end=12, read=read)

    assert (found.next_offset, found.lag) == (12 - lag, lag)


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(days=400), timedelta(days=-400)])
def test_a_message_with_a_wrong_timestamp_is_kept(
    one_partition: Service, settings: LazySettings, ahead: timedelta
) -> None:
    """By the producer's time Kafka would refuse what is an hour ahead, and soon remove what is older than retention."""
    before = time.time()
    refusals: list[object] = []
    producer = Producer(client_config())
    producer.produce(
        settings.TOPIC,
        b"x",
        timestamp=int((before + ahead.total_seconds()) * 1000),
        on_delivery=lambda error, message: refusals.append(error),
    )

    assert producer.flush(10) == 0
    assert refusals == [None]
    consumer = Consumer(client_config(**{"group.id": "test-reader", "auto.offset.reset": "earliest"}))
    consumer.assign([TopicPartition(settings.TOPIC, 0, 0)])
    message = wait_until(lambda: consumer.poll(0.1), what="the message")
    consumer.close()
    kind, at_ms = message.timestamp()
    assert kind == TIMESTAMP_LOG_APPEND_TIME
    assert before - 1 <= at_ms / 1000 <= time.time() + 1


def test_the_reader_reads_exactly_the_stretch(one_partition: Service) -> None:
    one_partition.produce(*[str(number).encode() for number in range(20)])

    found = list(read_log({0: (5, 12)}))

    assert [each.payload for each in found] == [str(number).encode() for number in range(5, 12)]
    assert [each.position for each in found] == [Position(0, number) for number in range(5, 12)]


def test_the_reader_reads_the_stretches_of_several_partitions(service: Service) -> None:
    campaign = service.campaign(opened=False)
    positions = [publish(campaign, f"user-{number}", number + 1) for number in range(40)]
    ends = {partition: lag.end for partition, lag in topics.partition_lags().items()}

    found = list(read_log({partition: (0, end) for partition, end in ends.items()}))

    assert sorted(each.position for each in found) == sorted(positions)


def test_an_empty_stretch_is_nothing_and_asks_nobody() -> None:
    assert list(read_log({0: (3, 3), 1: (5, 2)})) == []


def test_a_stretch_beyond_the_end_ends_at_the_end(one_partition: Service) -> None:
    one_partition.produce(b"x", b"y")

    assert len(list(read_log({0: (0, 100)}))) == 2


def test_the_reader_moves_no_group_s_offsets(one_partition: Service) -> None:
    one_partition.produce(b"x")
    list(read_log({0: (0, 1)}))

    assert committed() == {0: 0}


def test_waiting_messages_lie_together_and_all_partitions_get_their_turn(service: Service) -> None:
    campaign = service.campaign(opened=False)
    wait_until(lambda: _stay_together(campaign), what="the partitions are known")

    seen = set[int]()

    def all_seen() -> bool:
        seen.add(publish(campaign, "a", 1).partition)
        return len(seen) == 4

    wait_until(all_seen, what=lambda: f"only {seen}")


def _stay_together(campaign: Campaign) -> bool:
    """Whether users of whom each has another key are published to one partition."""
    deliveries = [publisher().publish(ticket(campaign, f"u{number}", number + 1)) for number in range(20)]
    positions = [delivery.result(10) for delivery in deliveries]
    return len({position.partition for position in positions if position}) == 1


def test_a_topic_made_anew_with_fewer_partitions_is_published_to(service: Service, settings: LazySettings) -> None:
    campaign = service.campaign(opened=False)
    wait_until(lambda: _stay_together(campaign), what="the partitions are known")
    topics.administrator().delete_topics([settings.TOPIC])[settings.TOPIC].result(20)
    settings.TOPIC_PARTITIONS = 1
    wait_until(topics.create_topic, what="the topic is made anew")

    def published() -> bool:
        try:
            publisher().publish(ticket(campaign, "b", 1)).result(settings.DELIVERY_TIMEOUT_MS / 1000 + 3)
        except LogUnavailable:
            return False
        return True

    wait_until(lambda: all(published() for _ in range(5)), within_sec=40, what="five messages in a row are taken")


def test_a_message_refused_by_kafka_fails_its_future(service: Service, settings: LazySettings) -> None:
    settings.TOPIC = "coupon_create_not_there"
    delivered = publisher().publish(ticket(service.campaign(opened=False), "a", 1))

    with pytest.raises(LogUnavailable):
        delivered.result(settings.DELIVERY_TIMEOUT_MS / 1000 + 3)


def test_closing_the_publisher_flushes_what_is_queued(service: Service) -> None:
    campaign = service.campaign(opened=False)
    deliveries = [publisher().publish(ticket(campaign, f"u{number}", number + 1)) for number in range(500)]
    publishers.reset()

    assert all(delivery.result(0) is not None for delivery in deliveries)


def test_a_publisher_is_ready_again_after_it_was_closed(service: Service) -> None:
    publishers.reset()

    assert publisher().wait_until_ready(20)


def test_test_messages_have_the_fields_of_real_ones(service: Service) -> None:
    campaign = service.campaign(opened=False)
    position = publish(campaign, "a", 1)
    [logged] = read_log({position.partition: (position.offset, position.offset + 1)})

    assert set(json.loads(logged.payload)) == set(json.loads(message(campaign.pk, "a", 1)))
