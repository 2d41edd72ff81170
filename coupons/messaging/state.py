"""What librdkafka's statistics say of a producer that does not deliver, in a line for the log.

"Message timed out" alone is the end of many causes: no broker, none that is the leader, a request without an answer, an
idempotent producer that waits for an id or for what it had sent before. The names are those of librdkafka's
STATISTICS.md.
"""

from collections.abc import Mapping
from typing import Any

from coupons.messaging.brokers import SERVERS


def state_of_producer(statistics: Mapping[str, Any], topic: str) -> str:
    """Of the producer, of each broker it knows by number, else of its bootstrap servers, and of the topic's partitions,
    each by its counters."""
    known = statistics.get("brokers", {}).values()
    numbered = [broker for broker in known if broker.get("nodeid", -1) >= 0]
    brokers = numbered or [broker for broker in known if broker.get("source") in SERVERS]
    partitions = statistics.get("topics", {}).get(topic, {}).get("partitions", {})
    return " ".join(
        [
            f"idemp_state={statistics.get('eos', {}).get('idemp_state', 'none')}",
            f"msg_cnt={statistics.get('msg_cnt', 0)}",
            *([f"broker={broker.get('name')}:{_words(broker, *_OF_BROKER)}" for broker in brokers] or ["broker=none"]),
            *(
                f"partition={number}:{_words(partition, *_OF_PARTITION)}"
                for number, partition in partitions.items()
                if int(number) >= 0
            ),
        ]
    )


_OF_BROKER = ("state", "outbuf_cnt", "waitresp_cnt", "tx", "txerrs", "txretries", "req_timeouts")
_OF_PARTITION = ("leader", "msgq_cnt", "xmit_msgq_cnt", "msgs_inflight", "next_ack_seq", "next_err_seq")


def _words(counters: Mapping[str, Any], *names: str) -> str:
    return ",".join(f"{name}={counters.get(name, '?')}" for name in names)
