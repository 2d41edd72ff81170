"""Asks several servers at once, so that one which hangs does not hide what the others say."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TypeVar

from django.db import connection

from coupons.runtime.db_timeouts import answers_within

T = TypeVar("T")


def ask_all(questions: Mapping[str, Callable[[], T]], *, timeout_sec: float) -> dict[str, Future[T]]:
    """Returns each answer after `timeout_sec` at the latest, done or not. A question that hangs longer ends by its own
    time-out."""
    pool = ThreadPoolExecutor(len(questions), thread_name_prefix="ask")
    answers = {name: pool.submit(partial(_ask, question, timeout_sec)) for name, question in questions.items()}
    pool.shutdown(wait=False)
    wait(answers.values(), timeout=timeout_sec)
    return answers


def _ask(question: Callable[[], T], timeout_sec: float) -> T:
    try:
        with answers_within(timeout_sec):
            return question()
    finally:
        connection.close()  # this thread's own
