"""The Lua scripts: read once from `lua/`, run through django-redis's client, Redis's errors made ours."""

from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from django.conf import settings
from django_redis import get_redis_connection
from redis import Redis
from redis.exceptions import NoScriptError, RedisError

from coupons.admission.together import Follow, NotAnswered, Together
from coupons.errors import GateUnavailable
from coupons.per_process import PerProcess

Answer = TypeVar("Answer")

LUA_FOLDER = Path(__file__).parent / "lua"

# The first line of a script decides where it may run. With `#!lua` a replica refuses it (READONLY) and so does a
# server out of memory; without that line a stale replica would answer. allow-oom stands on the scripts that write
# nothing or free memory: a full Redis must still let the consumer issue what was promised.
FLAGS = {
    "admit": "",
    "held": "allow-oom",
    "sequences": "allow-oom",
    "settle": "allow-oom",
    "mark_published": "allow-oom",
    "confirm": "allow-oom",
    "mark_unpublished": "allow-oom",
    "pending_range": "allow-oom",
    "describe": "allow-oom",
    "newcomer": "allow-oom",
    "load": "",
    "push": "allow-oom",
    "lower": "allow-oom",
    "begin_mend": "",
    "finish_mend": "",
    "read_api_keys": "allow-oom",
    "push_api_keys": "allow-oom",  # a full Redis must not keep a revoked key good
}
MAX_JOINED = 128
"""Calls in one round trip: Redis works off a few milliseconds of them, and a user of another process waits for it."""
MAX_ARGUMENTS = 1_000  # users (or pairs) in one call: Lua's stack bounds unpack


def admission_redis() -> Redis:
    """The client of the Redis that admits. Its pool is shared by the process's threads and is safe after a fork."""
    client: Redis = get_redis_connection("admission")
    return client


@cache
def source(name: str) -> str:
    """The whole text of a script as Redis gets it."""
    flags = f" flags={FLAGS[name]}" if FLAGS[name] else ""
    state = (LUA_FOLDER / "state.lua").read_text()
    return f"#!lua{flags}\n{state}\n{(LUA_FOLDER / f'{name}.lua').read_text()}"


@cache
def _sha1(name: str) -> str:
    """What Redis calls the script."""
    return sha1(source(name).encode(), usedforsecurity=False).hexdigest()


def run(name: str, keys: Sequence[str], arguments: Sequence[str | int]) -> list[Any]:
    """Run a script; raises GateUnavailable when Redis did not answer or refused. It may have run all the same."""
    client = admission_redis()
    try:
        try:
            reply: Any = client.evalsha(_sha1(name), len(keys), *keys, *arguments)
        except NoScriptError:
            # One command, after which Redis knows the script again. redis-py's Script would load it and then call it by
            # its name, and Redis may have forgotten it once more in between.
            reply = client.eval(source(name), len(keys), *keys, *arguments)
    except RedisError as error:
        raise GateUnavailable(f"Redis, script {name}: {error}") from error
    return _listed(reply)


def run_each(name: str, calls: Sequence[tuple[Sequence[str], Sequence[str | int]]]) -> list[list[Any]]:
    """Run a script once for each of many keys and arguments, all in one round trip; raises GateUnavailable."""
    pipeline = admission_redis().pipeline(transaction=False)
    for keys, arguments in calls:
        pipeline.evalsha(_sha1(name), len(keys), *keys, *arguments)
    try:
        try:
            replies: list[list[Any]] = pipeline.execute()
        except NoScriptError:
            return [run(name, keys, arguments) for keys, arguments in calls]  # the first of them makes it known again
    except RedisError as error:
        raise GateUnavailable(f"Redis, script {name}: {error}") from error
    return replies


class Call(NamedTuple, Generic[Answer]):
    """One run of a script. `read` makes the answer of its reply; what that raises is the caller's alone."""

    name: str
    keys: Sequence[str]
    arguments: Sequence[str | int]
    read: Callable[[list[Any]], Answer]


def run_joined(call: Call[Answer], *, wait_sec: float | None, follow: Follow[Answer] | None = None) -> Answer:
    """`run`, in one round trip with what other threads of this process want to run at this moment.

    `follow` begins what comes of the answer; this returns when that has ended (together.py). Raises GateUnavailable,
    also when `wait_sec` were not enough (None: as long as an application may take). It may have run all the same.
    """
    wait_sec = settings.ACCEPT_TIMEOUT_MS / 1000 if wait_sec is None else wait_sec
    joined: Together[Call[Answer], Answer] = _joined()
    try:
        return joined(call, wait_sec=wait_sec, follow=follow)
    except NotAnswered as error:
        raise GateUnavailable(f"Redis, script {call.name}: no answer in time") from error
    except RedisError as error:
        raise GateUnavailable(f"Redis, script {call.name}: {error}") from error


def _run_all(calls: Sequence[Call[Any]]) -> list[Any]:
    """The answer to each call, an error in its place."""
    pipeline = admission_redis().pipeline(transaction=False)
    for name, keys, arguments, _ in calls:
        pipeline.execute_command("EVALSHA", _sha1(name), len(keys), *keys, *arguments)  # type: ignore[no-untyped-call]
    replies = pipeline.execute(raise_on_error=False)
    return [_answer(call, reply) for call, reply in zip(calls, replies, strict=True)]


def _answer(call: Call[Any], reply: Any) -> Any:
    if isinstance(reply, NoScriptError):  # the first of them makes it known again
        reply = run(call.name, call.keys, call.arguments)
    if isinstance(reply, RedisError):
        return reply
    try:
        return call.read(_listed(reply))
    except Exception as error:  # noqa: BLE001  it is raised to this caller
        return error


def _listed(reply: Any) -> list[Any]:
    return reply if isinstance(reply, list) else [reply]


_joined: PerProcess[Together[Call[Any], Any]] = PerProcess(
    lambda: Together(_run_all, most=MAX_JOINED), close=lambda joined: None
)
