"""The demo's users: each applies over HTTP, on a pool of threads, until the answer is final."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import urllib3

REQUEST_TIMEOUT_SEC = 10.0
LONGEST_WAIT_SEC = 1.0
NOT_FINAL = frozenset({0, 429, 503})


@dataclass(frozen=True, slots=True)
class Answer:
    """A user's final answer; status 0 means no answer, and `code` has the reason. `sent_at`: seconds since 1970."""

    user_id: str
    sent_at: float
    status: int
    code: str
    sequence: int | None

    @property
    def admitted(self) -> bool:
        return self.status in (200, 202)


class Crowd:
    """A context manager: users 1 to `users` begin to apply at once. `answers` has one for each when `finished`."""

    def __init__(self, *, url: str, api_key: str, users: int, threads: int, give_up_after_sec: float) -> None:
        self._url, self._headers = url, {"Authorization": f"Bearer {api_key}"}
        self._give_up_after_sec = give_up_after_sec
        self._stopped = threading.Event()
        self._pool = urllib3.PoolManager(maxsize=threads, block=True, retries=False, timeout=REQUEST_TIMEOUT_SEC)
        self._threads = ThreadPoolExecutor(threads)
        self._futures = [self._threads.submit(self._apply, str(number)) for number in range(1, users + 1)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._threads.shutdown(cancel_futures=True)

    @property
    def answers(self) -> list[Answer]:
        return [future.result() for future in self._futures if future.done() and not future.cancelled()]

    @property
    def finished(self) -> bool:
        return all(future.done() for future in self._futures)

    def _apply(self, user_id: str) -> Answer:
        """Repeats on 429, 503 and a broken connection: a POST is idempotent by campaign and user."""
        sent_at, deadline = time.time(), time.monotonic() + self._give_up_after_sec
        while True:
            wait_sec = LONGEST_WAIT_SEC / 4
            try:
                response = self._pool.request("POST", self._url, json={"user_id": user_id}, headers=self._headers)
            except urllib3.exceptions.HTTPError as error:
                answer = Answer(user_id, sent_at, 0, type(error).__name__, None)
            else:
                answer = _read(response, user_id, sent_at)
                if (text := response.headers.get("Retry-After", "")).isdecimal():
                    wait_sec = min(float(text) or wait_sec, LONGEST_WAIT_SEC)
            if answer.status not in NOT_FINAL or time.monotonic() > deadline or self._stopped.is_set():
                return answer
            self._stopped.wait(wait_sec)


def _read(response: urllib3.BaseHTTPResponse, user_id: str, sent_at: float) -> Answer:
    try:
        document = response.json()
    except ValueError:
        document = {}
    return Answer(user_id, sent_at, response.status, document.get("code", ""), document.get("sequence"))
