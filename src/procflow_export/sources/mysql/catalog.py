"""What MySQL and MariaDB say about a selection.

Owns the questions.  Must not know how rows are read.
"""

from __future__ import annotations

from collections.abc import Sequence

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.keys import Indexes
from procflow_export.model.plan import Everything, Query, Relation, Selection
from procflow_export.model.types import Column
from procflow_export.sources import sql
from procflow_export.sources.columns.choices import is_still
from procflow_export.sources.failures import checked_names, not_found, schema_changed
from procflow_export.sources.mysql.session import translated
from procflow_export.sources.mysql.types import (
    WireField,
    column,
    has_fixed_digits,
    is_geometry,
    projection,
    travels_as_text,
)
from procflow_export.sources.mysql.wire import WireConnection
from procflow_export.sources.port import TableProfile


async def profile(connection: WireConnection, selection: Selection) -> TableProfile:
    """Return the profile of a selection.

    Raises:
        SourceError: If it is not there, or the server does not accept it.
    """
    if isinstance(selection, Query):
        columns = await query_columns(connection, selection)
        if not can_stand_alone(columns):
            refuse_changes_by_wrapping(columns, selection)
        return TableProfile(columns=columns, row_estimate=await _plan_rows(connection, selection))
    return await _relation_profile(connection, selection)


async def query_columns(connection: WireConnection, query: Query) -> tuple[Column, ...]:
    """Return the columns of a query as it stands, without running it.

    Raises:
        SourceError: If the server does not accept it as one statement with columns of different names.
    """
    with translated():
        fields = await connection.described(sql.MYSQL.body(query))
    checked_names((field.name for field in fields), query)
    return columns_of(fields)


def columns_of(fields: Sequence[WireField]) -> tuple[Column, ...]:
    """Return the columns of a query's result."""
    return tuple(column(field, native_type=None, is_nullable=True) for field in fields)


def can_stand_alone(columns: Sequence[Column]) -> bool:
    """Whether a query's rows can be read as they come: geometry, and numbers as text, need an expression around them."""
    return not any(is_geometry(column) or travels_as_text(column) for column in columns)


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


def require_still(
    relation: Relation, columns: Sequence[Column], fields: Sequence[WireField], *, is_binary: bool
) -> None:
    """Make sure that a table's columns have the types that they were planned with.

    What is sent would often fit the old type: a number as a decimal of fewer digits, a moment as its day.  Columns that are
    sent as an expression tell nothing of their own type.

    Args:
        relation: The table.
        columns: As planned, in the order of the SELECT list.
        fields: What the server sends for them.
        is_binary: Whether the rows are sent in binary form.

    Raises:
        DataError: If one has another type.
    """
    for planned, field in zip(columns, fields, strict=True):
        now = column(field, native_type=planned.native_type, is_nullable=True)
        is_bare = projection(planned.carried(), is_binary=is_binary) == sql.MYSQL.identifier(planned.name)
        if is_bare and not is_still(planned, now):
            raise schema_changed(relation, planned, f"was {planned.native_type} and has another type now")


async def result_fields(
    connection: WireConnection, selection: Relation, also: Sequence[str] = ()
) -> Sequence[WireField]:
    """Return the columns of a table as the server describes them, without reading a row.

    Args:
        connection: Where to ask.
        selection: The table.
        also: Its columns that ``*`` does not stand for.

    Raises:
        SourceError: If the server does not accept it as one statement with columns of different names.
    """
    with translated():
        statement = sql.MYSQL.select(
            selection, ["*", *map(sql.MYSQL.identifier, also)], Everything(), suffix=" LIMIT 0"
        )
        fields, rows = await connection.start_rows(statement)
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


async def plan_of(connection: WireConnection, statement: str) -> list[dict[str, str | None]]:
    """Return the steps in which the server would do a statement, by the names of EXPLAIN in lower case."""
    return await _named_rows(connection, f"EXPLAIN {statement}")


async def primary_key(connection: WireConnection, relation: Relation) -> tuple[str | None, ...]:
    """Return the columns of the primary key; none if there is no such key."""
    parts = await _show_index(connection, relation)
    return tuple(part["column_name"] for part in parts if part["key_name"] == "PRIMARY")


