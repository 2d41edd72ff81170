"""A client of the service's addresses: one connection at a time, and another address after a broken one."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from faults.history import NO_ANSWER, NO_CONNECTION
from faults.http_client import BrokenConnection, Connection, Reply, connect

DEFAULT_RETRY_AFTER_SEC = 0.25
REQUESTS_PER_CONNECTION = 10

Message = Callable[[str, int], bytes]
"""Makes a request's bytes for a host and its port."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that was sent, or not, and its answer. Without one, `code` has the reason."""

    start: float
    end: float
    address: str
    reply: Reply | None
    code: str

    @property
    def status(self) -> int:
        return self.reply.status if self.reply else NO_ANSWER

    @property
    def document(self) -> dict[str, Any]:
        return self.reply.document() if self.reply else {"code": self.code}

    @property
    def wait_sec(self) -> float | None:
        """The seconds until its repeat, or None for a final answer."""
        if self.reply is None or self.reply.status >= 500:
            return (self.reply.retry_after_sec() if self.reply else None) or DEFAULT_RETRY_AFTER_SEC
        return self.reply.retry_after_sec()


class Client:
    """`addresses` is read again for each connection. `number` says with which of them it begins."""

    def __init__(self, addresses: Sequence[str], *, number: int, timeout_sec: float) -> None:
        self._addresses = addresses
        self._next = number
        self._timeout_sec = timeout_sec
        self._connection: Connection | None = None
        self._address = ""
        self._requests = 0

    async def send(self, message: Message) -> Exchange:
        start, reply, code, sent = time.monotonic(), None, NO_CONNECTION, False
        try:
            connection = await self._connect()
            parts = urlsplit(self._address)
            start = time.monotonic()
            sent = True
            reply = await connection.request(
                message(parts.hostname or "", parts.port or 80), timeout_sec=self._timeout_sec
            )
        except BrokenConnection as error:
            code = str(error) if sent else NO_CONNECTION
        return Exchange(start, time.monotonic(), self._address, reply, code)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def _connect(self) -> Connection:
        self._requests += 1
        if self._requests > REQUESTS_PER_CONNECTION:
            self.close()
        if self._connection is None or self._connection.closed:
            self._requests = 1
            self._next += 1
            self._address = self._addresses[self._next % len(self._addresses)]
            parts = urlsplit(self._address)
            limit = asyncio.timeout(self._timeout_sec)
            try:
                async with limit:
                    self._connection = await connect(parts.hostname or "", parts.port or 80)
            except TimeoutError as error:
                raise BrokenConnection("timeout") from error
        return self._connection
