"""Questions that threads of one process have at the same time, asked in one go: the first asks, who comes meanwhile is
in the next one.

Nobody waits for company: a thread that is alone asks at once, for itself. What gathers is what came while an answer was
under way, so the busier the process, the more to a round trip.

Waking a thread is what costs most here: it queues for the interpreter's lock behind all others. So what a caller would
do first with its answer, the thread that asked does for it (`Follow`), and the caller is woken once, by what comes
of that.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")

Wake = Callable[[], None]
Follow = Callable[[Answer, Wake], bool]
"""Begins what follows from an answer, in the thread that asked; it must not wait. True: somebody will call `Wake`,
from any thread, maybe before this returns. What it raises, the caller gets."""


class NotAnswered(Exception):
    """The time was up: it was asked or not, nobody knows."""


class _Call(Generic[Question, Answer]):
    """One thread's question. `woken` is released when there is nothing more to wait for, or when it is to lead."""

    __slots__ = ("answer", "answered", "error", "follow", "leads", "question", "woken")

    def __init__(self, question: Question, follow: Follow[Answer] | None) -> None:
        self.question = question
        self.follow = follow
        self.leads = self.answered = False
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.woken = threading.Lock()
        self.woken.acquire()

    def is_told(self, answer: Answer | Exception) -> None:
        if isinstance(answer, Exception):
            self.error = answer
        else:
            self.answer, self.answered = answer, True

    def wake(self) -> None:
        with suppress(RuntimeError):  # woken already
            self.woken.release()

    def begin_what_follows(self) -> None:
        """Or wake the caller at once, if that is nothing."""
        under_way = False
        try:
            if self.error is None and self.follow is not None:
                under_way = self.follow(self.answer, self.wake)  # type: ignore[arg-type]  # no error, so it is there
        except BaseException as error:  # noqa: BLE001  it is the caller's, and the others' turn has to come
            self.error = error
        if not under_way:
            self.wake()


class Together(Generic[Question, Answer]):
    """`ask` gets at most `most` questions and returns as many answers; one that is an exception is raised to its asker.
    What it raises, each of the askers gets.

    So do those who wait for their turn by then: a server that let one batch run into a time-out would let each of them.
    """

    def __init__(self, ask: Callable[[Sequence[Question]], Sequence[Answer | Exception]], *, most: int) -> None:
        self._ask = ask
        self._most = most
        self._lock = threading.Lock()
        self._led = False
        self._waiting: deque[_Call[Question, Answer]] = deque()

    def __call__(self, question: Question, *, wait_sec: float, follow: Follow[Answer] | None = None) -> Answer:
        """The answer to this question, once what follows from it has ended or `wait_sec` are over.

        Raises NotAnswered when there was no answer until then.
        """
        deadline = time.monotonic() + wait_sec
        mine: _Call[Question, Answer] = _Call(question, follow)
        with self._lock:
            if self._led:
                self._waiting.append(mine)
            else:
                self._led = mine.leads = True
                mine.woken.release()
        if not mine.woken.acquire(timeout=max(wait_sec, 0)) and self._withdraw(mine):
            raise NotAnswered
        if mine.leads:
            self._lead(mine)
            mine.woken.acquire(timeout=max(deadline - time.monotonic(), 0))
        if mine.error is not None:
            raise mine.error
        return mine.answer  # type: ignore[return-value]  # there is no error, so it is there

    def _withdraw(self, mine: _Call[Question, Answer]) -> bool:
        """False: it is too late for that, its answer or the lead has just come."""
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
            gone = not (mine.leads or mine.answered or mine.error is not None)
        if mine.leads:
            mine.woken.acquire()  # who has given it the lead is about to release it
        return gone

    def _lead(self, mine: _Call[Question, Answer]) -> None:
        """Ask for all who wait by now, hand the lead on, then begin what follows for each."""
        batch = [mine]
        with self._lock:
            while self._waiting and len(batch) < self._most:
                batch.append(self._waiting.popleft())
        try:
            answers = self._ask([call.question for call in batch])
            for call, answer in zip(batch, answers, strict=True):
                call.is_told(answer)
        except BaseException as error:  # noqa: BLE001  it is raised to each of them, this thread too
            with self._lock:
                batch += self._waiting
                self._waiting.clear()
            for call in batch:
                call.error = error
        finally:
            with self._lock:
                following = self._waiting.popleft() if self._waiting else None
                if following is None:
                    self._led = False
                else:
                    following.leads = True
            if following is not None:
                following.woken.release()
        for call in batch:
            call.begin_what_follows()
