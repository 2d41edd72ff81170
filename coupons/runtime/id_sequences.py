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

logger = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

# The next id of the sequence, and one past the highest id of the table.
NEXT_IDS = """
SELECT last_value + is_called::int, (SELECT coalesce(max({id}), 0) + 1 FROM {table}) FROM {sequence}
"""


def heals_id_sequences(function: Callable[P, R]) -> Callable[P, R]:
    """Repeats a function, which must be one whole transaction, once after it met an id that is taken. Raises a database
    error if the table cannot be locked."""

    @wraps(function)
    def healed(*args: P.args, **named: P.kwargs) -> R:
        try:
            return function(*args, **named)
        except IntegrityError as error:
            if not is_id_taken(error):
                raise
        heal_id_sequences()
        return function(*args, **named)

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
    with connection.cursor() as cursor:
        for model in models or _models():
            table, column = (connection.ops.quote_name(name) for name in (model._meta.db_table, model._meta.pk.column))
            cursor.execute("SELECT pg_get_serial_sequence(%s, %s)", [table, model._meta.pk.column])
            sequence = cursor.fetchone()[0]
            if sequence is None:
                continue  # the table was made by hand and has no sequence
            next_ids = NEXT_IDS.format(id=column, table=table, sequence=sequence)
            cursor.execute(next_ids)
            chosen, free = cursor.fetchone()
            if chosen >= free:
                continue
            with transaction.atomic():
                # Inserts choose their ids under this table's lock, so none chooses one between the query and the move.
                cursor.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
                cursor.execute(next_ids)
                chosen, free = cursor.fetchone()
                if chosen < free:
                    cursor.execute("SELECT setval(%s, %s, false)", [sequence, free])
                    healed.append(model._meta.db_table)
                    logger.error("id_sequence.healed table=%s from=%d to=%d", model._meta.db_table, chosen, free)
    return healed


def _models() -> Iterator[type[Model]]:
    """Yields the models whose ids PostgreSQL chooses."""
    for model in apps.get_models(include_auto_created=True):
        if isinstance(model._meta.pk, AutoField) and not model._meta.proxy:
            yield model
