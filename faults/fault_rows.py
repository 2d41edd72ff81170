"""The rows of the fault matrix: each fault that the service must survive, and the expected outcome.

A row without a result in docs/faults.md has not been run.
"""

from typing import Final

ROWS: Final = {
    1: (
        "web process killed between Redis and Kafka",
        "the user got no answer; the relay publishes the ticket; the coupon is issued",
    ),
    2: ("web process killed with messages in the producer's queue", "as 1"),
    3: ("web server stopped under load", "open requests are answered, the producer is flushed, exit code 0"),
    4: ("producer made before a fork", "a child never uses its parent's producer"),
    5: ("Redis killed", "503 until the rebuild, then the same tickets; every promise becomes a coupon"),
    6: ("Redis empty, older, or missing a key", "503; rebuilt from PostgreSQL and the topic under traffic"),
    7: ("Redis hangs", "503; the repeat gets the same sequence"),
    8: ("Redis's answer is lost", "as 7; the script takes effect once"),
    9: ("Redis forgets the scripts", "users notice nothing"),
    10: ("failover to a replica that lags", "as 5; a returning old primary promises nothing"),
    11: ("Redis out of memory, pool exhausted", "503; no half-written ticket"),
    12: ("Kafka down", "503 at once, tickets are kept; repeats get 200 and all coupons are issued"),
    13: ("Kafka hangs", "as 12; messages that arrived after all are issued once"),
    14: ("the broker loses its log", "the relay publishes all pending tickets again; consumers start over"),
    15: ("topic missing, message too large", "a clear error, no ticket lost"),
    16: ("consumer killed around its commits", "redelivered, no duplicate"),
    17: ("rebalance storm", "no ticket lost, duplicates absorbed"),
    18: ("consumer stopped longer than its group allows", "it joins again; a stale commit does no harm"),
    19: ("PostgreSQL crashes in the middle of a batch", "the offset is not committed; no failed event"),
    20: ("database connections terminated", "retried; no failed event"),
    21: ("PostgreSQL hangs, a table is locked", "the wait times out; the consumer stays in its group"),
    22: ("PostgreSQL read-only or full", "as 19; admission continues"),
    23: ("poison messages", "each becomes a failed event; a flood stops the consumer"),
    24: ("the failed event cannot be written either", "the offset is not committed"),
    25: ("two concurrent retries, or one killed", "no double issue, no event stuck in PROCESSING"),
    26: ("a link is slow, silent or cut", "as 7, 13 and 21"),
    27: ("the clock of a web host jumps", "admission follows Redis's clock"),
    28: ("messages duplicated, replayed, reordered", "each ticket is issued once"),
    29: ("the group's offsets moved past unread messages, then Redis lost", "every promise becomes a coupon"),
    30: (
        "a partition's log lost while no consumer runs, Redis lost later",
        "detected at once, pending tickets published again",
    ),
    31: ("two messages of a ticket that PostgreSQL refuses, retried", "never SUCCESS without a coupon"),
    32: (
        "a lower quantity that PostgreSQL does not commit",
        "no final `sold-out` before all coupons are taken",
    ),
    33: ("Redis's wall clock steps back", "as 32; no hold starts again"),
    34: ("a paused rebuild resumes after another one", "its writes are refused by epoch and token"),
    35: ("a virtual machine is paused with its monotonic clock", "no promise without a ticket in the gate"),
    36: (
        "a web or keeper host's wall clock jumps by an hour, both ways",
        "as 27, and no outage longer than a time-out",
    ),
    37: (
        "message key or Django secret changed with unread messages in the topic, also with Redis lost",
        "they are read, or the start is refused with the key's id until it is named; no ledger closes without them",
    ),
    38: ("id sequences behind their tables", "healed; no ticket refused, no failed event lost"),
    39: (
        "planned Redis failover, the old primary stays up",
        "every process leaves it by itself; admitted again within 10 s",
    ),
    40: ("idle connections are dropped without a word", "the first users after the silence are served"),
    41: ("messages of given-up, refused or recorded tickets delivered again", "the outcome stays, counted once"),
}
