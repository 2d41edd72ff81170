"""FastStream on its confluent broker: KAFKA=host:port python faststream_trial.py TOPIC GROUP"""

import asyncio
import logging
import os
import sys

from common import BATCH, CONFIG, MAX_RATE, RetryLater, handle
from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker
from faststream.confluent.annotations import KafkaMessage

topic, group = sys.argv[1:3]
extra = {k: v for k, v in CONFIG.items() if k in ("group.protocol", "group.instance.id")}
if os.environ.get("UNSET"):  # values that the library always sends and KIP-848 refuses
    extra |= {"session.timeout.ms": None, "heartbeat.interval.ms": None, "partition.assignment.strategy": None}
broker = KafkaBroker(CONFIG["bootstrap.servers"], config=extra, allow_auto_create_topics=False)


@broker.subscriber(
    topic, group_id=group, batch=True, max_records=BATCH, polling_interval=0.2, ack_policy=AckPolicy.MANUAL,
    auto_offset_reset="earliest", max_poll_interval_ms=10000,
    session_timeout_ms=6000, partition_assignment_strategy="cooperative-sticky",
)  # fmt: skip
async def write(message: KafkaMessage) -> None:
    batch = [(m.partition(), m.offset(), m.value()) for m in message.raw_message]
    while True:
        try:
            await asyncio.to_thread(handle, batch)
            break
        except RetryLater:
            await asyncio.sleep(1)  # no pause and no poll in the meantime: the library offers neither
    await message.ack()
    if MAX_RATE:
        await asyncio.sleep(len(batch) / MAX_RATE)


if __name__ == "__main__":
    logging.basicConfig(level="INFO", stream=sys.stderr)
    asyncio.run(FastStream(broker).run())
