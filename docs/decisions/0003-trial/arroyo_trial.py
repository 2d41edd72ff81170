"""sentry-arroyo: KAFKA=host:port python arroyo_trial.py TOPIC GROUP"""

import logging
import random
import signal
import sys
import time

from arroyo.backends.kafka import KafkaConsumer
from arroyo.commit import IMMEDIATE
from arroyo.processing import StreamProcessor
from arroyo.processing.strategies import CommitOffsets, ProcessingStrategyFactory, RunTask
from arroyo.processing.strategies.abstract import MessageRejected
from arroyo.processing.strategies.batching import BatchStep
from arroyo.types import Topic
from common import BATCH, CONFIG, MAX_RATE, RetryLater, handle


class Factory(ProcessingStrategyFactory):
    failures, not_before = 0, 0.0

    def create_with_partitions(self, commit, partitions):
        return BatchStep(BATCH, 0.2, RunTask(self.write, CommitOffsets(commit)))

    def write(self, message):
        if time.monotonic() < self.not_before:
            raise MessageRejected
        try:
            handle([(v.partition.index, v.offset, v.payload.value) for v in message.payload])
        except RetryLater as error:
            self.failures += 1
            self.not_before = time.monotonic() + random.uniform(0.5, 1.0) * min(0.2 * 2**self.failures, 5.0)
            raise MessageRejected from error
        self.failures = 0
        if MAX_RATE:
            self.not_before = time.monotonic() + len(message.payload) / MAX_RATE


def main(topic, group):
    config = {**CONFIG, "group.id": group, "enable.auto.commit": False, "enable.auto.offset.store": False}
    processor = StreamProcessor(KafkaConsumer(config), Topic(topic), Factory(), IMMEDIATE)
    signal.signal(signal.SIGTERM, lambda *_: processor.signal_shutdown())
    processor.run()


if __name__ == "__main__":
    logging.basicConfig(level="INFO", stream=sys.stderr)
    main(sys.argv[1], sys.argv[2])
