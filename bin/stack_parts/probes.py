"""Probes whether a server answers, by one request with a time-out. Standard library only."""

from __future__ import annotations

import socket
import struct
import subprocess
from pathlib import Path

from . import settings
from .ports import LOOPBACK

TIMEOUT_SEC = 2.0
_METADATA, _METADATA_VERSION = 3, 1


def redis_answers(port: int) -> bool:
    """Whether PING gets PONG; a server that is still loading its file answers LOADING."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=TIMEOUT_SEC) as link:
            link.sendall(b"PING\r\n")
            return link.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def postgres_answers(*, psql: Path, port: int, password: str) -> bool:
    """Whether the server answers a query of the stack's own user and password."""
    return postgres_query(psql=psql, port=port, password=password, database="postgres", sql="SELECT 1") == "1"


def postgres_query(*, psql: Path, port: int, password: str, database: str, sql: str) -> str | None:
    """The unaligned output of one statement; None when the statement failed."""
    command = [str(psql), "-h", LOOPBACK, "-p", str(port), "-U", settings.DATABASE_USER, "-d", database]
    env = {
        "PGPASSWORD": password,
        "PGCONNECT_TIMEOUT": str(int(TIMEOUT_SEC)),
        "LC_ALL": "C",
        "HOME": "/nonexistent",
    }
    try:
        done = subprocess.run(
            [*command, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql],
            env=env,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=30 if sql != "SELECT 1" else TIMEOUT_SEC + 1,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def kafka_answers(port: int) -> bool:
    """Whether a metadata request is answered and names at least one live broker."""
    body = struct.pack(">hhih5si", _METADATA, _METADATA_VERSION, 1, 5, b"stack", 0)
    try:
        with socket.create_connection((LOOPBACK, port), timeout=TIMEOUT_SEC) as link:
            link.sendall(struct.pack(">i", len(body)) + body)
            reply = _receive(link, struct.unpack(">i", _receive(link, 4))[0])
    except (OSError, EOFError, struct.error):
        return False
    correlation: int
    brokers: int
    correlation, brokers = struct.unpack(">ii", reply[:8])
    return correlation == 1 and brokers >= 1


def _receive(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = link.recv(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data
