"""Connections to Redis that leave a server which takes no writes, and that do not trust a silent socket.

The primary of a planned failover stays up as a replica: its old connections work, and every write on them is refused.
So such a connection is closed and the call repeated on a new one, which a Sentinel, a DNS name or a balancer leads to
the new primary. And balancers drop connections without a word after a minute or more of silence: the next call on such
a connection would wait for its whole time-out.
"""

import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from redis import asyncio as redis_asyncio
from redis.asyncio import connection as loops
from redis.asyncio import sentinel as loop_sentinels
from redis.asyncio.retry import Retry as LoopRetry
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError
from redis.sentinel import SentinelConnectionPool, SentinelManagedConnection, SentinelManagedSSLConnection

MAX_IDLE_SEC = 20.0
"""Far below the minute after which the strictest of the usual balancers drops a connection."""
BROKEN_TRANSPORT = RuntimeError
"""uvloop raises it, and redis.asyncio passes it on, when a connection is reset during a write."""


class WritesRefused(RedisConnectionError):
    """The server is a replica, or is cut off from its replicas. Another one may take writes, so the call is repeated
    once on a new connection, as after any other ConnectionError."""


def _refuses_writes(error: ResponseError) -> bool:
    return isinstance(error, (ReadOnlyError, MasterDownError)) or str(error).startswith("NOREPLICAS")


class _Threads:
    """Changes redis-py's connections for threads."""

    _used_at = 0.0

    def connect(self: Any) -> None:
        """The pool calls it for each connection that it hands out, connected or not."""
        if self.is_connected and time.monotonic() - self._used_at > MAX_IDLE_SEC:
            self.disconnect()
        super().connect()  # type: ignore[misc]

    def send_packed_command(self: Any, *args: Any, **named: Any) -> None:
        if not self.is_connected:  # redis-py would go to the address of before, and not ask the Sentinel again
            self.connect()
        super().send_packed_command(*args, **named)  # type: ignore[misc]

    def read_response(self: Any, *args: Any, **named: Any) -> Any:
        try:
            reply = super().read_response(*args, **named)  # type: ignore[misc]
        except ResponseError as error:
            if not _refuses_writes(error):
                raise
            self.disconnect()
            raise WritesRefused(str(error)) from error
        self._used_at = time.monotonic()
        return reply


class _Loop:
    """Changes redis-py's connections for event loops in the same way."""

    _used_at = 0.0

    async def connect(self: Any) -> None:
        if self.is_connected and time.monotonic() - self._used_at > MAX_IDLE_SEC:
            await self.disconnect(nowait=True)
        await super().connect()  # type: ignore[misc]

    async def send_packed_command(self: Any, *args: Any, **named: Any) -> None:
        if not self.is_connected:
            await self.connect()
        await super().send_packed_command(*args, **named)  # type: ignore[misc]

    async def read_response(self: Any, *args: Any, **named: Any) -> Any:
        try:
            reply = await super().read_response(*args, **named)  # type: ignore[misc]
        except ResponseError as error:
            if not _refuses_writes(error):
                raise
            await self.disconnect(nowait=True)
            raise WritesRefused(str(error)) from error
        self._used_at = time.monotonic()
        return reply


@cache
def _changed(changes: type, connection: type) -> type:
    return type(connection.__name__, (changes, connection), {})


class Pool(ConnectionPool):
    def __init__(self, connection_class: type = Connection, **named: Any) -> None:
        super().__init__(connection_class=_changed(_Threads, connection_class), **named)


class SentinelPool(SentinelConnectionPool):
    def __init__(
        self, service_name: str, sentinel_manager: Any, connection_class: type = Connection, **named: Any
    ) -> None:
        is_tls = issubclass(connection_class, SSLConnection)
        managed = _changed(_Threads, SentinelManagedSSLConnection if is_tls else SentinelManagedConnection)
        super().__init__(service_name, sentinel_manager, connection_class=managed, **named)  # type: ignore[no-untyped-call]


class _LoopPool(loops.ConnectionPool):
    def __init__(self, connection_class: type = loops.Connection, **named: Any) -> None:
        super().__init__(connection_class=_changed(_Loop, connection_class), **named)


class _LoopSentinelPool(loop_sentinels.SentinelConnectionPool):
    def __init__(
        self, service_name: str, sentinel_manager: Any, connection_class: type = loops.Connection, **named: Any
    ) -> None:
        is_tls = issubclass(connection_class, loops.SSLConnection)
        of = loop_sentinels.SentinelManagedSSLConnection if is_tls else loop_sentinels.SentinelManagedConnection
        super().__init__(service_name, sentinel_manager, connection_class=_changed(_Loop, of), **named)  # type: ignore[no-untyped-call]


def loop_client(entry: Mapping[str, Any]) -> "redis_asyncio.Redis":
    """Returns a client for an event loop, of the same Redis and with the same settings as this entry of CACHES."""
    options = entry["OPTIONS"]
    named: dict[str, Any] = {
        **loops.parse_url(entry["LOCATION"]),
        "socket_timeout": options["SOCKET_TIMEOUT"],
        "socket_connect_timeout": options["SOCKET_CONNECT_TIMEOUT"],
        # One more try after a broken connection, as for threads (couponsite/servers.py).
        "retry": LoopRetry(
            NoBackoff(),
            1,
            supported_errors=(RedisConnectionError, BROKEN_TRANSPORT),  # type: ignore[arg-type]
        ),
    }
    if "SENTINELS" not in options:
        return redis_asyncio.Redis.from_pool(_LoopPool(**named))
    sentinel = loop_sentinels.Sentinel(options["SENTINELS"], sentinel_kwargs=options["SENTINEL_KWARGS"])  # type: ignore[no-untyped-call]
    return redis_asyncio.Redis.from_pool(_LoopSentinelPool(named.pop("host"), sentinel, **named))
