"""Columns of many rows as PostgreSQL's text of an array, for `unnest`.

As one string an array is quoted once and is one constant to the parser; a Python list is as many as it has items, which
took four times as long (docs/decisions/0022).
"""

from collections.abc import Iterable


def array(items: Iterable[str]) -> str:
    """Of items without a meaning in an array's text: numbers, UUIDs, codes."""
    return "{" + ",".join(items) + "}"


def quoted_array(texts: Iterable[str]) -> str:
    """Of any texts: within the quotes only these two characters mean anything."""
    return array('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts)
