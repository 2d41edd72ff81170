"""Reads a range of the topic without joining a consumer group."""

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from django.conf import settings

from coupons.errors import LogUnavailable
from coupons.messaging.kafka import Headers, client_config, describe_error, headers_of
from coupons.messaging.positions import Position

CHUNK = 1_000
POLL_SEC = 0.05  # how long the last messages of a range wait for more


class LoggedMessage(NamedTuple):
    position: Position
    payload: bytes
    headers: Headers = ()


def read_log(ranges: Mapping[int, tuple[int, int]]) -> Iterator[LoggedMessage]:
    """Yields every message of the given ranges: partition -> (first offset, offset after the last).

    Raises LogUnavailable when the broker stays silent for TOPIC_SILENCE_MS, so a caller notices a range read in part.
    """
    left = {partition: end for partition, (start, end) in ranges.items() if start < end}
    if not left:
        return
    consumer = Consumer(
        client_config(
            **{
                "group.id": "coupons-log-reader",  # librdkafka requires one; this client never subscribes or commits
                "enable.auto.commit": False,
                "enable.partition.eof": True,  # a partition may end with a gap, which no message shows
                "auto.offset.reset": "earliest",  # go on after messages that retention has removed
                # Memory: by default librdkafka prefetches 100,000 messages of each partition, 1 MiB at a time, and its
                # objects for short messages take many times their size.
                "queued.min.messages": 2_000,
                "queued.max.messages.kbytes": 4 * 1024,
                "fetch.message.max.bytes": 128 * 1024,
                # By default a partition with a full queue pauses for a second; its queue empties in milliseconds.
                "fetch.queue.backoff.ms": 1,
            }
        )
    )
    try:
        consumer.assign([TopicPartition(settings.TOPIC, number, ranges[number][0]) for number in left])
        yield from _read_until(consumer, left)
    except KafkaException as error:
        raise LogUnavailable(f"Kafka, reading topic {settings.TOPIC}: {describe_error(error.args[0])}") from error
    finally:
        consumer.close()


def _read_until(consumer: Consumer, left: dict[int, int]) -> Iterator[LoggedMessage]:
    last_message_at = time.monotonic()
    while left:
        messages = consumer.consume(CHUNK, POLL_SEC)
        if messages:
            last_message_at = time.monotonic()
        elif (silent_sec := time.monotonic() - last_message_at) > settings.TOPIC_SILENCE_MS / 1000:
            raise LogUnavailable(f"Kafka was silent for {silent_sec:.0f} s while topic {settings.TOPIC} was read")
        for message in messages:
            partition, offset, error = message.partition(), message.offset(), message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            if partition not in left or offset is None:
                continue
            if error is None and offset < left[partition]:
                yield LoggedMessage(Position(partition, offset), message.value() or b"", headers_of(message))
            if error is not None or offset + 1 >= left[partition]:
                del left[partition]
