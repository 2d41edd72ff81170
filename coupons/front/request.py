"""Reads a request and its whole body within a time limit, and what an application says in it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http.request import split_domain_port, validate_host
from rest_framework.exceptions import ParseError, ValidationError

from coupons.api.authentication import caller_of_header
from coupons.api.client_address import Address, nearest_address
from coupons.api.parsers import read_json
from coupons.api.problems import Code, Problem
from coupons.api.serializers import read_user_id
from coupons.auth.caller import Caller, NotKnown
from coupons.runtime.path_prefix import without_prefix

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_TIMEOUT_SEC = 5.0
"""The limit for a whole body; nginx allows as much for a piece of one (docs/deploy/nginx.conf)."""
PREFIX, SUFFIX = "/api/v1/campaigns/", "/apply"
JSON_BODY = frozenset({b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"})
MAX_BODY_BYTES = 1_024
"""A usual body has a hundred bytes; Django answers longer ones."""


class BodyRefused(Exception):
    """The body did not arrive, is too large, or its end cannot be determined."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class Request:
    """`headers` have lower-case names, and one value of a repeated header (`has_repeated_headers`). `receive` is the
    server's own."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.began_at = time.monotonic()
        self.method: str = scope["method"]
        self.path = scope["path"] = without_prefix(scope["path"])
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.has_repeated_headers = len(self.headers) != len(scope["headers"])
        self.receive = receive
        self._max_bytes = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        self._body: bytes | None = None

    async def body(self) -> bytes:
        """Returns the whole body. Raises BodyRefused."""
        if self._body is None:
            self._body = await self._read()
        return self._body

    @property
    def is_body_read(self) -> bool:
        return self._body is not None

    @property
    def whole_body(self) -> bytes:
        """Available after `body`."""
        return self._body or b""

    async def replay_body(self) -> Message:
        """Stands in for the server's `receive` after `body`."""
        return {"type": "http.request", "body": self.whole_body, "more_body": False}

    async def _read(self) -> bytes:
        length = self.headers.get(b"content-length")
        if b"transfer-encoding" in self.headers:
            if self.headers[b"transfer-encoding"].lower() != b"chunked":
                raise BodyRefused(Problem(Code.LENGTH_REQUIRED))
            return await self._read_within(BODY_TIMEOUT_SEC, self._max_bytes + 1, Problem(Code.LENGTH_REQUIRED))
        if length is not None:
            self._check_size(int(length))
            late = Problem(Code.INVALID, f"body: not received within {BODY_TIMEOUT_SEC:.0f} s.")
            return await self._read_within(BODY_TIMEOUT_SEC, int(length), late)
        if self.method in ("POST", "PATCH") and self.scope["http_version"] in ("1", "1.0"):
            # Without a length, a body of HTTP/1.0 ends with its connection (RFC 1945, 8.3).
            raise BodyRefused(Problem(Code.LENGTH_REQUIRED, "HTTP/1.0 has no other way to mark the end of a body."))
        return b""

    async def _read_within(self, seconds: float, end: int, late: Problem) -> bytes:
        body, task, is_late = b"", asyncio.current_task(), False

        def give_up() -> None:
            nonlocal is_late
            if task is not None:
                is_late = task.cancel()

        # `asyncio.timeout`, here and for Kafka, took 17 % of the loop's time (docs/decisions/0029).
        timer = asyncio.get_running_loop().call_later(seconds, give_up)
        try:
            while len(body) < end:
                message = await self.receive()
                if message["type"] != "http.request":
                    raise BodyRefused(Problem(Code.INVALID, "body: the connection ended before the body did."))
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    break
        except asyncio.CancelledError:
            if task is None or not is_late or task.uncancel():  # another cancellation, or one more besides the timer's
                raise
            raise BodyRefused(late) from None
        finally:
            timer.cancel()
        self._check_size(len(body))
        return body

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise BodyRefused(Problem(Code.TOO_LARGE, f"The body may have {self._max_bytes} bytes at most."))


@lru_cache(maxsize=1_024)
def campaign_id_of(path: str) -> UUID | None:
    """Returns the campaign's id if the path is that of an application, in canonical form."""
    try:
        found = UUID(path[len(PREFIX) : -len(SUFFIX)])
    except ValueError:
        return None
    return found if path == f"{PREFIX}{found}{SUFFIX}" else None


def is_usual(request: Request) -> bool:
    """Returns whether Django's and DRF's checks before the view would let the request through."""
    headers = request.headers
    return (
        request.method == "POST"
        and not request.scope["query_string"]
        and not request.has_repeated_headers
        and headers.get(b"content-type") in JSON_BODY
        and _accepts_json(headers.get(b"accept", b""))
        and _is_allowed(headers.get(b"host", b""))
    )


@lru_cache(maxsize=1_024)
def _accepts_json(accept: bytes) -> bool:
    """Accepts a list of media ranges without weights that includes JSON."""
    ranges = {each.strip() for each in accept.split(b",")}
    return not accept or (b";" not in accept and not ranges.isdisjoint({b"*/*", b"application/*", b"application/json"}))


@lru_cache(maxsize=1_024)
def _is_allowed(host: bytes) -> bool:
    domain, _ = split_domain_port(host.decode("latin-1"))
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


def caller_of(request: Request) -> Caller | None:
    """Returns None for missing or wrong credentials. Raises KeysUnknown."""
    try:
        return caller_of_header(request.headers.get(b"authorization", b""))
    except NotKnown:
        return None


def user_id_of(body: bytes, *, own: str | None) -> str | None:
    """Returns the applicant, or None for a body that Django has to answer."""
    if len(body) > MAX_BODY_BYTES:
        return None
    try:
        return read_user_id(read_json(body), own=own)
    except (ParseError, ValidationError):
        return None


def address_of(request: Request) -> Address | None:
    client = request.scope.get("client") or ("", 0)
    return nearest_address(client[0], request.headers.get(b"x-forwarded-for", b"").decode("latin-1"))
