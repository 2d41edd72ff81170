"""Own loop on confluent-kafka: KAFKA=host:port python own_loop.py TOPIC GROUP"""

import os
import random
import signal
import sys
import time

from common import BATCH, CONFIG, MAX_RATE, RetryLater, handle
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

REDELIVERED = {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.STALE_MEMBER_EPOCH, KafkaError.ILLEGAL_GENERATION}
signals = 0
held = []  # the batch that waits for the database
paused = False


def on_signal(*_):
    global signals
    signals += 1
    if signals > 1:
        os._exit(1)


def on_assign(consumer, partitions):
    consumer.incremental_assign(partitions)  # first: a pause before it is forgotten without an error
    if paused:
        consumer.pause(partitions)


def on_revoke(_consumer, partitions):
    held[:] = [m for m in held if m.partition() not in {p.partition for p in partitions}]


def commit(consumer, batch):
    ends = {m.partition(): m.offset() + 1 for m in batch}
    try:
        consumer.commit(offsets=[TopicPartition(batch[0].topic(), p, o) for p, o in ends.items()], asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() not in REDELIVERED:
            raise


def main(topic, group):
    global paused
    consumer = Consumer({**CONFIG, "group.id": group, "enable.auto.commit": False})
    consumer.subscribe([topic], on_assign=on_assign, on_revoke=on_revoke)
    failures, not_before = 0, 0.0
    while not signals:
        wait = not_before - time.monotonic()
        if wait > 0 and not paused:
            consumer.pause(consumer.assignment())
            paused = True
        elif wait <= 0 and paused and not held:
            consumer.resume(consumer.assignment())
            paused = False
        fresh = consumer.consume(BATCH, timeout=min(max(wait, 0.0), 0.5) if paused else 0.2)
        for message in fresh:
            if message.error() and message.error().code() == KafkaError._FATAL:  # its fatal() says False
                raise KafkaException(message.error())
        held.extend(m for m in fresh if not m.error())
        if not held or time.monotonic() < not_before:
            continue
        try:
            handle([(m.partition(), m.offset(), m.value()) for m in held])
        except RetryLater:
            failures += 1
            not_before = time.monotonic() + random.uniform(0.5, 1.0) * min(0.2 * 2**failures, 5.0)
        else:
            commit(consumer, held)
            failures, not_before = 0, time.monotonic() + len(held) / MAX_RATE if MAX_RATE else 0.0
            held.clear()
    consumer.close()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, on_signal)
    main(*sys.argv[1:3])
