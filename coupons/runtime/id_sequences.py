"""Sets id sequences right that lag behind their tables, as a restore or a move by logical replication leaves them.

Then PostgreSQL chooses ids that are taken. That says something about the table and nothing about what is inserted, so
no ticket may be refused for it. The keeper looks every round; whoever meets it first heals it and repeats.
"""

import logging
from collections.abc import Callable, Iterator
from functools import wraps
from typing import ParamSpec, TypeVar

from django.apps import apps
from django.db import IntegrityError, connection, transaction
from django.db.models import AutoField, Model

from coupons.errors import RetryLater, one_line

logger = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

# One past the last id that the sequence gave, and one past the highest id of the table.
_NEXT_IDS = """
SELECT last_value + is_called::int, (SELECT coalesce(max({id}), 0) + 1 FROM {table}) FROM {sequence}
"""


class IdSequenceBehind(RetryLater):
    """PostgreSQL chose an id that is taken, also after its sequence was set right."""


def heals_id_sequences(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates a function that does one whole transaction: called once more when it met an id that is taken.

    Raises IdSequenceBehind when that was not enough, and a database error when the table could not be locked.
    """

    @wraps(function)
    def healed(*args: P.args, **named: P.kwargs) -> R:
        try:
            return function(*args, **named)
        except IntegrityError as error:
            if not is_id_taken(error):
                raise
            heal_id_sequences()
        try:
            return function(*args, **named)
        except IntegrityError as error:
            if not is_id_taken(error):
                raise
            raise IdSequenceBehind(one_line(error)) from error

    return healed


def is_id_taken(error: IntegrityError) -> bool:
    """Whether a primary key that PostgreSQL itself chose was there already."""
    constraint = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
    return constraint in {f"{model._meta.db_table}_pkey" for model in _models()}


def heal_id_sequences(*models: type[Model]) -> list[str]:
    """Move every sequence (or those of these models) that lags behind its table to the table's highest id; returns the
    tables. Must not run inside a transaction that has failed.
    """
    healed = []
    for model in models or _models():
        if _sequence(model) is None:
            continue  # ids come by another way, as of a table that was made by hand
        chosen, free = _next_ids(model)
        if chosen >= free:
            continue
        with transaction.atomic(), connection.cursor() as cursor:
            # An insert takes its id under this table's lock, so none is chosen between the look and the move.
            cursor.execute(f"LOCK TABLE {_quoted(model._meta.db_table)} IN SHARE ROW EXCLUSIVE MODE")
            chosen, free = _next_ids(model)
            if chosen < free:
                cursor.execute("SELECT setval(%s, %s, false)", [_sequence(model), free])
                healed.append(model._meta.db_table)
                logger.error("id_sequence.healed table=%s from=%d to=%d", model._meta.db_table, chosen, free)
    return healed


def _models() -> Iterator[type[Model]]:
    """Those whose ids PostgreSQL chooses."""
    for model in apps.get_models(include_auto_created=True):
        if isinstance(model._meta.pk, AutoField) and not model._meta.proxy:
            yield model


def _next_ids(model: type[Model]) -> tuple[int, int]:
    names = {
        "id": _quoted(model._meta.pk.column),
        "table": _quoted(model._meta.db_table),
        "sequence": _sequence(model),
    }
    with connection.cursor() as cursor:
        cursor.execute(_NEXT_IDS.format(**names))
        chosen, free = cursor.fetchone()
    return int(chosen), int(free)


def _sequence(model: type[Model]) -> str | None:
    """As PostgreSQL writes it, quoted where that is needed; None when the column has none."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_serial_sequence(%s, %s)",
            [_quoted(model._meta.db_table), str(model._meta.pk.column)],
        )
        sequence: str | None = cursor.fetchone()[0]
    return sequence


def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)
