"""Paginates lists of up to ten million rows: counts only the rows that it would list."""

from typing import Any

from django.core.paginator import Paginator
from django.db import connections
from django.utils.functional import cached_property

MAX_LISTED = 10_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # Paginator takes no parameters at runtime
    """Lists the first MAX_LISTED rows. `capped` is true when there are more, and `estimate` is about how many."""

    object_list: Any  # a QuerySet: the admin passes nothing else

    @cached_property
    def count(self) -> int:
        return min(self._counted, MAX_LISTED)

    @property
    def capped(self) -> bool:
        return self._counted > MAX_LISTED

    @cached_property
    def estimate(self) -> int | None:
        """The planner's estimate for the whole table; None with a filter, or while there is no estimate yet."""
        query = self.object_list.query
        if not self.capped or query.where:
            return None
        with connections[self.object_list.db].cursor() as cursor:
            cursor.execute(
                "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass",
                [query.model._meta.db_table],
            )
            rows = int(cursor.fetchone()[0])
        return rows if rows > MAX_LISTED else None

    @cached_property
    def _counted(self) -> int:
        # The LIMIT ends the scan. In the list's order, the index of that order serves it; in none, PostgreSQL may scan
        # the table from its start and reach a recent campaign's rows only at the end.
        return int(self.object_list[: MAX_LISTED + 1].count())
