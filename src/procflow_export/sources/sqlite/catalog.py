"""What a SQLite file says about its tables.

Owns the questions to the catalog.  Blocking: runs inside a database call.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from procflow_export.model.choices import Choices
from procflow_export.model.keys import Indexes
from procflow_export.model.plan import Query, Relation, Selection
from procflow_export.model.types import Column
from procflow_export.sources import sql
from procflow_export.sources.columns.choices import chosen_columns, has_type
from procflow_export.sources.failures import checked_names, not_found, schema_changed
from procflow_export.sources.parameters import bound, without_values
from procflow_export.sources.port import TableProfile
from procflow_export.sources.sqlite.types import declared_column, observed_column, offers

_QUERY_VIEW: Final = "procflow_query_columns"
_FINEST: Final = "BINARY"
"""The collation that takes nothing for equal but what is."""
_STORAGE_CLASSES: Final = ("integer", "real", "text", "blob")


def profile(connection: sqlite3.Connection, selection: Selection, choices: Choices) -> TableProfile:
    """Return the profile of a selection.

    Raises:
        ExportError: If it is not there, its columns cannot be exported, or a choice cannot be had.
    """
    if isinstance(selection, Query):
        return _profile_query(connection, selection, choices)
    described = _table_columns(connection, selection)
    if not described:
        raise not_found(selection)
    rowid_alias = _rowid_alias(connection, selection)
    never_null = {name for name, _, is_not_null in described if is_not_null or name == rowid_alias}
    columns = [(name, declared, name not in never_null) for name, declared, _ in described]
    return TableProfile(
        columns=_resolve(connection, selection, columns, choices, is_expression=_is_view(connection, selection)),
        row_estimate=_row_estimate(connection, selection),
        indexes=_indexes(connection, selection, rowid_alias, never_null),
    )


def _profile_query(connection: sqlite3.Connection, query: Query, choices: Choices) -> TableProfile:
    # A temporary view is the only way to a query's declared types; it lives in this connection's memory.
    view = sql.SQLITE.identifier(_QUERY_VIEW)
    connection.execute(f"CREATE TEMP VIEW {view} AS {sql.SQLITE.body(without_values(query))}")
    try:
        described = connection.execute(
            "SELECT name, type FROM pragma_table_xinfo(?, 'temp') ORDER BY cid", (_QUERY_VIEW,)
        ).fetchall()
    finally:
        connection.execute(f"DROP VIEW {view}")
    names = {name for name, _ in described}
    # The view renames the second column `a` to `a:1`.
    for name in names:
        base, _, number = str(name).rpartition(":")
        if number.isdigit() and base in names:
            checked_names((base, base), query)
    columns = [(str(name), str(declared or ""), True) for name, declared in described]
    return TableProfile(columns=_resolve(connection, query, columns, choices, is_expression=True), row_estimate=None)


def _table_columns(connection: sqlite3.Connection, relation: Relation) -> list[tuple[str, str, bool]]:
    # hidden: 1 is a hidden column of a virtual table, 2 and 3 are generated columns, which SELECT * gives as well.
    rows = connection.execute(
        'SELECT name, type, "notnull" FROM pragma_table_xinfo(?, ?) WHERE hidden <> 1 ORDER BY cid',
        (relation.table, relation.schema or "main"),
    )
    return [(str(name), str(declared or ""), bool(not_null)) for name, declared, not_null in rows]


def require_columns(connection: sqlite3.Connection, selection: Selection, columns: Sequence[Column]) -> None:
    """Make sure that a table still has its columns; what types their values have is seen from the values.

    Raises:
        SourceError: If the table is not there.
        DataError: If one of them is no longer there.
    """
    if isinstance(selection, Relation):
        names = {name for name, _, _ in _table_columns(connection, selection)}
        if not names:
            raise not_found(selection)
        for column in columns:
            if column.name not in names:
                raise schema_changed(selection, column, "is no longer there")


def _is_view(connection: sqlite3.Connection, relation: Relation) -> bool:
    schema = sql.SQLITE.identifier(relation.schema or "main")
    row = connection.execute(
        f"SELECT 1 FROM {schema}.sqlite_master WHERE name = ? COLLATE NOCASE AND type = 'view'", (relation.table,)
    ).fetchone()
    return row is not None


def _resolve(
    connection: sqlite3.Connection,
    selection: Selection,
    columns: list[tuple[str, str, bool]],
    choices: Choices,
    *,
    is_expression: bool,
) -> tuple[Column, ...]:
    checked_names((name for name, _, _ in columns), selection)
    found = {
        name: declared_column(name, declared, is_nullable=nullable, is_expression=is_expression)
        for name, declared, nullable in columns
    }
    open_names = [name for name, column in found.items() if column is None]
    classes = _observed_classes(connection, selection, open_names)
    resolved = [
        found[name] or observed_column(name, classes[name], is_nullable=nullable, is_chosen=has_type(choices.get(name)))
        for name, _, nullable in columns
    ]
    return chosen_columns(resolved, choices, offers)


def _observed_classes(
    connection: sqlite3.Connection, selection: Selection, names: list[str]
) -> dict[str, frozenset[str]]:
    """Return which storage classes the values of these columns have: one pass over the selection."""
    if not names:
        return {}
    expressions = [
        f"max(typeof({sql.SQLITE.identifier(name)}) = '{storage}')" for name in names for storage in _STORAGE_CLASSES
    ]
    row = connection.execute(sql.SQLITE.select(selection, expressions), bound(selection)).fetchone()
    width = len(_STORAGE_CLASSES)
    return {
        name: frozenset(
            storage for storage, seen in zip(_STORAGE_CLASSES, row[at * width : (at + 1) * width], strict=True) if seen
        )
        for at, name in enumerate(names)
    }


def _rowid_alias(connection: sqlite3.Connection, relation: Relation) -> str | None:
    """Return the INTEGER PRIMARY KEY that is the row's id itself: never NULL, always an integer."""
    schema = relation.schema or "main"
    keys = connection.execute(
        "SELECT name, type FROM pragma_table_xinfo(?, ?) WHERE pk > 0", (relation.table, schema)
    ).fetchall()
    if len(keys) != 1 or str(keys[0][1]).upper() != "INTEGER":
        return None
    # A primary key with an index of its own is not the row id (WITHOUT ROWID, or PRIMARY KEY DESC).
    has_index = connection.execute(
        "SELECT 1 FROM pragma_index_list(?, ?) WHERE origin = 'pk'", (relation.table, schema)
    ).fetchone()
    return None if has_index else str(keys[0][0])


