"""The topic of a test: made for it, or the one that the test before has left as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from confluent_kafka import KafkaException
from django.conf import LazySettings

from coupons.errors import LogUnavailable
from coupons.messaging import topics
from coupons.messaging.producer import publisher
from tests.support.waiting import wait_until

PARTITIONS = 4
_left_as_it_was: list[str] = []


def take_topic(settings: LazySettings) -> None:
    """An empty topic that has its leaders, and a group that nobody knows."""
    name = uuid4().hex[:12]
    settings.CONSUMER_GROUP = f"group_{name}"
    settings.TOPIC_PARTITIONS = PARTITIONS
    if _left_as_it_was:
        settings.TOPIC = _left_as_it_was.pop()
        return
    settings.TOPIC = f"coupon_create_{name}"
    wait_until(lambda: topics.create_topic() or topics.partition_count(), what="the test's topic")
    wait_until(topics.partition_lags, what="leaders of the topic's partitions")


def keep_topic(settings: LazySettings, topic: str) -> bool:
    """For the next test, if it is as `take_topic` made it. Nobody else's processes may know it."""
    settings.TOPIC = topic
    try:
        lags = topics.partition_lags()
        is_kept = (
            publisher().flush(0) == 0
            and len(lags) == PARTITIONS
            and not any(lag.end for lag in lags.values())
            and not topics.settings_that_differ()
        )
    except LogUnavailable:
        return False
    if is_kept:
        _left_as_it_was.append(topic)
    return is_kept


@contextmanager
def on_another_cluster() -> Iterator[None]:
    """What was kept stays with its cluster; what is kept meanwhile ends with the other one."""
    kept = _left_as_it_was.copy()
    _left_as_it_was.clear()
    yield
    _left_as_it_was[:] = kept


def delete_topic(topic: str) -> None:
    """A broker with the topics of a thousand tests would take a minute to start again after a kill."""
    wait_until(lambda: _is_deleted(topic), within_sec=60, what=f"topic {topic} is deleted")


def delete_kept_topic() -> None:
    for topic in _left_as_it_was:
        delete_topic(topic)


def _is_deleted(topic: str) -> bool:
    """A client that was made while its broker was fenced, as after a pause, may wait for a controller in vain."""
    client = topics.administrator()
    error = client.delete_topics([topic], request_timeout=5)[topic].exception(20)
    if isinstance(error, KafkaException) and error.args[0].code() < 0:  # nobody has answered
        topics.administrator.reset()
        return False
    return True  # or it was deleted by the test
