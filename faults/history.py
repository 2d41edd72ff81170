"""What users asked and were told, and what happened meanwhile: JSON lines, one for each request and each event.

Times are seconds of CLOCK_MONOTONIC, which all processes of a Linux machine share; an event `clock` at the head of
each writer's lines says what the wall clock showed then. Several processes may append to one file: a line is one write.
"""

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
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
    """A line that is not the last one cannot be read: the file is no evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request: it took effect, if it did, after `start`; its answer, if there was one, was there before `end`.

    `attempt` counts the requests of one visit. `status` 0 = no answer, and `code` says why: `no-connection` was never
    sent; anything else may have had its effect, also later. `state` is the body's word for a promise (`pending`).
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
        """Whether it can have taken a place: it was promised one, or nobody knows."""
        return self.promises or (self.was_sent and (self.status == NO_ANSWER or self.status >= 500))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What an operator or a fault did, between `start` and `end`. Without `campaign_id` it concerns all.

    The checker reads `quantity-changed` (details `before`, `after`, and `failed` if it was not made) and `rebuilt`; all
    others are for people. A detail
    `stopped_address` says that the process which listens there could not answer anybody meanwhile.
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

    def __add__(self, other: "History") -> "History":
        return History(self.requests + other.requests, self.events + other.events)

    def answer_seconds(self, *, since: float = 0.0, until: float = float("inf")) -> list[float]:
        """How long each request took that was sent in this time. One without an answer counts until it was given up,
        but for those to a web process that was itself stopped meanwhile."""
        asked = [request for request in self.requests if request.was_sent and since <= request.start < until]
        return sorted(request.end - request.start for request in asked if not self._hit_stopped_process(request))

    def time_of(self, what: str) -> tuple[float, float]:
        """From when to when the events of this name were. Raises ValueError if there was none."""
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
    """Appends to a file. A line is with the operating system when the call returns: SIGKILL loses none before it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o644)
        _drop_torn_line(self._file)
        now = time.monotonic()
        self.event(Event(what="clock", start=now, end=now, details={"wall": time.time(), "pid": os.getpid()}))

    @classmethod
    def temporary(cls) -> Self:
        """Into a new file, which is the caller's to remove."""
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

    def event(self, event: Event) -> None:
        self._write({"event": asdict(event)})

    @contextmanager
    def during(self, what: str, *, campaign_id: object = None, **details: Any) -> Iterator[None]:
        """An event from now to the end of the block, written at its end, also when the block raises."""
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
    """All lines, but for a last one that a killed writer left unfinished. Raises BrokenHistory and OSError."""
    history = History([], [])
    *lines, last = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            _read_line(line, history)
        except (ValueError, TypeError, KeyError) as error:
            raise BrokenHistory(f"{path}, line {number}: {error}") from error
    if last:
        with suppress(ValueError, TypeError, KeyError):  # torn: it has no line's end either
            _read_line(last, history)
    return history


def _read_line(line: bytes, history: History) -> None:
    document = json.loads(line)
    if "event" in document:
        history.events.append(Event(**document["event"]))
    else:
        history.requests.append(Request(**document["request"]))


def _drop_torn_line(file: int) -> None:
    size = os.fstat(file).st_size
    while size > 0 and os.pread(file, 1, size - 1) != b"\n":
        size -= 1
    os.ftruncate(file, size)
