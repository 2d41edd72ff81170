"""Who is let in, who waits and who is refused (couponsite/overload.py); bin/web has threads for all of them."""

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from django.conf import settings
from django.db import connections

from couponsite.overload import Line, Place, QueueLimit, Refusal, threads_needed
from tests.support.process import ROOT
from tests.support.waiting import wait_until

LONG_SEC = 20.0


def line(*, places: int = 1, waiting: int = 1, timeout_sec: float = LONG_SEC) -> Line:
    return Line("test", places=places, waiting=waiting, timeout_sec=timeout_sec)


@contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def waits(line: Line, many: int) -> bool:
    return line.waiting == many


def place_of(got: Place | Refusal) -> Place:
    assert isinstance(got, Place)
    return got


def test_nobody_waits_for_a_free_place() -> None:
    two = line(places=2, waiting=0)

    first, second = place_of(two.enter()), place_of(two.enter())

    assert first is not second
    assert two.enter() is Refusal.FULL
    two.leave(first)
    assert two.enter() is first


def test_a_line_that_is_full_refuses_at_once() -> None:
    one = line(waiting=2)
    place = place_of(one.enter())
    with threads() as pool:
        waiting = [pool.submit(one.enter) for _ in range(2)]
        wait_until(lambda: one.waiting == 2, what="two wait")

        assert one.enter() is Refusal.FULL

        one.leave(place)
        assert waiting[0].result(LONG_SEC) is place
        one.leave(place)
        assert waiting[1].result(LONG_SEC) is place


def test_places_go_in_the_order_of_arrival() -> None:
    one = line(waiting=5)
    place, order = place_of(one.enter()), []

    def wait(number: int) -> None:
        mine = place_of(one.enter())
        order.append(number)
        one.leave(mine)

    with threads() as pool:
        for number in range(5):
            pool.submit(wait, number)
            wait_until(partial(waits, one, number + 1), what="one more waits")
        one.leave(place)

    assert order == [0, 1, 2, 3, 4]
    assert one.enter() is place


def test_who_waits_too_long_is_refused_and_leaves_the_line() -> None:
    one = line(timeout_sec=0.05)
    place = place_of(one.enter())

    assert one.enter() is Refusal.LATE

    assert one.waiting == 0
    one.leave(place)
    assert one.enter() is place, "the place is not handed to one who has gone"


def test_a_hundred_threads_never_share_a_place() -> None:
    three, inside, most, refused = line(places=3, waiting=4), [0], [0], [0]
    lock = threading.Lock()

    def visit() -> None:
        for _ in range(50):
            place = three.enter()
            if isinstance(place, Refusal):
                with lock:
                    refused[0] += 1
                continue
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            with lock:
                inside[0] -= 1
            three.leave(place)

    with ThreadPoolExecutor(100) as pool:
        for visiting in [pool.submit(visit) for _ in range(100)]:
            visiting.result()

    assert most[0] <= 3
    assert inside[0] == three.waiting == 0
    assert len({id(place_of(three.enter())) for _ in range(3)}) == 3, "no place was lost"


