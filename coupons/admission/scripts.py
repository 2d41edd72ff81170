"""Runs the Lua scripts of `lua/` through django-redis's client, and turns Redis's errors into GateUnavailable."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django_redis import get_redis_connection
from redis import Redis
from redis import asyncio as redis_asyncio
from redis.exceptions import NoPermissionError, NoScriptError, OutOfMemoryError, RedisError, ResponseError

from coupons.errors import GateUnavailable
from coupons.runtime.redis_connections import BROKEN_TRANSPORT, WritesRefused, loop_client

Answer = TypeVar("Answer")
OUTAGE = (RedisError, BROKEN_TRANSPORT)
# A server that is full, an account without the right, a disk that is full, a script that runs for too long. A replica's
# refusal is a ConnectionError here (WritesRefused).
REFUSES_ALL = (OutOfMemoryError, NoPermissionError)
REFUSES_ALL_CODES = ("MISCONF", "BUSY", "UNKILLABLE")
LUA_FOLDER = Path(__file__).parent / "lua"

IS_CLUSTER = (
    "REDIS_URL leads to a Redis Cluster, which is not supported: campaigns of other nodes could not be reached. Use a "
    "Redis without cluster mode, with replicas if you like (docs/deploy/own-servers.md)."
)

MAX_ARGUMENTS = 1_000  # users (or pairs) in one call: Lua's stack bounds unpack


def admission_redis() -> Redis:
    """Returns the client of the Redis that admits. The process's threads share its pool, which is safe after a fork."""
    client: Redis = get_redis_connection("admission")
    return client


@contextmanager
def calling_redis() -> Iterator[Redis]:
    """Yields the client, and raises GateUnavailable for its errors."""
    try:
        yield admission_redis()
    except RedisError as error:
        raise GateUnavailable(f"Redis: {error}") from error


def loop_redis() -> "redis_asyncio.Redis":
    """Returns a client of the same Redis for an event loop, with the same settings; the caller closes it."""
    return loop_client(settings.CACHES["admission"])


def why_it_refuses_writes() -> str:
    """Returns "" if Redis would run a script that writes, else why not: it is a replica, is out of memory, cannot write
    its file, has lost its replicas ... Writes nothing. Raises a RedisError when it does not answer."""
    client: Any = admission_redis()
    try:
        client.execute_command("EVAL", "#!lua\nreturn 1", 0)
    except (ResponseError, WritesRefused) as error:
        return str(error)
    return ""


class Call(NamedTuple, Generic[Answer]):
    """One run of a script: `ask` makes it in a thread, coupons/front/clients.py in an event loop. `read` turns the
    reply into the answer."""

    name: str
    keys: Sequence[str]
    arguments: Sequence[str | int]
    read: Callable[[list[Any]], Answer]

    @property
    def command(self) -> tuple[str | int, ...]:
        return ("EVALSHA", _sha1(self.name), len(self.keys), *self.keys, *self.arguments)

    @property
    def command_with_script(self) -> tuple[str | int, ...]:
        """Runs the script and loads it, when Redis has forgotten it. redis-py's Script would load it and then call it
        by its digest, and Redis may have forgotten it again in between."""
        return ("EVAL", source(self.name), len(self.keys), *self.keys, *self.arguments)

    def answer(self, reply: Any) -> Answer:
        """`reply` may be the error of the call. Raises GateUnavailable for an outage, and what `read` raises."""
        if isinstance(reply, OUTAGE):
            raise GateUnavailable(f"Redis, script {self.name}: {reply}") from reply
        if isinstance(reply, Exception):  # a defect
            raise reply
        return self.read(reply if isinstance(reply, list) else [reply])


def ask(call: Call[Answer]) -> Answer:
    """Raises what the call's `read` raises, and GateUnavailable when Redis did not answer or refused; the script may
    have run all the same."""
    client: Any = admission_redis()
    try:
        try:
            reply = client.execute_command(*call.command)
        except NoScriptError:
            reply = client.execute_command(*call.command_with_script)
    except RedisError as error:
        reply = error
    return call.answer(reply)


def run(name: str, keys: Sequence[str], arguments: Sequence[str | int]) -> list[Any]:
    """Runs a script and returns its reply. Raises GateUnavailable, as `ask` does."""
    return ask(Call(name, keys, arguments, list))


def run_each(name: str, calls: Sequence[tuple[Sequence[str], Sequence[str | int]]]) -> list[list[Any]]:
    """Runs a script for each of the calls (keys and arguments) in one round trip. Raises GateUnavailable."""
    replies = []
    for reply in try_each(name, calls):
        if isinstance(reply, GateUnavailable):
            raise reply
        replies.append(reply)
    return replies


def try_each(
    name: str, calls: Sequence[tuple[Sequence[str], Sequence[str | int]]]
) -> list[list[Any] | GateUnavailable]:
    """As `run_each`, but a call that Redis refuses has its error in the list, and the others their replies. Raises
    GateUnavailable when Redis does not answer."""
    pipeline: Any = admission_redis().pipeline(transaction=False)
    each = [Call(name, keys, arguments, list) for keys, arguments in calls]
    for call in each:
        pipeline.execute_command(*call.command)
    try:
        replies = pipeline.execute(raise_on_error=False)
    except RedisError as error:
        raise GateUnavailable(f"Redis, script {name}: {error}") from error
    return [_reply_or_error(call, reply) for call, reply in zip(each, replies, strict=True)]


def _reply_or_error(call: Call[list[Any]], reply: Any) -> list[Any] | GateUnavailable:
    try:
        # Redis has forgotten the script: the first call to ask again loads it.
        return ask(call) if isinstance(reply, NoScriptError) else call.answer(reply)
    except GateUnavailable as error:
        if not is_refusal(error):
            raise
        return error


def is_refusal(error: Exception) -> bool:
    """Returns whether Redis refuses the keys of this campaign alone: one has another type, another node has the slot.
    Other errors of the gate are about all campaigns."""
    cause = error.__cause__ if isinstance(error, GateUnavailable) else None
    is_of_server = isinstance(cause, REFUSES_ALL) or str(cause).startswith(REFUSES_ALL_CODES)
    return isinstance(cause, ResponseError) and not is_of_server


def cluster_problem() -> str:
    """Returns why this Redis cannot admit, if it is a Redis Cluster; else nothing. Raises GateUnavailable.

    A plain client follows no MOVED: the campaigns of the slots that another node holds would be answered 503 for ever.
    """
    with calling_redis() as redis:
        found: Any = redis.info("cluster")
    return IS_CLUSTER if found.get("cluster_enabled") == 1 else ""


def refuse_cluster() -> None:
    """Raises ImproperlyConfigured for a Redis Cluster. For the start of a process, which an outage does not prevent."""
    with suppress(GateUnavailable):
        if problem := cluster_problem():
            raise ImproperlyConfigured(problem)


@cache
def source(name: str) -> str:
    """Returns the whole text of a script, as it is sent to Redis: its first line, state.lua, and the rest.

    The first line decides where it may run. With `#!lua`, a replica refuses it (READONLY) and so does a server out of
    memory; without that line a stale replica would answer. Scripts that write nothing or free memory have allow-oom:
    with a full Redis, the consumer must still issue what was promised.
    """
    first, _, rest = (LUA_FOLDER / f"{name}.lua").read_text().partition("\n")
    return f"{first}\n{(LUA_FOLDER / 'state.lua').read_text()}\n{rest}"


@cache
def _sha1(name: str) -> str:
    """Redis identifies the script by this digest."""
    return sha1(source(name).encode(), usedforsecurity=False).hexdigest()
