"""Repeats a step of a coupon's life that somebody overtook who does not hold the lock of the coupon's row.

The program itself always holds it (redeem.py). PostgreSQL's constraints are for whoever does not: a statement by hand,
an older or a newer version. What they refuse is no defect of the request, whose repeat finds what the other has done.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from django.db import IntegrityError

from coupons.errors import RetryLater

P = ParamSpec("P")
R = TypeVar("R")
CONSTRAINTS: Final = frozenset({"redemption_one_live", "redemption_one_per_order", "couponevent_revoked_once"})


class Overtaken(RetryLater):
    """Somebody has changed the coupon since it was read. Nothing was written, and a repeat may succeed."""


def repeats_if_overtaken(function: Callable[P, R]) -> Callable[P, R]:
    """Repeats a function, which must be one whole transaction, once. Raises Overtaken if it is overtaken again."""

    @wraps(function)
    def repeated(*args: P.args, **named: P.kwargs) -> R:
        with suppress(Overtaken), _naming_constraints():
            return function(*args, **named)
        with _naming_constraints():
            return function(*args, **named)

    return repeated


@contextmanager
def _naming_constraints() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        refused_by = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
        if refused_by not in CONSTRAINTS:
            raise
        raise Overtaken(f"{refused_by}: others change this coupon at the same time") from error
