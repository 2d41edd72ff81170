"""Around all else: a request's body is read before anybody answers it, and its length is known to whoever reads it.

An answer that is given while the body is still on its way makes granian (2.8.7) close the connection, without having
said `Connection: close`: a client that keeps its connections sends its next request into one that ends, and hears
nothing. Refusals are given that early: of an overload, of a wrong key. A body that comes slowly also takes none of the
places for which others wait (overload.py). Decision 0004 has what was tried.

Django reads as much as CONTENT_LENGTH says, so a chunked body, which has none, would be an empty one to it.
"""

import threading
import time
from collections.abc import Iterable
from io import BytesIO
from typing import IO, Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from coupons.api.problem_responses import body_of
from coupons.problems import CONTENT_TYPE, Code, Problem

CHUNKED_SEC = 5.0
"""So long a chunked body may take: as a piece of any body at nginx (docs/deploy/nginx.conf)."""
PIECE_BYTES = 16  # a good body has a hundred: some reads, and whoever sends slowly is not read for long
ENDS_ITSELF = "/api/"
"""Below it bodies are JSON, of which the first half is none. A server does not tell a chunked body that was cut from
one that has ended, and the first half of a form is a form."""


class WholeBodies:
    """Inside of it, `wsgi.input` is a BytesIO of CONTENT_LENGTH bytes, for a body of at most `most_bytes`.

    One that is longer is handed on in part, or unread, and its connection ends, and is said to. One that was cut, or
    whose end nobody can tell, is refused.
    """

    def __init__(self, application: WSGIApplication, *, most_bytes: int) -> None:
        self._application = application
        self._most_bytes = most_bytes

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if "HTTP_TRANSFER_ENCODING" in environ:
            return self._chunked(environ, start_response)
        length = environ.get("CONTENT_LENGTH")
        if not length:
            if _lacks_a_length(environ):
                return _refuse(environ, start_response, Problem(Code.LENGTH_REQUIRED, "HTTP/1.0 has no other way."))
        elif not length.isdecimal() or int(length) > self._most_bytes:
            return self._application(environ, _closing(environ, start_response))
        else:
            body = environ["wsgi.input"].read(int(length))
            if len(body) < int(length):
                return _refuse(environ, start_response, Problem(Code.INVALID, "body: it was cut."))
            environ["wsgi.input"] = BytesIO(body)
        return self._application(environ, start_response)

    def _chunked(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        readable = environ["HTTP_TRANSFER_ENCODING"].lower() == "chunked" and environ["PATH_INFO"].startswith(
            ENDS_ITSELF
        )
        body = _read_within(CHUNKED_SEC, environ["wsgi.input"], self._most_bytes) if readable else b""
        if not body:
            return _refuse(environ, start_response, Problem(Code.LENGTH_REQUIRED))
        del environ["HTTP_TRANSFER_ENCODING"]
        environ.update({"CONTENT_LENGTH": str(len(body)), "wsgi.input": BytesIO(body)})
        if len(body) > self._most_bytes:
            start_response = _closing(environ, start_response)
        return self._application(environ, start_response)


def _lacks_a_length(environ: WSGIEnvironment) -> bool:
    """Without one, a body of HTTP/1.0 is as long as the connection lives (RFC 1945, 8.3). granian says HTTP/1."""
    return environ["REQUEST_METHOD"] in ("POST", "PATCH") and environ["SERVER_PROTOCOL"] in ("HTTP/1", "HTTP/1.0")


def _read_within(seconds: float, body: IO[bytes], most_bytes: int) -> bytes:
    """All of it, or more than `most_bytes`; empty if it has not ended in time.

    A read cannot be given up. So it has a thread of its own, which ends, and the connection with it, when the client
    has sent another piece or has gone.
    """
    whole: list[bytes] = []
    deadline = time.monotonic() + seconds

    def read() -> None:
        pieces = b""
        while len(pieces) <= most_bytes and (piece := body.read(PIECE_BYTES)):
            pieces += piece
            if time.monotonic() > deadline:
                return
        whole.append(pieces)

    reader = threading.Thread(target=read, name="chunked-body", daemon=True)
    reader.start()
    reader.join(seconds)
    return whole[0] if whole else b""


def _refuse(environ: WSGIEnvironment, start_response: StartResponse, problem: Problem) -> Iterable[bytes]:
    body = body_of(problem.document())
    headers = [("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store")]
    if _reads_chunks(environ):
        headers.append(("Content-Length", str(len(body))))
    _closing(environ, start_response)(f"{problem.status} Refused", headers)
    return [body, b""]  # of two pieces and no length, after which wsgiref closes the connection too


def _closing(environ: WSGIEnvironment, start_response: StartResponse) -> StartResponse:
    if not _reads_chunks(environ):
        return start_response  # wsgiref, which refuses this header

    def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        return start_response(status, [*headers, ("Connection", "close")], *exc_info)

    return start


def _reads_chunks(environ: WSGIEnvironment) -> bool:
    """Whether it is a server that does (granian, gunicorn), or wsgiref, which Django's runserver is."""
    return bool(environ.get("wsgi.input_terminated"))
