"""Users in a hurry: each applies over HTTP, on a number of threads, until the answer is final."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import urllib3

REQUEST_TIMEOUT_SEC = 10.0
LONGEST_WAIT_SEC = 1.0
NOT_FINAL = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a user was told in the end. `sent_at`: the first request, in seconds since 1970."""

    user_id: str
    sent_at: float
    status: int
    code: str
    sequence: int | None

    @property
    def admitted(self) -> bool:
        return self.status in (200, 202)


class Crowd:
    """`start()`, look at `admitted` and `refused` until `finished`; then `answers` has one for each user."""

    def __init__(self, *, url: str, api_key: str, users: Sequence[str], threads: int, patience_sec: float) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._waiting = iter(users)
        self._patience_sec = patience_sec
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._pool = urllib3.PoolManager(maxsize=threads, block=True, retries=False, timeout=REQUEST_TIMEOUT_SEC)
        self._start = threading.Barrier(threads)
        self._threads = [threading.Thread(target=self._apply_all, daemon=True) for _ in range(threads)]
        self.answers: list[Answer] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()

    @property
    def finished(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def admitted(self) -> int:
        return sum(answer.admitted for answer in list(self.answers))

    @property
    def refused(self) -> int:
        return len(self.answers) - self.admitted

    def _apply_all(self) -> None:
        self._start.wait()
        while not self._stopped.is_set():
            with self._lock:
                user_id = next(self._waiting, None)
            if user_id is None:
                return
            self.answers.append(self._apply(user_id))

    def _apply(self, user_id: str) -> Answer:
        """Repeats on 503 and on a broken connection: a POST is idempotent by campaign and user."""
        sent_at, deadline = time.time(), time.monotonic() + self._patience_sec
        while True:
            wait_sec = LONGEST_WAIT_SEC / 4
            try:
                response = self._pool.request("POST", self._url, json={"user_id": user_id}, headers=self._headers)
            except urllib3.exceptions.HTTPError as error:
                answer = Answer(user_id, sent_at, 0, type(error).__name__, None)
            else:
                answer = _read(response, user_id, sent_at)
                wait_sec = min(_retry_after_sec(response) or wait_sec, LONGEST_WAIT_SEC)
            if answer.status not in NOT_FINAL | {0} or time.monotonic() > deadline or self._stopped.is_set():
                return answer
            self._stopped.wait(wait_sec)


def _read(response: urllib3.BaseHTTPResponse, user_id: str, sent_at: float) -> Answer:
    try:
        document = response.json()
    except ValueError:
        document = {}
    return Answer(user_id, sent_at, response.status, document.get("code", ""), document.get("sequence"))


def _retry_after_sec(response: urllib3.BaseHTTPResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None
