"""Nobody works for a client that has gone, or that takes nothing of a long answer."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from coupons.errors import DatabaseUnavailable
from coupons.front import client_stream
from coupons.front.client_stream import ClientStream


class Client:
    """Takes messages until it is told to stall; `leave` disconnects it."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.stalls = False
        self._left = asyncio.Event()

    def leave(self) -> None:
        self._left.set()

    async def receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if self.stalls:
            await asyncio.sleep(3600)
        self.taken.append(message)


class Answer:
    def __init__(self, error: Exception | None = None) -> None:
        self.made = 0
        self.closed = False
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        for number in range(5):
            if number == 3 and self._error is not None:
                raise self._error
            self.made += 1
            yield b"%d" % number

    def close(self) -> None:
        self.closed = True


def test_a_client_that_leaves_ends_the_answer() -> None:
    answer = Answer()

    async def run() -> list[bytes]:
        client = Client()
        stream = ClientStream(client.receive, client.send)
        chunks = stream.chunks_of(answer)
        each = iter(chunks)
        got = [next(each)]
        client.leave()
        await asyncio.sleep(0.01)
        got += list(each)
        chunks.close()
        await stream.send({"body": b"late"})
        assert client.taken == []
        return got

    assert asyncio.run(run()) == [b"0"]
    assert (answer.made, answer.closed) == (2, True)


def test_a_client_that_takes_nothing_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_stream, "STALL_SEC", 0.01)

    async def run() -> None:
        client = Client()
        stream = ClientStream(client.receive, client.send)
        await stream.send("first")  # type: ignore[arg-type]
        client.stalls = True
        await stream.send("second")  # type: ignore[arg-type]
        assert not stream.is_open
        client.stalls = False
        await stream.send("the end")  # type: ignore[arg-type]
        assert client.taken == ["first"], "what ends without its last message is cut off"
        stream.close()

    asyncio.run(run())


def test_an_answer_that_breaks_off_has_no_end() -> None:
    answer = Answer(DatabaseUnavailable("PostgreSQL has gone"))

    async def run() -> None:
        client = Client()
        stream = ClientStream(client.receive, client.send)
        assert list(stream.chunks_of(answer)) == [b"0", b"1", b"2"]
        await stream.send({"body": b""})
        assert client.taken == []
        stream.close()

    asyncio.run(run())


def test_a_defect_is_not_hidden() -> None:
    async def run() -> None:
        client = Client()
        stream = ClientStream(client.receive, client.send)
        with pytest.raises(ZeroDivisionError):
            list(stream.chunks_of(Answer(ZeroDivisionError())))
        stream.close()

    asyncio.run(run())