class Application:
    """Answers when it is told to; counts how many are inside and whether answers were closed."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.inside = 0
        self.closed = 0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.inside += 1
        if environ["test.breaks"]:
            raise RuntimeError("broken")
        self.go.wait(LONG_SEC)
        start_response("200 OK", [])
        return Answer(self)

    def close(self) -> None:
        self.closed += 1


class Answer:
    def __init__(self, application: Application) -> None:
        self._application = application

    def __iter__(self) -> Iterator[bytes]:
        yield b"done"

    def close(self) -> None:
        self._application.close()


def limited(application: Any, **api: Any) -> QueueLimit:
    return QueueLimit(application, applications=line(), api=line(**api), probes=line(), pages=line())


def call(
    limit: Callable[..., Iterable[bytes]],
    path: str = "/api/v1/campaigns",
    *,
    method: str = "GET",
    breaks: bool = False,
) -> tuple[str, dict[str, str], bytes]:
    said: dict[str, Any] = {}

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        said.update(status=status, headers=dict(headers))

    body = b"".join(limit({"PATH_INFO": path, "REQUEST_METHOD": method, "test.breaks": breaks}, start_response))
    return said["status"], said["headers"], body


def test_a_refusal_is_a_problem_with_retry_after_and_never_reaches_django() -> None:
    application = Application()
    limit = limited(application, waiting=0)
    with threads() as pool:
        served = pool.submit(call, limit)
        wait_until(lambda: application.inside == 1, what="the place is taken")

        status, headers, body = call(limit)

        application.go.set()
        assert served.result(LONG_SEC)[0] == "200 OK"
    document = json.loads(body)
    assert status == "503 Service Unavailable"
    assert (document["code"], document["status"]) == ("unavailable", 503)
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Retry-After"] == "1"
    assert int(headers["Content-Length"]) == len(body)
    assert application.inside == 1
    assert call(limit)[0] == "200 OK", "the place is free again"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[("GET", path) for path in ("/healthz", "/readyz", "/metrics", "/admin/", "/api/docs/")],
        ("POST", "/api/v1/campaigns/x/apply"),
    ],
)
def test_probes_operators_and_applicants_do_not_stand_in_the_api_s_line(method: str, path: str) -> None:
    application = Application()
    limit = limited(application, waiting=0)
    with threads() as pool:
        pool.submit(call, limit)
        wait_until(lambda: application.inside == 1, what="the API's place is taken")
        served = pool.submit(call, limit, path, method=method)
        wait_until(lambda: application.inside == 2, what=f"{path} is let in")
        application.go.set()
        assert served.result(LONG_SEC)[0] == "200 OK"


def test_the_answer_is_whole_and_closed_before_the_place_is_free() -> None:
    application = Application()
    application.go.set()

    status, _, body = call(limited(application))

    assert (status, body, application.closed) == ("200 OK", b"done", 1)


def test_an_application_that_breaks_keeps_no_place() -> None:
    application = Application()
    application.go.set()
    limit = limited(application, waiting=0)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="broken"):
            call(limit, breaks=True)

    assert call(limit)[0] == "200 OK"


def test_who_looks_at_the_ticket_of_a_user_called_apply_stands_in_the_api_s_line() -> None:
    """The look needs a connection of PostgreSQL, which is the place's."""
    application = Application()
    limit = limited(application, waiting=0)
    with threads() as pool:
        pool.submit(call, limit)
        wait_until(lambda: application.inside == 1, what="the API's place is taken")

        assert call(limit, "/api/v1/campaigns/x/tickets/apply")[0] == "503 Service Unavailable"
        application.go.set()


def test_a_place_hands_its_database_connection_on() -> None:
    """So that PostgreSQL sees as many connections as places, and not as many as threads."""
    seen: list[int] = []

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        seen.append(id(connections["default"]))
        connections["default"].validate_thread_sharing()
        start_response("200 OK", [])
        return [b""]

    limit = limited(application)
    for _ in range(5):
        thread = threading.Thread(target=call, args=(limit,))
        thread.start()
        thread.join()

    assert len(seen) == 5
    assert len(set(seen)) == 1


def test_bin_web_has_a_thread_for_each_that_may_be_inside_and_counts_as_the_settings_do() -> None:
    script = (ROOT / "bin" / "web").read_text()
    applications, places, waiting = (
        int(re.findall(rf'{name}="\$\{{{name}:-(\d+)}}"', script)[0])
        for name in ("COUPON_WEB_APPLICATIONS", "COUPON_WEB_THREADS", "COUPON_WEB_QUEUE")
    )
    line = r"threads=\$\(\(COUPON_WEB_APPLICATIONS \+ COUPON_WEB_THREADS \+ 2 \* COUPON_WEB_QUEUE \+ (\d+)\)\)"
    more = int(re.findall(line, script)[0])

    assert (applications, places, waiting) == (settings.WEB_APPLICATIONS, settings.WEB_THREADS, settings.WEB_QUEUE)
    assert applications + places + 2 * waiting + more == threads_needed(
        applications=applications, places=places, waiting=waiting
    )
