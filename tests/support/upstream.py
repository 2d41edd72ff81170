"""A web server that counts requests, and answers each or hangs up on each."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Upstream:
    """A context; `seen` counts the requests, `headers` are those of the last one."""

    def __init__(self, *, answers: bool) -> None:
        self.seen = 0
        self.headers: dict[str, str] = {}
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                upstream.seen += 1
                upstream.headers = dict(self.headers)
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.close_connection = not answers
                if answers:
                    self.send_response(204)
                    self.send_header("Strict-Transport-Security", "max-age=1")
                    self.end_headers()

            do_GET = do_POST = _handle  # noqa: N815  as http.server finds them

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  its name there
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
