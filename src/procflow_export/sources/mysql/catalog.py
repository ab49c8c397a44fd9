"""What MySQL and MariaDB say about a selection.

Owns the questions.  Must not know how rows are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Query, Relation, Selection
from procflow_export.model.types import Column
from procflow_export.sources import sql
from procflow_export.sources.failures import checked_names, not_found, unreadable_bounds
from procflow_export.sources.mysql.session import translated
from procflow_export.sources.mysql.types import INTEGER_CODES, WireField, column, has_fixed_digits, is_geometry
from procflow_export.sources.mysql.wire import WireConnection
from procflow_export.sources.port import KeyBounds, TableProfile

# A key must identify every row: a unique index on one whole column that is never NULL.
_KEY: Final = """
    SELECT c.COLUMN_NAME
    FROM information_schema.STATISTICS AS s
    JOIN information_schema.COLUMNS AS c
      ON c.TABLE_SCHEMA = s.TABLE_SCHEMA AND c.TABLE_NAME = s.TABLE_NAME AND c.COLUMN_NAME = s.COLUMN_NAME
    WHERE s.TABLE_SCHEMA = {schema} AND s.TABLE_NAME = %s AND s.NON_UNIQUE = 0 AND s.SUB_PART IS NULL
      AND c.IS_NULLABLE = 'NO' AND c.DATA_TYPE IN ('tinyint', 'smallint', 'mediumint', 'int', 'bigint')
      AND NOT EXISTS (
          SELECT 1 FROM information_schema.STATISTICS AS o
          WHERE o.TABLE_SCHEMA = s.TABLE_SCHEMA AND o.TABLE_NAME = s.TABLE_NAME AND o.INDEX_NAME = s.INDEX_NAME
            AND o.SEQ_IN_INDEX > 1)
    ORDER BY s.INDEX_NAME <> 'PRIMARY', s.INDEX_NAME
    LIMIT 1
"""


async def profile(connection: WireConnection, selection: Selection) -> TableProfile:
    """Return the profile of a selection.

    Raises:
        SourceError: If it is not there, or the server does not accept it.
    """
    if isinstance(selection, Query):
        columns = await query_columns(connection, selection)
        if not can_stand_alone(columns):
            refuse_changes_by_wrapping(columns, selection)
        return TableProfile(columns=columns, row_estimate=await _plan_rows(connection, selection), integer_key=None)
    return await _relation_profile(connection, selection)


async def query_columns(connection: WireConnection, query: Query) -> tuple[Column, ...]:
    """Return the columns of a query as it stands, without running it.

    Raises:
        SourceError: If the server does not accept it as one statement with columns of different names.
    """
    with translated():
        fields = await connection.described(sql.strip_statement_end(query.text))
    checked_names((field.name for field in fields), query)
    return columns_of(fields)


def columns_of(fields: Sequence[WireField]) -> tuple[Column, ...]:
    """Return the columns of a query's result."""
    return tuple(column(field, native_type=None, is_nullable=True) for field in fields)


def can_stand_alone(columns: Sequence[Column]) -> bool:
    """Whether a query's rows can be read as they come: geometry needs an expression around it."""
    return not any(is_geometry(column) for column in columns)


def refuse_changes_by_wrapping(columns: Sequence[Column], query: Query) -> None:
    """Refuse a query that can only be read as a derived table, when that may change its values.

    Raises:
        SourceError: If a column has a fixed number of digits.
    """
    for found in columns:
        if has_fixed_digits(found):
            raise SourceError(
                Code.TYPE_NOT_SUPPORTED,
                f"the column {found.name!r} of {query} is {found.native_type}: read in chunks, or beside geometry, the"
                f" server may cut its values; write `CAST(… AS DOUBLE) AS {found.name}` in the query",
            )


async def result_fields(connection: WireConnection, selection: Relation) -> Sequence[WireField]:
    """Return the columns of a table as the server describes them, without reading a row.

    Raises:
        SourceError: If the server does not accept it as one statement with columns of different names.
    """
    with translated():
        fields, rows = await connection.start_rows(f"SELECT * FROM {sql.MYSQL.from_item(selection)} LIMIT 0")
        while await rows.receive():
            pass
    checked_names((field.name for field in fields), selection)
    return fields


async def rows_of(
    connection: WireConnection, statement: str, parameters: Sequence[object] = ()
) -> list[list[str | None]]:
    """Return all rows of a small result as texts."""
    with translated():
        async with connection.cursor() as cursor:
            await cursor.execute(statement, tuple(parameters) or None)
            return [list(row) for row in await cursor.fetchall()]


async def key_bounds(connection: WireConnection, selection: Selection, name: str) -> KeyBounds:
    """Return the lowest and the highest key, and whether any is NULL.

    Raises:
        SourceError: If there is no such column, its type is no integer type, or the query cannot be read in chunks.
    """
    if isinstance(selection, Query):
        refuse_changes_by_wrapping(await query_columns(connection, selection), selection)
    with translated():
        async with connection.cursor() as cursor:
            await cursor.execute(sql.MYSQL.bounds(selection, name))
            types = [entry[1] for entry in cursor.description]
            ((low, high),) = await cursor.fetchall()
    # By type, not by how values look: '9' is above '10' in a text column.
    if not INTEGER_CODES.issuperset(types):
        raise unreadable_bounds(name, "not of an integer type")
    nulls = await rows_of(connection, sql.MYSQL.null_presence(selection, name))
    return KeyBounds(
        low=None if low is None else int(low), high=None if high is None else int(high), has_nulls=bool(nulls)
    )


async def _relation_profile(connection: WireConnection, relation: Relation) -> TableProfile:
    schema, arguments = _named(relation)
    described = await rows_of(
        connection,
        "SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE FROM information_schema.COLUMNS"
        f" WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = %s",
        arguments,
    )
    if not described:
        raise not_found(relation)
    catalog = {name: (native_type, is_nullable != "NO") for name, native_type, is_nullable in described}
    columns = []
    for field in await result_fields(connection, relation):
        native_type, is_nullable = catalog.get(field.name, (None, True))
        columns.append(column(field, native_type=native_type, is_nullable=is_nullable))
    keys = await rows_of(connection, _KEY.format(schema=schema), arguments)
    estimates = await rows_of(
        connection,
        f"SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = %s",
        arguments,
    )
    estimate = estimates[0][0] if estimates else None
    return TableProfile(
        columns=tuple(columns),
        row_estimate=await _plan_rows(connection, relation) if estimate is None else int(estimate),
        integer_key=keys[0][0] if keys else None,
    )


async def _plan_rows(connection: WireConnection, selection: Selection) -> int | None:
    """Return the planner's estimate for a selection that reads one table; ``None`` where a plan has several steps."""
    with translated():
        async with connection.cursor() as cursor:
            await cursor.execute(f"EXPLAIN SELECT 1 FROM {sql.MYSQL.from_item(selection)}")
            names = [entry[0] for entry in cursor.description]
            steps = await cursor.fetchall()
    if len(steps) != 1 or "rows" not in names:
        return None
    rows = steps[0][names.index("rows")]
    return None if rows is None else int(rows)


def _named(relation: Relation) -> tuple[str, tuple[str, ...]]:
    """Return the SQL for a relation's database, and the parameters for database and table."""
    if relation.schema is None:
        return "DATABASE()", (relation.table,)
    return "%s", (relation.schema, relation.table)
