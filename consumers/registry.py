"""Maps topics to their handlers: a new topic needs one function with the decorator `handles`.

A handler gets a batch that keeps the order within each partition. When it returns, everything must be durable: the
worker commits the offsets of the batch. It must be idempotent, and it records a single bad message by itself. It raises

- `RetryLater`, or one of `DATABASE_DOWN`: a part is down. The worker passes the same batch again later.
- `MessagesSkipped`: the batch begins beyond the handler's own record of what was read. The worker rewinds.
- anything else: a defect. The worker process ends without committing, and is started again.

A handler with such a record also has a function `start_at`: it gets the group's committed offset of each assigned
partition (None: there is none), and returns the partitions that must start at another offset.

The worker calls a handler's function `beat`, if it has one, in each step. It may tell others that the worker goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from coupons.messaging.kafka import Headers


class Received(NamedTuple):
    """One message as the topic delivered it."""

    topic: str
    partition: int
    offset: int
    payload: bytes
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Handled:
    """The result of a batch, in messages. `failed` leaves out failures that an earlier delivery recorded."""

    done: int
    duplicates: int = 0
    failed: int = 0


HandlerFunction = Callable[[Sequence[Received]], Handled]
StartAt = Callable[[Mapping[int, int | None]], Mapping[int, int]]  # partition -> offset


@dataclass(frozen=True, slots=True)
class Handler:
    topic: str
    group: str
    handle: HandlerFunction
    start_at: StartAt | None = None
    beat: Callable[[], object] = lambda: None


_handlers: dict[str, Handler] = {}


def handles(
    topic: str, *, group: str, start_at: StartAt | None = None, beat: Callable[[], object] = lambda: None
) -> Callable[[HandlerFunction], HandlerFunction]:
    """Registers the decorated function for a topic. Raises ValueError when the topic has a handler already."""

    def register(function: HandlerFunction) -> HandlerFunction:
        if topic in _handlers:
            raise ValueError(f"topic {topic} already has the handler {_handlers[topic].handle.__name__}")
        _handlers[topic] = Handler(topic, group, function, start_at, beat)
        return function

    return register


def handler_of(topic: str) -> Handler:
    """Raises LookupError, which names the topics that have a handler."""
    try:
        return _handlers[topic]
    except KeyError:
        known = ", ".join(sorted(_handlers)) or "none"
        raise LookupError(f"no handler is registered for topic {topic!r}; there are: {known}") from None
