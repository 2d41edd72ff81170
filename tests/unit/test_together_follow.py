"""What follows from an answer begins in the thread that asked, and each caller is woken once, when that has ended."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coupons.admission.together import Together, Wake
from tests.support.waiting import wait_until

LONG_SEC = 20.0


def ten_times(questions: Sequence[int]) -> list[int | Exception]:
    return [ValueError(f"nobody knows {question}") if question < 0 else 10 * question for question in questions]


def ten_times_after(may_answer: threading.Event) -> Callable[[Sequence[int]], list[int | Exception]]:
    def slowly(questions: Sequence[int]) -> list[int | Exception]:
        assert may_answer.wait(LONG_SEC)
        return ten_times(questions)

    return slowly


class Follower:
    """Begins something for an answer, and ends it when the test says so."""

    def __init__(self) -> None:
        self.begun: dict[int, Wake] = {}
        self.threads: set[int] = set()
        self.may_begin = threading.Event()
        self.may_begin.set()
        self.error: Exception | None = None

    def begin(self, answer: int, wake: Wake) -> bool:
        assert self.may_begin.wait(LONG_SEC)
        self.threads.add(threading.get_ident())
        self.begun[answer] = wake
        if self.error is not None:
            raise self.error
        return True

    def has_begun(self, *answers: int) -> bool:
        return set(answers) <= self.begun.keys()


@pytest.fixture
def follower() -> Follower:
    return Follower()


def test_a_caller_returns_when_what_follows_has_ended_and_not_before(follower: Follower) -> None:
    together = Together(ten_times, most=8)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(together, 1, wait_sec=LONG_SEC, follow=follower.begin)
        wait_until(lambda: follower.has_begun(10), what="it has begun")
        assert not call.done()
        follower.begun[10]()

        assert call.result(LONG_SEC) == 10


def test_one_thread_begins_it_for_all_for_whom_it_asked(follower: Follower) -> None:
    may_answer = threading.Event()
    together = Together(ten_times_after(may_answer), most=8)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(together, 0, wait_sec=LONG_SEC)
        wait_until(lambda: together._led, what="the first asks")
        others = [pool.submit(together, n, wait_sec=LONG_SEC, follow=follower.begin) for n in range(1, 5)]
        wait_until(lambda: len(together._waiting) == 4, what="the others wait")
        may_answer.set()
        wait_until(lambda: follower.has_begun(10, 20, 30, 40), what="all have begun")
        assert len(follower.threads) == 1
        for wake in follower.begun.values():
            wake()

        assert first.result(LONG_SEC) == 0
        assert [other.result(LONG_SEC) for other in others] == [10, 20, 30, 40]


def test_the_next_one_asks_while_it_is_begun_for_those_before(follower: Follower) -> None:
    together = Together(ten_times, most=8)
    follower.may_begin.clear()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(together, 1, wait_sec=LONG_SEC, follow=follower.begin)
        wait_until(lambda: not together._led, what="the first has its answer")
        assert together(2, wait_sec=LONG_SEC) == 20
        assert not follower.begun
        follower.may_begin.set()
        wait_until(lambda: follower.has_begun(10), what="it has begun")
        follower.begun[10]()
        assert call.result(LONG_SEC) == 10


def test_what_it_raises_is_its_callers_and_nobody_elses(follower: Follower) -> None:
    together = Together(ten_times, most=8)
    follower.error = ConnectionError("the log is gone")
    with pytest.raises(ConnectionError, match="the log is gone"):
        together(1, wait_sec=LONG_SEC, follow=follower.begin)
    follower.begun[10]()  # too late, and no harm

    assert together(2, wait_sec=LONG_SEC) == 20


def test_an_answer_that_is_an_error_is_its_askers_alone_and_nothing_follows(follower: Follower) -> None:
    together = Together(ten_times, most=8)
    with pytest.raises(ValueError, match="nobody knows -1"):
        together(-1, wait_sec=LONG_SEC, follow=follower.begin)

    assert not follower.begun
    assert together(2, wait_sec=LONG_SEC) == 20


def test_when_the_time_is_up_the_answer_is_told_though_what_follows_has_not_ended(follower: Follower) -> None:
    together = Together(ten_times, most=8)

    assert together(1, wait_sec=0.05, follow=follower.begin) == 10
    assert follower.has_begun(10)


def test_who_waited_too_long_behind_another_gets_the_answer_that_came_meanwhile(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_answer = threading.Event()
    together = Together(ten_times_after(may_answer), most=8)
    withdraw = together._withdraw

    def when_answered(mine: Any) -> bool:
        wait_until(lambda: mine.answered, what="the answer")
        return withdraw(mine)

    monkeypatch.setattr(together, "_withdraw", when_answered)
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(together, 0, wait_sec=LONG_SEC)]
        wait_until(lambda: together._led, what="the first asks")
        calls.append(pool.submit(together, 1, wait_sec=LONG_SEC))
        wait_until(lambda: len(together._waiting) == 1, what="one waits, and is to ask next")
        hasty = pool.submit(together, 2, wait_sec=0.05, follow=follower.begin)
        wait_until(lambda: len(together._waiting) == 2, what="one more waits")
        may_answer.set()

        assert hasty.result(LONG_SEC) == 20, "Kafka did not acknowledge; Redis has answered"
        assert [call.result(LONG_SEC) for call in calls] == [0, 10]


def test_an_end_that_comes_at_once_is_no_earlier_than_its_beginning() -> None:
    def at_once(answer: int, wake: Wake) -> bool:
        wake()
        return True

    together = Together(ten_times, most=8)
    assert [together(number, wait_sec=LONG_SEC, follow=at_once) for number in range(3)] == [0, 10, 20]
