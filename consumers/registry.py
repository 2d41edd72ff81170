"""Maps topics to their handlers. A new topic needs one decorated function; the worker does not change.

    @handles("coupon_create", group="group_1")
    def save_coupons(messages: Sequence[Received]) -> Handled: ...

A handler gets a batch that keeps the order within each partition. When it returns, the worker commits the offsets of
the batch, so everything must be durable by then. It raises

- `RetryLater`, or one of `DATABASE_DOWN`: a part is down. The worker pauses its partitions, keeps polling, and passes
  the same batch again later. So the handler must be idempotent.
- anything else: a defect. The worker process ends without committing, and is started again.

The handler deals with a single bad message by itself: it records the message and counts it as `failed`.

A handler that keeps its own record of the offsets read registers a function as `start_at`. The function gets the
group's committed offset of each assigned partition (None: there is none), and returns the partitions that must start at
another offset. Such a handler raises `MessagesSkipped` for a batch that begins beyond its record, and the worker
rewinds.
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


_handlers: dict[str, Handler] = {}


def handles(topic: str, *, group: str, start_at: StartAt | None = None) -> Callable[[HandlerFunction], HandlerFunction]:
    """Registers the decorated function for a topic. Raises ValueError when the topic has a handler already."""

    def register(function: HandlerFunction) -> HandlerFunction:
        if topic in _handlers:
            raise ValueError(f"topic {topic} already has the handler {_handlers[topic].handle.__name__}")
        _handlers[topic] = Handler(topic, group, function, start_at)
        return function

    return register


def handler_of(topic: str) -> Handler:
    """Raises LookupError, which names the topics that have a handler."""
    try:
        return _handlers[topic]
    except KeyError:
        known = ", ".join(sorted(_handlers)) or "none"
        raise LookupError(f"no handler is registered for topic {topic!r}; there are: {known}") from None