async def character_sets(connection: WireConnection, relation: Relation) -> dict[str | None, str | None]:
    """Return the character set of each column, ``None`` for one that holds no texts."""
    schema, arguments = _named(relation)
    rows = await rows_of(
        connection,
        "SELECT COLUMN_NAME, CHARACTER_SET_NAME FROM information_schema.COLUMNS"
        f" WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = %s",
        arguments,
    )
    return {row[0]: row[1] for row in rows}


async def engine_of(connection: WireConnection, relation: Relation) -> str | None:
    """Return the storage engine of a table; ``None`` for a view."""
    schema, arguments = _named(relation)
    rows = await rows_of(
        connection,
        f"SELECT ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = %s",
        arguments,
    )
    return rows[0][0] if rows else None


async def may_reload(connection: WireConnection) -> bool:
    """Return whether the user has the RELOAD privilege."""
    rows = await rows_of(
        connection, "SELECT 1 FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE = 'RELOAD' LIMIT 1"
    )
    return bool(rows)


async def _relation_profile(connection: WireConnection, relation: Relation) -> TableProfile:
    schema, arguments = _named(relation)
    described = await rows_of(
        connection,
        "SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, EXTRA FROM information_schema.COLUMNS"
        f" WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION",
        arguments,
    )
    if not described:
        raise not_found(relation)
    catalog = {name: (native_type, is_nullable != "NO") for name, native_type, is_nullable, _ in described}
    # Both servers leave them out of `*`, and so would the export, silently.
    invisible = [name for name, _, _, extra in described if name and "INVISIBLE" in (extra or "").split()]
    columns = []
    for field in await result_fields(connection, relation, invisible):
        native_type, is_nullable = catalog.get(field.name, (None, True))
        columns.append(column(field, native_type=native_type, is_nullable=is_nullable))
    estimates = await rows_of(
        connection,
        f"SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = %s",
        arguments,
    )
    estimate = estimates[0][0] if estimates else None
    return TableProfile(
        columns=tuple(columns),
        row_estimate=await _plan_rows(connection, relation) if estimate is None else int(estimate),
        indexes=await _indexes(connection, relation),
    )


async def _indexes(connection: WireConnection, relation: Relation) -> Indexes:
    """Return what a table's indexes offer; a view has none.

    ``SHOW INDEX`` and not the information schema, whose columns differ: MySQL 8 says there that an index is invisible or
    of an expression, MariaDB that it is ignored, MySQL 5.7 knows neither.
    """
    unique: dict[str, list[str | None]] = {}
    leading: set[str] = set()
    for part in await _show_index(connection, relation):
        column = part["column_name"]
        is_whole = part["sub_part"] is None
        if part["non_unique"] == "0":
            is_key = is_whole and part["null"] != "YES"
            unique.setdefault(part["key_name"] or "", []).append(column if is_key else None)
        is_used = part.get("visible", "YES") == "YES" and part.get("ignored", "NO") == "NO"
        if (
            part["seq_in_index"] == "1"
            and part["index_type"] == "BTREE"
            and is_whole
            and is_used
            and column is not None
        ):
            leading.add(column)
    keys = sorted(unique.items(), key=lambda item: item[0] != "PRIMARY")
    return Indexes(
        unique_keys=tuple(
            tuple(key) for _, names in keys if len(key := [name for name in names if name]) == len(names)
        ),
        leading_columns=frozenset(leading),
    )


async def _show_index(connection: WireConnection, relation: Relation) -> list[dict[str, str | None]]:
    return await _named_rows(connection, f"SHOW INDEX FROM {sql.MYSQL.relation(relation)}")


async def _named_rows(connection: WireConnection, statement: str) -> list[dict[str, str | None]]:
    with translated():
        async with connection.cursor() as cursor:
            await cursor.execute(statement)
            names = [str(entry[0]).lower() for entry in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]


async def _plan_rows(connection: WireConnection, selection: Selection) -> int | None:
    """Return the planner's estimate for a selection that reads one table; ``None`` where a plan has several steps."""
    steps = await plan_of(connection, f"SELECT 1 FROM {sql.MYSQL.from_item(selection)}")
    rows = steps[0].get("rows") if len(steps) == 1 else None
    return None if rows is None else int(rows)


def _named(relation: Relation) -> tuple[str, tuple[str, ...]]:
    """Return the SQL for a relation's database, and the parameters for database and table."""
    if relation.schema is None:
        return "DATABASE()", (relation.table,)
    return "%s", (relation.schema, relation.table)
