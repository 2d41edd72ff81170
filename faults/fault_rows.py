"""The fault matrix: each fault that the service must survive, in one line, and what holds afterwards.

A row without a result in docs/faults.md has not been run.
"""

from typing import Final

ROWS: Final = {
    1: ("web process killed between Redis and Kafka", "nobody was answered; the relay publishes; the coupon is issued"),
    2: ("web process killed with messages in the producer's queue", "as 1"),
    3: ("web server ended under load", "what is in hand is answered, the producer is flushed, exit code 0"),
    4: ("producer made before a fork", "a child never uses its parent's producer"),
    5: ("Redis killed", "503 until it is rebuilt, then the same tickets; every promise becomes a coupon"),
    6: ("Redis empty, older, or without one of its keys", "503; rebuilt from PostgreSQL and the topic under traffic"),
    7: ("Redis hangs", "503; the repeat gets the same sequence"),
    8: ("Redis's answer is lost", "as 7; the script ran once in effect"),
    9: ("Redis forgets the scripts", "nobody notices"),
    10: ("failover to a replica that lags", "as 5; an old primary that comes back promises nothing"),
    11: ("Redis out of memory, pool exhausted", "503; no half-written ticket"),
    12: ("Kafka down", "503 at once, places kept; the repeats get 200 and all is issued"),
    13: ("Kafka hangs", "as 12; what landed after all is issued once"),
    14: ("the broker loses its log", "the relay publishes again all that is pending; consumers start over"),
    15: ("topic missing, message too large", "a clear error, nothing lost"),
    16: ("consumer killed around its commits", "redelivered, no duplicate"),
    17: ("rebalance storm", "nothing lost, duplicates absorbed"),
    18: ("consumer stopped for longer than it may", "it joins again; a stale commit does no harm"),
    19: ("PostgreSQL crashes in the middle of a batch", "the offset stays; no failed event"),
    20: ("database connections ended", "tried again; no failed event"),
    21: ("PostgreSQL hangs, a table is locked", "the wait ends; the consumer stays in its group"),
    22: ("PostgreSQL read-only or full", "as 19; admission goes on"),
    23: ("poison messages", "each alone becomes a failed event; a flood stops the consumer"),
    24: ("the failed event cannot be written either", "the offset stays"),
    25: ("two retries at once, or one killed", "no double issue, nothing stuck in PROCESSING"),
    26: ("a link is slow, silent or cut", "as 7, 13 and 21"),
    27: ("the clock of a web host jumps", "Redis's time decides"),
    28: ("messages twice, replayed, in another order", "each ticket once"),
    29: ("the group's offsets moved past unread messages, then Redis lost", "every promise becomes a coupon"),
    30: (
        "a partition's log lost while nobody reads, Redis lost later",
        "noticed at once, what is pending published again",
    ),
    31: ("two messages of a ticket that PostgreSQL refuses, retried", "never SUCCESS without a coupon"),
    32: ("a lowering that PostgreSQL does not commit", "nobody is told `sold-out` for good before all are taken"),
    33: ("Redis's wall clock steps back", "as 32; no hold begins anew"),
    34: ("a rebuilder that stood still goes on after another one", "what it writes is refused by epoch and token"),
    35: ("a virtual machine is paused, its monotonic clock too", "nothing is promised that the gate does not hold"),
    36: (
        "a web or keeper host's wall clock jumps by an hour, both ways",
        "as 27, and no outage longer than a time-out",
    ),
    37: (
        "message key or Django secret changed with unread messages in the topic, also with Redis lost",
        "read, or refused at the start with the key's id until it is named; never a ledger that closes over them",
    ),
    38: ("id sequences behind their tables", "healed; no ticket refused, no failed event lost"),
    41: ("what was given up, refused or recorded is delivered again", "it stays so, and is counted once"),
}
