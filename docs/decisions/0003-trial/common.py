"""What the four trial programs share: a sink that stands for the database, and its switch."""

import json
import os
import sqlite3
import sys
import time
from pathlib import Path

BATCH = 500
DOWN = Path(os.environ.get("DOWN", "/nonexistent"))  # while this file exists, the database is down
SINK = os.environ.get("SINK")  # a SQLite file; without it rows are only counted
MAX_RATE = float(os.environ.get("MAX_RATE", "0"))  # rows per second
CONFIG = {
    "bootstrap.servers": os.environ["KAFKA"],
    "group.protocol": os.environ.get("PROTOCOL", "consumer"),
    "auto.offset.reset": "earliest",
    "max.poll.interval.ms": int(os.environ.get("MAX_POLL_MS", "10000")),
    **({"group.instance.id": os.environ["INSTANCE"]} if "INSTANCE" in os.environ else {}),
    **(
        {"session.timeout.ms": 6000, "partition.assignment.strategy": "cooperative-sticky"}
        if os.environ.get("PROTOCOL") == "classic"
        else {}
    ),
}


class RetryLater(Exception):
    """The database is down: no commit, pause, back off."""


counted, skipped, first = 0, 0, 0.0


def handle(batch):
    """Writes a batch of (partition, offset, value) in one transaction; a poison message goes to its own table."""
    global counted, skipped, first
    if DOWN.exists():
        raise RetryLater("database is down")
    good, bad = [], []
    for partition, offset, value in batch:
        try:
            good.append((os.getpid(), partition, offset, json.loads(value)["sequence"], time.time()))
        except ValueError as error:
            bad.append((partition, offset, str(error)))
    if SINK:
        db = sqlite3.connect(SINK, timeout=10)
        with db:
            db.executemany("INSERT INTO coupon VALUES (?, ?, ?, ?, ?)", good)
            db.executemany("INSERT INTO failure VALUES (?, ?, ?)", bad)
        db.close()
        return
    counted += len(batch)
    if not first:  # the clock starts when the first batch is done
        first, skipped = time.perf_counter(), counted
    if counted >= int(os.environ.get("COUNT", "0")):
        print(f"RATE {(counted - skipped) / (time.perf_counter() - first):.0f}", file=sys.stderr, flush=True)
