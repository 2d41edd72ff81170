"""Notes in Redis, a little later and many at once, where the messages of tickets lie in the topic."""

import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from coupons.admission.gate import PlaceOf, mark_published
from coupons.errors import RetryLater
from coupons.per_process import PerProcess
from coupons.positions import Position

logger = logging.getLogger(__name__)
MAX_WAITING = 100_000
# So long for others to come along: each write is synced to disk, so one a winner would cost Redis as much again.
GATHER_SEC = 0.05


class Place(Protocol):
    """Whose ticket it is, and the epoch of its message: messaging's Ticket, and anything else with these."""

    @property
    def campaign_id(self) -> UUID: ...
    @property
    def user_id(self) -> str: ...
    @property
    def sequence(self) -> int: ...
    @property
    def epoch(self) -> int | None: ...


Mark = tuple[Place, Position]


class PublishedMarks:
    """A thread that writes the marks, so that neither a request nor Kafka's delivery reports wait for Redis.

    A mark that is lost (Redis down, process killed) costs one more message of the same ticket, never a coupon: the
    repeat or the relay publishes it again and the consumer skips the duplicate.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Mark | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="published-marks", daemon=True)
        self._thread.start()

    def note(self, place: Place) -> Callable[[Position], None]:
        """For when the message of this ticket is acknowledged: a function that has its place marked."""

        def mark(position: Position) -> None:
            if place.epoch is None:
                return
            if self._waiting.qsize() < MAX_WAITING:
                self._waiting.put((place, position))
            else:
                logger.warning("marks.dropped reason=queue-full")

        return mark

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join(timeout=5)

    def _write_all(self) -> None:
        open_ = True
        while open_:
            marks = [self._waiting.get()]
            time.sleep(GATHER_SEC)
            while len(marks) < 1_000 and not self._waiting.empty():
                marks.append(self._waiting.get_nowait())
            open_ = None not in marks
            self._write([mark for mark in marks if mark is not None])

    def _write(self, marks: list[Mark]) -> None:
        together: dict[tuple[UUID, int], dict[PlaceOf, Position]] = defaultdict(dict)
        for place, position in marks:
            together[place.campaign_id, place.epoch or 0][place.user_id, place.sequence] = position
        for (campaign_id, epoch), positions in together.items():
            try:
                mark_published(campaign_id=campaign_id, epoch=epoch, positions=positions)
            except RetryLater as error:
                logger.warning("marks.dropped count=%d error=%s", len(positions), error)


published_marks = PerProcess(PublishedMarks, close=PublishedMarks.close)
