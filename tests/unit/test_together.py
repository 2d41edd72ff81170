"""Questions of several threads in one go: nobody waits for company or is forgotten, each gets its own answer."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import pytest

from coupons.admission.together import NotAnswered, Together
from tests.support.waiting import wait_until

LONG_SEC = 20.0


class Server:
    """Answers n with 10 n, when it may; keeps what it was asked in one go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.error: Exception | None = None

    def ask(self, questions: Sequence[int]) -> list[int]:
        self.batches.append(list(questions))
        assert self.may_answer.wait(LONG_SEC)
        if self.error is not None:
            raise self.error
        return [10 * question for question in questions]


def waiting(together: Together[int, int]) -> int:
    return len(together._waiting)


def test_who_is_alone_asks_at_once_for_itself() -> None:
    server = Server()
    together = Together(server.ask, most=8)

    assert [together(number, wait_sec=LONG_SEC) for number in (1, 2)] == [10, 20]
    assert server.batches == [[1], [2]]


def test_who_comes_while_an_answer_is_under_way_is_in_the_next_batch_of_at_most_so_many() -> None:
    server = Server()
    together = Together(server.ask, most=3)
    server.may_answer.clear()
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(together, 0, wait_sec=LONG_SEC)
        wait_until(lambda: server.batches == [[0]], what="the first asks")
        others = [pool.submit(together, number, wait_sec=LONG_SEC) for number in range(1, 8)]
        wait_until(lambda: waiting(together) == 7, what="the others wait")
        server.may_answer.set()

        assert first.result(LONG_SEC) == 0
        assert [other.result(LONG_SEC) for other in others] == [10 * number for number in range(1, 8)]
    assert [len(batch) for batch in server.batches] == [1, 3, 3, 1]
    assert sorted(chain.from_iterable(server.batches)) == list(range(8))
    assert together(9, wait_sec=LONG_SEC) == 90, "nobody leads when all have gone"


def test_an_error_is_for_all_who_asked_or_waited_and_not_for_those_who_come_later() -> None:
    server = Server()
    together = Together(server.ask, most=2)
    server.may_answer.clear()
    server.error = ConnectionError("it hangs")
    with ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(together, 0, wait_sec=LONG_SEC)]
        wait_until(lambda: server.batches == [[0]], what="the first asks")
        calls += [pool.submit(together, number, wait_sec=LONG_SEC) for number in range(1, 5)]
        wait_until(lambda: waiting(together) == 4, what="the others wait")
        server.may_answer.set()

        for call in calls:
            with pytest.raises(ConnectionError, match="it hangs"):
                call.result(LONG_SEC)
    server.error = None
    assert server.batches == [[0]]
    assert together(7, wait_sec=LONG_SEC) == 70


def test_too_few_answers_are_an_error_and_nobody_waits_for_ever() -> None:
    together: Together[int, int] = Together(lambda questions: [], most=8)

    with pytest.raises(ValueError, match="shorter"):
        together(1, wait_sec=LONG_SEC)
    with pytest.raises(ValueError, match="shorter"):
        together(1, wait_sec=LONG_SEC)


def test_who_waits_in_vain_goes_and_the_others_are_asked_for_without_it() -> None:
    server = Server()
    together = Together(server.ask, most=8)
    server.may_answer.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(together, 1, wait_sec=LONG_SEC)
        wait_until(lambda: server.batches == [[1]], what="the first asks")
        patient = pool.submit(together, 2, wait_sec=LONG_SEC)
        wait_until(lambda: waiting(together) == 1, what="one waits")

        with pytest.raises(NotAnswered):
            together(3, wait_sec=0.05)
        server.may_answer.set()
        assert (first.result(LONG_SEC), patient.result(LONG_SEC)) == (10, 20)
    assert server.batches == [[1], [2]]


def test_who_is_given_the_lead_in_the_moment_when_its_time_is_up_asks_for_those_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server()
    together = Together(server.ask, most=8)
    server.may_answer.clear()
    withdraw = together._withdraw

    def too_late(mine: Any) -> bool:
        wait_until(lambda: waiting(together) == 2, what="another one behind it")
        server.may_answer.set()
        wait_until(lambda: mine.leads, what="the lead is given to it")
        return withdraw(mine)

    monkeypatch.setattr(together, "_withdraw", too_late)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(together, 1, wait_sec=LONG_SEC)
        wait_until(lambda: server.batches == [[1]], what="the first asks")
        hasty = pool.submit(together, 2, wait_sec=0.05)
        wait_until(lambda: waiting(together) == 1, what="one waits")
        behind = pool.submit(together, 3, wait_sec=LONG_SEC)

        assert [call.result(LONG_SEC) for call in (first, hasty, behind)] == [10, 20, 30]
    assert server.batches == [[1], [2, 3]]
    assert together(4, wait_sec=LONG_SEC) == 40


def test_sixteen_threads_get_each_its_own_answer_to_each_question() -> None:
    together = Together(Server().ask, most=8)

    def many(thread: int) -> bool:
        numbers = range(thread * 1_000, thread * 1_000 + 500)
        return all(together(number, wait_sec=LONG_SEC) == 10 * number for number in numbers)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(many, range(16)))
