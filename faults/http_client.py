"""A keep-alive HTTP/1.1 connection for load: it sends prepared bytes and parses only what it needs of an answer.

A client that spends more time on a request than the server would measure itself, and on a shared machine it takes that
time from the server.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast


class BrokenConnection(Exception):
    """The server closed the connection or did not answer in time. The request may have taken effect."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    lowered_head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """`name` must be in lower case. The value is in lower case too."""
        return _header(self.lowered_head, name)

    def document(self) -> dict[str, Any]:
        """The body's JSON object; empty if the body is not one."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    def retry_after_sec(self) -> float | None:
        text = self.header("retry-after") or ""
        return float(text) if text.isdecimal() else None


class Connection(asyncio.Protocol):
    """Sends one request at a time. Make a new connection after an error, or when `closed` is set."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._reply: asyncio.Future[Reply] | None = None
        self.closed = False

    async def request(self, message: bytes, *, timeout_sec: float) -> Reply:
        """Raises BrokenConnection."""
        if self._transport is None or self.closed:
            raise BrokenConnection("closed")
        loop = asyncio.get_running_loop()
        self._reply = loop.create_future()
        too_late = loop.call_later(timeout_sec, self._break, "timeout")
        self._transport.write(message)
        try:
            return await self._reply
        finally:
            too_late.cancel()

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._break(type(error).__name__ if error else "closed by the server")

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end or self._reply is None:
            return
        lowered = head.lower()
        body = _body(lowered, rest)
        if body is None:
            return
        reply, self._reply, self._received = self._reply, None, b""
        if _header(lowered, "connection") == "close":
            self.close()
        reply.set_result(Reply(int(head[9:12]), lowered, body))

    def _break(self, reason: str) -> None:
        self.close()
        reply, self._reply = self._reply, None
        if reply is not None and not reply.done():
            reply.set_exception(BrokenConnection(reason))


async def connect(host: str, port: int) -> Connection:
    """Raises BrokenConnection."""
    try:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, host, port)
    except OSError as error:
        raise BrokenConnection(type(error).__name__) from error
    return connection


def post(*, host: str, port: int, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """The bytes of a POST."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}:{port}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def get_request(host: str, port: int, *, path: str, api_key: str) -> bytes:
    """The bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {api_key}\r\n\r\n".encode()


def json_request(host: str, port: int, *, path: str, api_key: str, body: Mapping[str, Any]) -> bytes:
    """The bytes of a POST of a JSON document."""
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
    return post(host=host, port=port, path=path, headers=headers, body=json.dumps(body).encode())


def apply_request(host: str, port: int, *, path: str, api_key: str, user_id: str) -> bytes:
    """The bytes of a user's application; `path` names the campaign."""
    return json_request(host, port, path=path, api_key=api_key, body={"user_id": user_id})


def _header(lowered_head: bytes, name: str) -> str | None:
    _, found, rest = lowered_head.partition(b"\r\n%s:" % name.encode())
    return rest.partition(b"\r\n")[0].strip().decode("latin-1") if found else None


def _body(lowered_head: bytes, rest: bytes) -> bytes | None:
    """The complete body, or None while a part of it is missing."""
    length = _header(lowered_head, "content-length")
    if length is not None:
        return rest if len(rest) >= int(length) else None
    if not rest.endswith(b"0\r\n\r\n"):
        return None
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body
