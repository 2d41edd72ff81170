"""Around all else: a request's body is read before anybody answers it.

An answer that is given while the body is still on its way makes granian (2.8.7) close the connection, without having
said `Connection: close`: a client that keeps its connections sends its next request into one that ends, and hears
nothing. Refusals are given that early: of an overload, of a wrong key. A body that comes slowly also takes none of the
places for which others wait (overload.py). Decision 0004 has what was tried.
"""

from collections.abc import Iterable
from io import BytesIO
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class WholeBodies:
    """Inside of it, `wsgi.input` is a BytesIO for a body of at most `most_bytes`: all of it, or less if the client has
    gone meanwhile. One that is longer, or of unknown length, is left as it is, and its connection ends, and is said to.
    """

    def __init__(self, application: WSGIApplication, *, most_bytes: int) -> None:
        self._application = application
        self._most_bytes = most_bytes

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if "HTTP_TRANSFER_ENCODING" in environ:
            return self._application(environ, _closing(start_response))
        length = environ.get("CONTENT_LENGTH")
        if length:
            if not length.isdecimal() or int(length) > self._most_bytes:
                return self._application(environ, _closing(start_response))
            environ["wsgi.input"] = BytesIO(environ["wsgi.input"].read(int(length)))
        return self._application(environ, start_response)


def _closing(start_response: StartResponse) -> StartResponse:
    def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        return start_response(status, [*headers, ("Connection", "close")], *exc_info)

    return start
