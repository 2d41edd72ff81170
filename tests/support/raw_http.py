"""Requests byte by byte, as no client library would send them."""

import json
import select
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from tests.support.service import HEADERS

END = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` 0 = the connection ended without one. `closed`: it ended after the answer, which had said so."""

    status: int
    text: str = ""
    closed: bool = True

    @property
    def code(self) -> str:
        return str(json.loads(self.text)["code"])


def head(method: str, path: str, *lines: str, version: str = "1.1", headers: dict[str, str] | None = None) -> bytes:
    """A request's head with the API key; `lines` are headers as they stand."""
    known = [f"{name}: {value}" for name, value in (HEADERS if headers is None else headers).items()]
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: localhost", *known, *lines, "", ""]).encode()


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def connect(url: str, *, timeout: float = 20) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((str(address.hostname), address.port or 80), timeout=timeout)


def ask(where: str | socket.socket, *pieces: bytes, cut: bool = False) -> Answer:
    """Sends the pieces, each when the server had time to see the one before; `cut`: and then no more."""
    connection = connect(where) if isinstance(where, str) else where
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        send_all(connection, pieces)
        if cut:
            connection.shutdown(socket.SHUT_WR)
        return read_answer(connection)


def send_all(connection: socket.socket, pieces: Iterable[bytes]) -> None:
    for number, piece in enumerate(pieces):
        if number:
            select.select([connection], [], [], 0.1)
        connection.sendall(piece)


def read_answer(connection: socket.socket) -> Answer:
    response = HTTPResponse(connection)
    try:
        response.begin()  # goes over a `100 Continue`
        text = response.read().decode()
    except (HTTPException, OSError):
        return Answer(0)
    finally:
        response.close()
    return Answer(response.status, text, response.will_close)


def document(**members: Any) -> bytes:
    return json.dumps(members).encode()
