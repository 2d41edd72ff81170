"""Handlers by topic, the offsets that a batch stands for, and the consumer's settings."""

from uuid import uuid4

import pytest
from django.conf import LazySettings

from consumers.config import consumer_config
from consumers.offsets import spans
from consumers.registry import Handled, Received, handler_of, handles
from coupons.messaging.kafka import ClientStatistics


def done(messages: object) -> Handled:
    return Handled(done=0)


def test_a_decorated_function_is_the_topic_s_handler() -> None:
    topic = uuid4().hex
    handles(topic, group="g")(done)

    found = handler_of(topic)

    assert (found.topic, found.group, found.handle) == (topic, "g", done)


def test_the_decorator_gives_the_function_back() -> None:
    assert handles(uuid4().hex, group="g")(done) is done


def test_a_second_handler_of_a_topic_is_refused() -> None:
    topic = uuid4().hex
    handles(topic, group="g")(done)

    with pytest.raises(ValueError, match=f"topic {topic} already has the handler done"):
        handles(topic, group="other")(done)


def test_an_unknown_topic_s_error_names_those_that_there_are() -> None:
    with pytest.raises(LookupError, match=r"'nope'.*there are: .*coupon_create"):
        handler_of("nope")


def test_the_ticket_topic_has_its_handler() -> None:
    assert handler_of("coupon_create").group == "group_1"


def test_a_batch_spans_first_to_next_offset() -> None:
    batch = [Received("t", 0, 5, b""), Received("t", 1, 9, b""), Received("t", 0, 4, b"")]

    assert spans(batch) == {0: (4, 6), 1: (9, 10)}


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_new_group_starts_at_the_oldest_message(settings: LazySettings, protocol: str) -> None:
    settings.CONSUMER_GROUP_PROTOCOL = protocol

    config = consumer_config("g", ClientStatistics().read)

    assert config["enable.auto.commit"] is False
    assert config["enable.auto.offset.store"] is False
    assert config["auto.offset.reset"] == "earliest"


def test_the_classic_protocol_rebalances_cooperatively(settings: LazySettings) -> None:
    settings.CONSUMER_GROUP_PROTOCOL = "classic"

    assert consumer_config("g", ClientStatistics().read)["partition.assignment.strategy"] == "cooperative-sticky"


def test_what_the_client_settings_say_goes_to_every_client(settings: LazySettings) -> None:
    settings.KAFKA_CLIENT_CONFIG = {"security.protocol": "SASL_SSL"}

    assert consumer_config("g", ClientStatistics().read)["security.protocol"] == "SASL_SSL"
