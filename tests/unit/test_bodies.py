"""Which bodies are read before anybody answers, and what is said of the connections of all others."""

from collections.abc import Iterable
from io import BytesIO
from threading import Event
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from couponsite.bodies import PIECE_BYTES, WholeBodies

MOST = 10


class Answered:
    """One request through it to an application that reads nothing."""

    def __init__(self, sent: bytes | BytesIO, **environ: str) -> None:
        self.sent = BytesIO(sent) if isinstance(sent, bytes) else sent
        self.headers: dict[str, str] = {}
        known = {"REQUEST_METHOD": "POST", "PATH_INFO": "/api/v1/campaigns", "SERVER_PROTOCOL": "HTTP/1.1"}
        server = {"wsgi.input": self.sent, "wsgi.input_terminated": True}
        self.given: Any = None
        self.length = ""
        self.status = ""
        WholeBodies(self._application, most_bytes=MOST)({**known, **server, **environ}, self._start)

    def _application(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.given, self.length = environ["wsgi.input"], environ.get("CONTENT_LENGTH", "")
        start_response("503 Service Unavailable", [("Content-Length", "7")])
        return [b"refused"]

    def _start(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        self.status, self.headers = status[:3], dict(headers)


@pytest.mark.parametrize("sent", [b"1234567890", b"1"])
def test_a_body_is_whole_when_the_application_is_asked_and_the_connection_stays(sent: bytes) -> None:
    answered = Answered(sent + b"the next request", CONTENT_LENGTH=str(len(sent)))

    assert answered.given is not answered.sent
    assert answered.given.getvalue() == sent
    assert answered.headers == {"Content-Length": "7"}


def test_a_body_that_was_cut_is_nobody_s_to_read() -> None:
    answered = Answered(b"1234", CONTENT_LENGTH="10")

    assert (answered.given, answered.status, answered.headers["Connection"]) == (None, "400", "close")


@pytest.mark.parametrize("sent", [b"1234567890", b"1"])
def test_a_chunked_body_is_whole_and_has_its_length(sent: bytes) -> None:
    answered = Answered(sent, HTTP_TRANSFER_ENCODING="Chunked", CONTENT_LENGTH="3")

    assert (answered.given.getvalue(), answered.length) == (sent, str(len(sent)))
    assert answered.headers == {"Content-Length": "7"}


def test_a_chunked_body_that_is_too_long_is_handed_on_as_such_and_its_connection_ends() -> None:
    answered = Answered(b"x" * 1_000_000, HTTP_TRANSFER_ENCODING="chunked")

    assert MOST < int(answered.length) == len(answered.given.getvalue()) <= MOST + PIECE_BYTES
    assert answered.headers == {"Content-Length": "7", "Connection": "close"}


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        pytest.param(b"x", {"HTTP_TRANSFER_ENCODING": "gzip, chunked"}, id="another coding"),
        pytest.param(b"", {"HTTP_TRANSFER_ENCODING": "chunked"}, id="nothing"),
        pytest.param(b"x", {"HTTP_TRANSFER_ENCODING": "chunked", "PATH_INFO": "/admin/"}, id="a form"),
        pytest.param(b"x", {"SERVER_PROTOCOL": "HTTP/1"}, id="HTTP/1.0, as granian says it"),
        pytest.param(b"x", {"SERVER_PROTOCOL": "HTTP/1.0", "REQUEST_METHOD": "PATCH"}, id="HTTP/1.0"),
    ],
)
def test_a_body_of_which_nobody_knows_where_it_ends_is_refused(sent: bytes, said: dict[str, str]) -> None:
    answered = Answered(sent, **said)

    assert (answered.given, answered.status, answered.headers["Connection"]) == (None, "411", "close")


def test_http_1_0_without_a_body_needs_no_length() -> None:
    assert Answered(b"", SERVER_PROTOCOL="HTTP/1", REQUEST_METHOD="GET").status == "503"


def test_chunks_that_come_late_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("couponsite.bodies.CHUNKED_SEC", 0.0)
    reads = Event()

    class Slow(BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            reads.wait()
            return super().read(size)

    answered = Answered(Slow(b"x"), HTTP_TRANSFER_ENCODING="chunked")
    reads.set()

    assert (answered.given, answered.status) == (None, "411")


def test_wsgiref_gets_no_header_that_it_refuses_and_ends_the_connection_by_itself() -> None:
    """After an answer of two pieces whose length nobody has said (django.core.servers.basehttp)."""
    answered = Answered(b"", HTTP_TRANSFER_ENCODING="chunked", **{"wsgi.input_terminated": ""})

    assert answered.status == "411"
    assert not {"Connection", "Content-Length"} & set(answered.headers)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"CONTENT_LENGTH": "11"}, id="longer than anything here takes"),
        pytest.param({"CONTENT_LENGTH": "1" * 30}, id="longer than any disk"),
        pytest.param({"CONTENT_LENGTH": "-1"}, id="no length"),
    ],
)
def test_a_body_that_is_not_read_ends_the_connection_and_the_answer_says_so(said: dict[str, str]) -> None:
    answered = Answered(b"x" * 100, **said)

    assert answered.given is answered.sent
    assert answered.sent.tell() == 0
    assert answered.headers == {"Content-Length": "7", "Connection": "close"}


@pytest.mark.parametrize("said", [{}, {"CONTENT_LENGTH": ""}])
def test_without_a_body_nothing_is_read(said: dict[str, str]) -> None:
    answered = Answered(b"the next request", **said)

    assert answered.sent.tell() == 0
    assert answered.headers == {"Content-Length": "7"}
