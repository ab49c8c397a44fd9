"""Whether what a chunk is about to read still has the shape that the planner resolved.

Owns the comparison, and the order in which a chunk's transaction takes its locks.  Must not read rows.

The rows of a changed table may well fit the old types: the bytes of a ``bytea`` are a valid text.  So types are compared,
not values, in the transaction that reads them and under the lock that keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence

from procflow_export.model.plan import Query, Selection
from procflow_export.model.types import Column, LogicalType
from procflow_export.sources import sql
from procflow_export.sources.columns.choices import is_still
from procflow_export.sources.failures import schema_changed
from procflow_export.sources.postgres import session
from procflow_export.sources.postgres.catalog import query_columns, relation_columns, same_types
from procflow_export.sources.postgres.session import Connection
from procflow_export.sources.postgres.types import NUMERIC


async def hold_shape(connection: Connection, selection: Selection, columns: Sequence[Column]) -> None:
    """Lock the shape of a selection, and make sure that it still has these columns.

    A query's numerics are taken for those of the plan whatever their precision: the server tells it only through a view
    (see ``precise_query_columns``), and the decoder refuses a value with more digits than the plan's.

    Raises:
        DataError: If one of ``columns`` is no longer there or has another type.
    """
    if isinstance(selection, Query):
        found = await query_columns(connection, selection)
    else:
        await session.hold(connection, f"SELECT 1 FROM {sql.POSTGRES.from_item(selection)} WHERE FALSE")
        found = await relation_columns(connection, selection)
    by_name = {column.name: column for column in found}
    missing = [column for column in columns if column.name not in by_name]
    if missing:
        raise schema_changed(selection, missing[0], "is no longer there")
    pairs = [(column, by_name[column.name]) for column in columns]
    if isinstance(selection, Query):
        is_same = await same_types(connection, [(agreed.native_type, now.native_type) for agreed, now in pairs])
        kept = [same and _has_equal_meaning(*pair) for pair, same in zip(pairs, is_same, strict=True)]
    else:
        # That NULL became possible is no change of types; a NULL itself is refused where it is written.
        kept = [is_still(agreed, now) for agreed, now in pairs]
    for (agreed, now), is_kept in zip(pairs, kept, strict=True):
        if not is_kept:
            raise schema_changed(selection, agreed, f"was {agreed.native_type} and is {now.native_type} now")


def _has_equal_meaning(agreed: Column, now: Column) -> bool:
    if agreed.chosen_from is not None:
        return agreed.chosen_from is now.logical_type or now.native_type == NUMERIC
    if now.native_type == NUMERIC:
        return agreed.logical_type is LogicalType.DECIMAL or agreed.arrow_type == now.arrow_type
    return agreed.logical_type is now.logical_type and agreed.arrow_type == now.arrow_type
