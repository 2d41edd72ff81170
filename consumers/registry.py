"""Which function handles which topic. A new topic is one decorated function; the worker does not change.

    @handles("coupon_create", group="group_1")
    def save_coupons(messages: Sequence[Received]) -> Handled: ...

A handler gets a batch in the order of each partition. When it returns, the batch is done and its offsets are committed;
so everything must be durable by then. It raises

- `RetryLater`, or one of `DATABASE_DOWN`: a part is down. The worker pauses its partitions, keeps polling, and gives
  the same batch again later. The handler must therefore be idempotent.
- anything else: a defect. The worker process ends without committing, and is started again.

What is wrong with a single message is the handler's own business: it records it and counts it as `failed`.

A handler that keeps its own record of what was read says so with `start_at`: it gets the group's committed offset of
each partition that was assigned (None: there is none), and returns those at which reading shall begin instead. It
raises `MessagesSkipped` for a batch that begins beyond its record, and the worker goes back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from coupons.messaging.kafka import Headers


class Received(NamedTuple):
    """One message as it came from the topic."""

    topic: str
    partition: int
    offset: int
    payload: bytes
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of a batch, in messages. `failed` counts what is newly recorded, not what was recorded before."""

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
    """Register the decorated function for a topic. A second one for the same topic is a mistake and raises."""

    def register(function: HandlerFunction) -> HandlerFunction:
        if topic in _handlers:
            raise ValueError(f"topic {topic} already has the handler {_handlers[topic].handle.__name__}")
        _handlers[topic] = Handler(topic, group, function, start_at)
        return function

    return register


def handler_of(topic: str) -> Handler:
    """Raises LookupError that names the topics that have one."""
    try:
        return _handlers[topic]
    except KeyError:
        known = ", ".join(sorted(_handlers)) or "none"
        raise LookupError(f"no handler is registered for topic {topic!r}; there are: {known}") from None
