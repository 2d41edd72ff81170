"""Reads a stretch of the topic without being a member of any group."""

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from django.conf import settings

from coupons.errors import LogUnavailable
from coupons.messaging.kafka import Headers, client_config, describe_error, headers_of
from coupons.messaging.positions import Position

CHUNK = 1_000
POLL_SEC = 0.05  # the last messages of a stretch wait so long for more


class LoggedMessage(NamedTuple):
    position: Position
    payload: bytes
    headers: Headers = ()


def read_log(ranges: Mapping[int, tuple[int, int]]) -> Iterator[LoggedMessage]:
    """Every message of the given partitions from an offset up to, and without, another: partition -> (from, to).

    Raises as `read_batches` does.
    """
    for batch in read_batches(ranges):
        for message in batch:
            position = Position(message.partition() or 0, message.offset() or 0)
            yield LoggedMessage(position, message.value() or b"", headers_of(message))


def read_batches(ranges: Mapping[int, tuple[int, int]]) -> Iterator[list[Message]]:
    """The same as the client has them, as many at a time as there are.

    Raises LogUnavailable when the broker stays silent for `TOPIC_SILENCE_MS`, so a stretch is never read in part
    without the caller hearing of it.
    """
    left = {partition: end for partition, (start, end) in ranges.items() if start < end}
    if not left:
        return
    consumer = Consumer(
        client_config(
            **{
                "group.id": "coupons-log-reader",  # librdkafka wants one; it never subscribes and never commits
                "enable.auto.commit": False,
                "enable.partition.eof": True,  # the end of a partition may be a gap, and no message says so
                "auto.offset.reset": "earliest",  # what retention has removed cannot be read: go on after it
                # Memory: by default 100,000 messages of each partition are fetched ahead, a MiB of each at a time, and
                # as librdkafka's objects short messages take many times of that.
                "queued.min.messages": 2_000,
                "queued.max.messages.kbytes": 4 * 1024,
                "fetch.message.max.bytes": 128 * 1024,
                # A partition whose queue is that full rests for a second by default, and is read empty in milliseconds.
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


def _read_until(consumer: Consumer, left: dict[int, int]) -> Iterator[list[Message]]:
    last_message_at = time.monotonic()
    while left:
        messages = consumer.consume(CHUNK, POLL_SEC)
        if messages:
            last_message_at = time.monotonic()
        elif (silent_sec := time.monotonic() - last_message_at) > settings.TOPIC_SILENCE_MS / 1000:
            raise LogUnavailable(f"Kafka was silent for {silent_sec:.0f} s while topic {settings.TOPIC} was read")
        batch = []
        for message in messages:
            partition, offset, error = message.partition(), message.offset(), message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            if partition not in left or offset is None:
                continue
            if error is None and offset < left[partition]:
                batch.append(message)
            if error is not None or offset + 1 >= left[partition]:
                del left[partition]
        yield batch
