"""Parameters of a query, as SQLite binds them.

Owns what SQLite's own ``:name`` does not do: a list is spread over one placeholder a value, and a view, which cannot bind, has
NULLs in their places.  Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from procflow_export.model.plan import Query, Scalar, Selection
from procflow_export.model.settings import SourceType
from procflow_export.model.statements import filled

Bound: TypeAlias = Mapping[str, Scalar]
"""A value for each placeholder of a statement."""


def bind(selection: Selection) -> tuple[Selection, Bound]:
    """Return a selection whose placeholders are of one value each, and these values."""
    if not isinstance(selection, Query):
        return selection, {}
    spread: dict[str, str] = {}
    values: dict[str, Scalar] = {}
    for name, value in selection.parameters.items():
        if isinstance(value, tuple):
            # No parameter of a configuration has a dollar sign in its name.
            items = {f"{name}${index}": item for index, item in enumerate(value)}
            spread[name] = ", ".join(f":{item}" for item in items)
            values |= items
        else:
            values[name] = value
    return Query(text=filled(selection.text, SourceType.SQLITE, spread)), values


def without_values(query: Query) -> Query:
    """Return a query of the same columns and no placeholders, for where nothing can be bound: NULL takes their places."""
    return Query(text=filled(query.text, SourceType.SQLITE, dict.fromkeys(query.parameters, "NULL")))
