"""The crowd's connection, against a server that sends what the test says."""

import asyncio

import pytest

from faults.http_client import BrokenConnection, Reply, connect, post

REQUEST = post(host="127.0.0.1", port=1, path="/apply", headers={"X-Name": "value"}, body=b"{}")


async def exchange(answer: list[bytes], *, silent_sec: float = 0.0, timeout_sec: float = 5.0) -> Reply:
    """One request to a server that answers with these pieces, is silent for a while, and closes."""
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(REQUEST))
        for piece in answer:
            writer.write(piece)
            await writer.drain()
        await asyncio.sleep(silent_sec)
        writer.close()
        served.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        connection = await connect("127.0.0.1", server.sockets[0].getsockname()[1])
        try:
            return await connection.request(REQUEST, timeout_sec=timeout_sec)
        finally:
            connection.close()
            await served.wait()
            await asyncio.sleep(0.01)  # both ends' transports close in the loop's next turn


def test_a_request_has_its_headers_and_length() -> None:
    assert REQUEST.startswith(b"POST /apply HTTP/1.1\r\nHost: 127.0.0.1:1\r\nContent-Length: 2\r\nX-Name: value\r\n")
    assert REQUEST.endswith(b"\r\n\r\n{}")


def test_an_answer_in_pieces_is_put_together() -> None:
    pieces = [b"HTTP/1.1 409 Conflict\r\nRetry-After: 2\r\nContent-", b"Length: 4\r\n\r\nab", b"cd"]
    reply = asyncio.run(exchange(pieces))
    assert (reply.status, reply.body, reply.header("retry-after")) == (409, b"abcd", "2")


def test_a_chunked_answer_is_read() -> None:
    chunks = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"1\r\nd\r\n0\r\n\r\n"]
    assert asyncio.run(exchange(chunks)).body == b"abcd"


@pytest.mark.parametrize("answer", [[], [b"HTTP/1.1 200 OK\r\n"], [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"]])
def test_a_connection_that_closes_early_is_broken(answer: list[bytes]) -> None:
    with pytest.raises(BrokenConnection, match="closed by the server"):
        asyncio.run(exchange(answer))


def test_no_answer_in_time_is_a_broken_connection() -> None:
    with pytest.raises(BrokenConnection, match="timeout"):
        asyncio.run(exchange([], silent_sec=0.3, timeout_sec=0.1))
