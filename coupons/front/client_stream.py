"""Watches the client of a long answer, so that nobody works for one that has gone or that takes nothing.

granian's `send` waits while the client's connection is full, and returns at once when it is closed; `receive` tells of
the end (tried with 2.8.9). An answer that ends without its last message is cut off: no client takes it for complete.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress

from coupons.errors import DATABASE_DOWN, RetryLater
from coupons.front.request import Message, Receive, Send

STALL_SEC = 20.0
"""A client that takes nothing of a chunk for so long has gone: 300 KB, where a slow line has 20 KB a second."""


class ClientStream:
    """The way to the client. `is_open` turns false for good; what is sent after that is dropped."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.is_open = True
        self._receive, self._send = receive, send
        self._watch = asyncio.create_task(self._wait_for_end())

    async def send(self, message: Message) -> None:
        if not self.is_open:
            return
        try:
            await asyncio.wait_for(self._send(message), STALL_SEC)
        except TimeoutError:
            self.is_open = False

    def close(self) -> None:
        self._watch.cancel()

    def chunks_of(self, answer: Iterable[bytes]) -> "Chunks":
        return Chunks(self, answer)

    async def _wait_for_end(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_open = False


class Chunks:
    """The chunks of a WSGI answer, on a thread, as long as the client is there. Closes the answer in any case."""

    def __init__(self, client: ClientStream, answer: Iterable[bytes]) -> None:
        self._client, self._answer = client, answer

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._answer:
                if not self._client.is_open:
                    return
                yield chunk
        except (RetryLater, *DATABASE_DOWN):  # whoever raised it has logged it; it is too late for a 503
            self._client.is_open = False

    def close(self) -> None:
        with suppress(AttributeError):
            self._answer.close()  # type: ignore[attr-defined]
