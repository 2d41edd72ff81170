"""Repairs id sequences that lag behind their tables, as a restore or a move by logical replication leaves them.

PostgreSQL then chooses ids that are taken. The table is at fault and not the row that is inserted, so no ticket may be
refused for it. The keeper checks every round; a function that meets the error first repairs it and repeats.
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

# The next id of the sequence, and one past the highest id of the table.
_NEXT_IDS = """
SELECT last_value + is_called::int, (SELECT coalesce(max({id}), 0) + 1 FROM {table}) FROM {sequence}
"""


class IdSequenceBehind(RetryLater):
    """PostgreSQL chose an id that is taken, even after the repair of its sequence."""


def heals_id_sequences(function: Callable[P, R]) -> Callable[P, R]:
    """Repeats a function, which must be one whole transaction, once after it met an id that is taken.

    Raises IdSequenceBehind if the repetition fails too, and a database error if the table cannot be locked.
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
    """Returns whether a primary key that PostgreSQL chose existed already."""
    constraint = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
    return constraint in {f"{model._meta.db_table}_pkey" for model in _models()}


def heal_id_sequences(*models: type[Model]) -> list[str]:
    """Moves each sequence (or those of the given models) that lags behind its table past the highest id there. Returns
    the tables. Must not run inside a failed transaction.
    """
    healed = []
    for model in models or _models():
        if _sequence(model) is None:
            continue  # the table was made by hand and has no sequence
        chosen, free = _next_ids(model)
        if chosen >= free:
            continue
        with transaction.atomic(), connection.cursor() as cursor:
            # Inserts choose their ids under this table's lock, so none chooses one between the query and the move.
            cursor.execute(f"LOCK TABLE {_quoted(model._meta.db_table)} IN SHARE ROW EXCLUSIVE MODE")
            chosen, free = _next_ids(model)
            if chosen < free:
                cursor.execute("SELECT setval(%s, %s, false)", [_sequence(model), free])
                healed.append(model._meta.db_table)
                logger.error("id_sequence.healed table=%s from=%d to=%d", model._meta.db_table, chosen, free)
    return healed


def _models() -> Iterator[type[Model]]:
    """Yields the models whose ids PostgreSQL chooses."""
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
    """Returns the sequence's name, quoted where needed; None if the column has no sequence."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_serial_sequence(%s, %s)",
            [_quoted(model._meta.db_table), str(model._meta.pk.column)],
        )
        sequence: str | None = cursor.fetchone()[0]
    return sequence


def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)