def _indexes(
    connection: sqlite3.Connection, relation: Relation, rowid_alias: str | None, never_null: set[str]
) -> Indexes:
    """Return what a table's indexes offer; the row id itself is one, and orders the table.

    An index may compare otherwise than its column does.  One that tells keys apart which the column takes for equal is no key:
    behind the one, the other would never be found.
    """
    rows = connection.execute(
        """
        SELECT i.name, i."unique", i.partial, x.name, upper(x.coll)
        FROM pragma_index_list(:table, :schema) AS i
        JOIN pragma_index_xinfo(i.name, :schema) AS x ON x.key
        ORDER BY i.origin <> 'pk', i.seq, x.seqno
        """,
        {"table": relation.table, "schema": relation.schema or "main"},
    ).fetchall()
    keys = {column for _, is_unique, _, column, _ in rows if is_unique} & never_null
    collations = _collations(connection, relation, keys)
    found: dict[str, tuple[bool, list[str | None]]] = {}  # an expression has no name
    too_fine: set[str] = set()
    for index, is_unique, is_partial, column, collation in rows:
        if not is_partial:
            found.setdefault(str(index), (bool(is_unique), []))[1].append(column)
        if collations.get(column, _FINEST) not in {_FINEST, collation}:
            too_fine.add(str(index))
    rowid = () if rowid_alias is None else (rowid_alias,)
    return Indexes(
        unique_keys=tuple(
            tuple(key)
            for key in (
                [*rowid],
                *(columns for name, (is_unique, columns) in found.items() if is_unique and name not in too_fine),
            )
            if key and never_null.issuperset(key)
        ),
        leading_columns=frozenset({*rowid, *(name for _, (name, *_) in found.values() if name is not None)}),
    )


def _collations(connection: sqlite3.Connection, relation: Relation, names: set[str]) -> dict[str, str]:
    """Return how columns compare texts, which the catalog does not tell: by what a UNION behind them takes for equal.

    It compares as its leftmost member does (https://www.sqlite.org/lang_select.html#compound_select_statements).
    """
    table = sql.SQLITE.relation(relation)
    result = {}
    for name in names:
        union = f"SELECT {sql.SQLITE.identifier(name)} FROM {table} WHERE 0 UNION SELECT 'a' UNION SELECT"
        (counts,) = connection.execute(
            f"SELECT (SELECT count(*) FROM ({union} 'A')), (SELECT count(*) FROM ({union} 'a '))"
        )
        result[name] = {(1, 2): "NOCASE", (2, 1): "RTRIM"}.get(counts, _FINEST)
    return result


def _row_estimate(connection: sqlite3.Connection, relation: Relation) -> int | None:
    schema = sql.SQLITE.identifier(relation.schema or "main")
    try:
        row = connection.execute(
            f"SELECT stat FROM {schema}.sqlite_stat1 WHERE tbl = ? ORDER BY idx IS NOT NULL LIMIT 1", (relation.table,)
        ).fetchone()
        if row is not None:
            return int(str(row[0]).split()[0])
    except (sqlite3.OperationalError, ValueError, IndexError):
        pass  # ANALYZE was never run
    try:
        row = connection.execute(f"SELECT max(rowid) FROM {sql.SQLITE.relation(relation)}").fetchone()
    except sqlite3.OperationalError:
        return None  # a view, or a table without row ids
    return row[0] if isinstance(row[0], int) else 0
