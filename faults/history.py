"""A history of users' and shops' requests and of events: one JSON line for each, with the answer of each request.

Times are seconds of CLOCK_MONOTONIC, which all processes of a Linux machine share. Each writer begins with an event
`clock` that has the wall clock's time. Several processes may append to one file: each line is one write.
"""

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROMISED = frozenset({200, 202})
NO_ANSWER = 0
NO_CONNECTION = "no-connection"
QUANTITY_CHANGED = "quantity-changed"
REBUILT = "rebuilt"
STOPPED_ADDRESS = "stopped_address"


class BrokenHistory(Exception):
    """A line before the last one cannot be read, so the file proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. Any effect began after `start`; any answer arrived before `end`.

    `attempt` counts the requests of one visit. `status` 0 means no answer, and `code` has the reason: a request with
    `no-connection` was never sent; any other may take effect, even later. `state` is the body's `status` of a promise
    (`pending`).
    """

    campaign_id: str
    user_id: str
    start: float
    end: float
    status: int
    attempt: int = 1
    code: str = ""
    sequence: int | None = None
    state: str = ""
    address: str = ""

    @property
    def promises(self) -> bool:
        return self.status in PROMISED

    @property
    def was_sent(self) -> bool:
        return not (self.status == NO_ANSWER and self.code == NO_CONNECTION)

    @property
    def may_have_admitted(self) -> bool:
        """Whether the request may have admitted the user: it was promised a coupon, or its outcome is unknown."""
        return self.promises or (self.was_sent and (self.status == NO_ANSWER or self.status >= 500))


class Action(StrEnum):
    """What a shop asks for."""

    LOOK_UP = "look-up"
    REDEEM = "redeem"
    HOLD = "hold"
    CONFIRM = "confirm"
    RETURN = "return"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """One request of a shop about the coupon of `user_id`, and its answer; times and `status` are those of a Request.

    `claimed_by` is the user whom a redemption names, `redemption_id` what a confirmation or a return names, and
    `hold_sec` how long a hold is to last. `body` is the answer; without one it has the reason as `code`. That of a
    look-up has the `coupon_code`.
    """

    action: Action
    campaign_id: str
    user_id: str
    start: float
    end: float
    status: int
    order_ref: str = ""
    claimed_by: str = ""
    redemption_id: str = ""
    hold_sec: float | None = None
    body: dict[str, Any] = field(default_factory=dict)
    address: str = ""

    @property
    def code(self) -> str:
        return str(self.body.get("code", ""))

    @property
    def was_sent(self) -> bool:
        return not (self.status == NO_ANSWER and self.code == NO_CONNECTION)

    @property
    def succeeded(self) -> bool:
        return self.status in (200, 201)

    @property
    def may_have_effect(self) -> bool:
        """Whether it has taken effect, or may have, even later."""
        return self.succeeded or (self.was_sent and (self.status == NO_ANSWER or self.status >= 500))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An action of an operator or a fault, between `start` and `end`. Without `campaign_id` it affects all campaigns.

    The checker reads `quantity-changed` (details `before`, `after`, and `failed` if the change was not made) and
    `rebuilt`; the others are only for readers. A detail `stopped_address` means that the process which listens there
    could not answer meanwhile.
    """

    what: str
    start: float
    end: float
    campaign_id: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class History:
    requests: list[Request]
    events: list[Event]
    checkouts: list[Checkout] = field(default_factory=list)

    def __add__(self, other: "History") -> "History":
        return History(self.requests + other.requests, self.events + other.events, self.checkouts + other.checkouts)

    def answer_seconds(self, *, since: float = 0.0, until: float = float("inf")) -> list[float]:
        """The sorted durations of the requests sent in this interval. One without an answer counts until the client
        gave up. Requests to a web process that was stopped meanwhile are left out."""
        asked = [request for request in self.requests if request.was_sent and since <= request.start < until]
        return sorted(request.end - request.start for request in asked if not self._hit_stopped_process(request))

    def time_of(self, what: str) -> tuple[float, float]:
        """The start of the first and the end of the last event with this name. Raises ValueError if there is none."""
        found = [event for event in self.events if event.what == what]
        return min(event.start for event in found), max(event.end for event in found)

    def _hit_stopped_process(self, request: Request) -> bool:
        return any(
            event.details.get(STOPPED_ADDRESS) == request.address
            and request.start < event.end
            and request.end > event.start
            for event in self.events
        )


class HistoryWriter:
    """Appends to a file. The operating system has the line when the call returns, so SIGKILL loses no written line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o644)
        _drop_torn_line(self._file)
        now = time.monotonic()
        self.event(Event(what="clock", start=now, end=now, details={"wall": time.time(), "pid": os.getpid()}))

    @classmethod
    def temporary(cls) -> Self:
        """Makes a writer with a new file, which the caller removes."""
        with tempfile.NamedTemporaryFile(prefix="history-", suffix=".jsonl", delete=False) as file:
            return cls(Path(file.name))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def request(self, request: Request) -> None:
        self._write({"request": asdict(request)})

    def checkout(self, checkout: Checkout) -> None:
        self._write({"checkout": asdict(checkout)})

    def event(self, event: Event) -> None:
        self._write({"event": asdict(event)})

    @contextmanager
    def during(self, what: str, *, campaign_id: object = None, **details: Any) -> Iterator[None]:
        """Writes an event that lasts for the block; also when the block raises."""
        start = time.monotonic()
        try:
            yield
        finally:
            named = None if campaign_id is None else str(campaign_id)
            self.event(Event(what=what, start=start, end=time.monotonic(), campaign_id=named, details=details))

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, document: Mapping[str, object]) -> None:
        os.write(self._file, json.dumps(document, separators=(",", ":")).encode() + b"\n")


def read_history(path: Path) -> History:
    """Reads all lines except a last one that a killed writer left unfinished. Raises BrokenHistory and OSError."""
    history = History([], [])
    *lines, last = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            _read_line(line, history)
        except (ValueError, TypeError, KeyError) as error:
            raise BrokenHistory(f"{path}, line {number}: {error}") from error
    if last:
        with suppress(ValueError, TypeError, KeyError):  # a torn line also has no newline
            _read_line(last, history)
    return history


def _read_line(line: bytes, history: History) -> None:
    document = json.loads(line)
    if "event" in document:
        history.events.append(Event(**document["event"]))
    elif "checkout" in document:
        values = document["checkout"]
        history.checkouts.append(Checkout(**{**values, "action": Action(values["action"])}))
    else:
        history.requests.append(Request(**document["request"]))


def _drop_torn_line(file: int) -> None:
    size = os.fstat(file).st_size
    while size > 0 and os.pread(file, 1, size - 1) != b"\n":
        size -= 1
    os.ftruncate(file, size)
