"""Questions that threads of one process have at the same time, asked in one go: the first asks, who comes meanwhile is
in the next one.

Nobody waits for company: a thread that is alone asks at once, for itself. What gathers is what came while an answer was
under way, so the busier the process, the more to a round trip.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class NotAnswered(Exception):
    """The time was up: it was asked or not, nobody knows."""


class _Call(Generic[Question, Answer]):
    """One thread's question. `woken` is released when there is an answer or an error, or when it is to lead."""

    __slots__ = ("answer", "done", "error", "leads", "question", "woken")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.leads = self.done = False
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.woken = threading.Lock()
        self.woken.acquire()


class Together(Generic[Question, Answer]):
    """`ask` gets at most `most` questions and returns as many answers; what it raises, each of the askers gets.

    So do those who wait for their turn by then: a server that let one batch run into a time-out would let each of them.
    """

    def __init__(self, ask: Callable[[Sequence[Question]], Sequence[Answer]], *, most: int) -> None:
        self._ask = ask
        self._most = most
        self._lock = threading.Lock()
        self._led = False
        self._waiting: deque[_Call[Question, Answer]] = deque()

    def __call__(self, question: Question, *, wait_sec: float) -> Answer:
        """The answer to this question. Raises NotAnswered when others' and this one took longer than `wait_sec`."""
        mine: _Call[Question, Answer] = _Call(question)
        with self._lock:
            if self._led:
                self._waiting.append(mine)
            else:
                self._led = mine.leads = True
        if not mine.leads and not mine.woken.acquire(timeout=max(wait_sec, 0)) and self._withdraw(mine):
            raise NotAnswered
        if mine.leads:
            self._lead(mine)
        if mine.error is not None:
            raise mine.error
        return mine.answer  # type: ignore[return-value]  # there is no error, so it is there

    def _withdraw(self, mine: _Call[Question, Answer]) -> bool:
        """False: it is too late for that, its answer or the lead has just come."""
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
            return not (mine.leads or mine.done)

    def _lead(self, mine: _Call[Question, Answer]) -> None:
        """Ask for all who wait by now, then hand the lead on."""
        batch = [mine]
        with self._lock:
            while self._waiting and len(batch) < self._most:
                batch.append(self._waiting.popleft())
        try:
            answers = self._ask([call.question for call in batch])
            for call, answer in zip(batch, answers, strict=True):
                call.answer = answer
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
            for call in batch[1:]:  # this thread does not wait, and a lock is released once
                call.done = True
                call.woken.release()
            if following is not None:
                following.woken.release()
