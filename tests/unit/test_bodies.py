"""Which bodies are read before anybody answers, and what is said of the connections of all others."""

from collections.abc import Iterable
from io import BytesIO
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from couponsite.bodies import WholeBodies

MOST = 10


class Answered:
    """One request through it to an application that reads nothing."""

    def __init__(self, sent: bytes, **environ: str) -> None:
        self.sent = BytesIO(sent)
        self.headers: dict[str, str] = {}
        body = WholeBodies(self._application, most_bytes=MOST)(environ | {"wsgi.input": self.sent}, self._start)
        assert list(body) == [b"refused"]

    def _application(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.given = environ["wsgi.input"]
        start_response("503 Service Unavailable", [("Content-Length", "7")])
        return [b"refused"]

    def _start(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        self.headers = dict(headers)


@pytest.mark.parametrize("sent", [b"1234567890", b"1"])
def test_a_body_is_whole_when_the_application_is_asked_and_the_connection_stays(sent: bytes) -> None:
    answered = Answered(sent + b"the next request", CONTENT_LENGTH=str(len(sent)))

    assert answered.given is not answered.sent
    assert answered.given.getvalue() == sent
    assert answered.headers == {"Content-Length": "7"}


def test_of_a_client_that_has_gone_there_is_what_came() -> None:
    assert Answered(b"1234", CONTENT_LENGTH="10").given.getvalue() == b"1234"


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"CONTENT_LENGTH": "11"}, id="longer than anything here takes"),
        pytest.param({"CONTENT_LENGTH": "1" * 30}, id="longer than any disk"),
        pytest.param({"CONTENT_LENGTH": "-1"}, id="no length"),
        pytest.param({"HTTP_TRANSFER_ENCODING": "chunked"}, id="nobody knows how long"),
        pytest.param({"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "3"}, id="two that may not be the same"),
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
