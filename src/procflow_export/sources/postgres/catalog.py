"""What a PostgreSQL catalog says about a selection.

Owns the questions.  Must not know how rows are read.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import asyncpg

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.keys import Indexes
from procflow_export.model.plan import Query, Relation, Selection
from procflow_export.model.types import Column
from procflow_export.sources import sql
from procflow_export.sources.failures import checked_names, not_found
from procflow_export.sources.port import TableProfile
from procflow_export.sources.postgres.session import Connection, translated
from procflow_export.sources.postgres.types import NUMERIC, ElementFacts, column

# The chain of domains under a column ends in a type that is not a domain; the innermost modifier that is set counts.
_RESOLVE: Final = """
    WITH RECURSIVE described AS ({described}),
    chain AS (
        SELECT d.number, d.name, d.type, d.typmod, d.dimensions, d.native_type FROM described AS d
        UNION ALL
        SELECT c.number, c.name, t.typbasetype, CASE WHEN c.typmod = -1 THEN t.typtypmod ELSE c.typmod END,
               greatest(c.dimensions, t.typndims), c.native_type
        FROM chain AS c JOIN pg_catalog.pg_type AS t ON t.oid = c.type
        WHERE t.typtype = 'd'
    )
    SELECT c.name::text AS name, t.typname::text AS base_type, n.nspname = 'pg_catalog' AS is_builtin,
           CASE WHEN e.typarray = t.oid THEN 'A' ELSE t.typtype::text END AS category,
           c.native_type, c.typmod, c.dimensions, e.typname::text AS element_type, e.typtype::text AS element_category,
           s.nspname = 'pg_catalog' AS is_element_builtin
    FROM chain AS c
    JOIN pg_catalog.pg_type AS t ON t.oid = c.type AND t.typtype <> 'd'
    JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
    LEFT JOIN pg_catalog.pg_type AS e ON e.oid = t.typelem
    LEFT JOIN pg_catalog.pg_namespace AS s ON s.oid = e.typnamespace
    ORDER BY c.number
"""

_RELATION: Final = _RESOLVE.format(
    described="""
        SELECT a.attnum::int AS number, a.attname AS name, a.atttypid AS type, a.atttypmod AS typmod,
               a.attndims::int AS dimensions, pg_catalog.format_type(a.atttypid, a.atttypmod) AS native_type
        FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
    """
)

_QUERY: Final = _RESOLVE.format(
    described="""
        SELECT d.number::int AS number, d.name AS name, d.type AS type, -1 AS typmod,
               0 AS dimensions, pg_catalog.format_type(d.type, NULL) AS native_type
        FROM unnest($1::text[], $2::oid[]) WITH ORDINALITY AS d (name, type, number)
    """
)

# The server reads its own names of types better than any pattern does.  A prepared query shows no domains, a view does.
_SAME_TYPES: Final = """
    WITH RECURSIVE chain AS (
        SELECT p.number, p.agreed = p.found AS is_same, pg_catalog.to_regtype(p.agreed)::oid AS type,
               pg_catalog.to_regtype(p.found)::oid AS found
        FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS p (agreed, found, number)
        UNION ALL
        SELECT c.number, c.is_same, t.typbasetype, c.found
        FROM chain AS c JOIN pg_catalog.pg_type AS t ON t.oid = c.type
        WHERE t.typtype = 'd'
    )
    SELECT coalesce(bool_or(c.is_same OR c.type = c.found), FALSE) AS is_same
    FROM chain AS c
    GROUP BY c.number
    ORDER BY c.number
"""

# NOT NULL holds where this server checks every row: in tables, by a constraint that is validated (PostgreSQL 18 has others),
# and in all tables under it.  Not in views, not in foreign tables, and not by a domain, whose values an outer join makes
# NULL, and an INSERT of its result stores (see CREATE DOMAIN).
_NOT_NULL: Final = """
    WITH RECURSIVE tree AS (
        SELECT pg_catalog.to_regclass($1)::oid AS oid
        UNION
        SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN tree ON i.inhparent = tree.oid
    )
    SELECT a.attname::text AS name
    FROM tree
    JOIN pg_catalog.pg_class AS c ON c.oid = tree.oid
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    GROUP BY a.attname
    HAVING count(*) = (SELECT count(*) FROM tree) AND bool_and(
        a.attnotnull AND c.relkind IN ('r', 'p') AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_constraint AS k
            WHERE k.conrelid = c.oid AND k.contype = 'n' AND NOT k.convalidated AND a.attnum = ANY (k.conkey)
        )
    )
"""

# What an index offers: a unique one identifies rows if it is whole (no predicate, no expression) and valid, and if the table
# has no children, whose rows it would not know.  Further columns (INCLUDE) identify nothing.
_INDEXES: Final = """
    SELECT ARRAY(
               SELECT a.attname::text
               FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, number)
               LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
               WHERE k.number <= i.indnkeyatts
               ORDER BY k.number
           ) AS columns,
           i.indisunique AND i.indexprs IS NULL
               AND (c.relkind = 'p' OR NOT EXISTS (
                   SELECT FROM pg_catalog.pg_inherits AS h WHERE h.inhparent = c.oid)) AS is_unique,
           m.amname = 'btree' AS is_ordered
    FROM pg_catalog.pg_index AS i
    JOIN pg_catalog.pg_class AS c ON c.oid = i.indrelid
    JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
    JOIN pg_catalog.pg_am AS m ON m.oid = x.relam
    WHERE i.indrelid = pg_catalog.to_regclass($1) AND i.indisvalid AND i.indisready AND i.indislive AND i.indpred IS NULL
    ORDER BY i.indisprimary DESC, i.indexrelid
"""


async def relation_profile(connection: Connection, relation: Relation) -> TableProfile:
    """Return the profile of a table or view.

    Raises:
        SourceError: If it is not there.
    """
    name = sql.POSTGRES.relation(relation)
    with translated(connection):
        if await connection.fetchval("SELECT pg_catalog.to_regclass($1)::oid", name) is None:
            raise not_found(relation)
        # First, because it waits for the lock: what is asked afterwards is the shape that no one changes meanwhile.
        row_estimate = await _row_estimate(connection, relation)
        columns = await relation_columns(connection, relation)
        not_null = {row["name"] for row in await connection.fetch(_NOT_NULL, name)}
        indexes = await connection.fetch(_INDEXES, name)
        is_filtered = await connection.fetchval(
            "SELECT pg_catalog.row_security_active(pg_catalog.to_regclass($1))", name
        )
    columns = tuple(replace(entry, is_nullable=entry.name not in not_null) for entry in columns)
    checked_names((entry.name for entry in columns), relation)
    return TableProfile(
        columns=columns,
        row_estimate=row_estimate,
        indexes=Indexes(
            # An expression has no name, so it is in no set of names either.
            unique_keys=tuple(
                tuple(row["columns"]) for row in indexes if row["is_unique"] and not_null.issuperset(row["columns"])
            ),
            leading_columns=frozenset(
                row["columns"][0] for row in indexes if row["is_ordered"] and row["columns"][0] is not None
            ),
        ),
        notes=(f"row security hides the rows of {relation} that this user may not see",) if is_filtered else (),
    )


async def query_profile(connection: Connection, query: Query) -> TableProfile:
    """Return the profile of a query; its numerics are text, because the driver does not show their precision.

    The query is prepared, not run.

    Raises:
        SourceError: If the server does not accept it.
    """
    columns = await query_columns(connection, query)
    return TableProfile(columns=columns, row_estimate=await _row_estimate(connection, query))


async def relation_columns(connection: Connection, relation: Relation) -> tuple[Column, ...]:
    """Return the columns that a table or view has now, as if all may be NULL; none if it is not there."""
    with translated(connection):
        rows = await connection.fetch(_RELATION, sql.POSTGRES.relation(relation))
    return tuple(map(_column, rows))


async def query_columns(connection: Connection, query: Query) -> tuple[Column, ...]:
    """Return the columns that a query has now, their types without modifiers; the tables that it names are locked.

    Raises:
        SourceError: If the server does not accept it as one statement with columns of different names.
    """
    with translated(connection):
        statement = await connection.prepare(sql.POSTGRES.body(query))
        if statement.get_parameters():
            raise SourceError(
                Code.SOURCE_QUERY_INVALID, "the query has parameters such as $1, which nothing gives a value"
            )
        attributes = statement.get_attributes()
        names = list(checked_names((entry.name for entry in attributes), query))
        rows = await connection.fetch(_QUERY, names, [entry.type.oid for entry in attributes])
    return tuple(map(_column, rows))


async def same_types(connection: Connection, pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Return for each pair of native types whether the first is the second or a domain over it, modifiers aside."""
    with translated(connection):
        rows = await connection.fetch(_SAME_TYPES, [agreed for agreed, _ in pairs], [found for _, found in pairs])
    return [row["is_same"] for row in rows]


async def precise_query_columns(connection: Connection, query: Query) -> tuple[Column, ...]:
    """Return the columns of a query with the precision of its numerics.

    The driver does not show the type modifiers that the server describes; a view records them.  The view is temporary and
    its transaction is rolled back, so nobody else ever sees it; but it needs a transaction that may write, and the TEMPORARY
    privilege.

    Raises:
        SourceError: If the user may not, the server is a standby, or a view cannot have such columns.
    """
    view = f"procflow_{secrets.token_hex(8)}"
    name = sql.POSTGRES.identifier(view)
    with translated(connection):
        await connection.execute(f"CREATE TEMPORARY VIEW {name} AS {sql.POSTGRES.body(query)}")
        rows = await connection.fetch(_RELATION, f"pg_temp.{name}")
    return tuple(map(_column, rows))


def has_unknown_precision(profile: TableProfile) -> bool:
    """Return whether a numeric of a query is text only because its modifier is not known."""
    return any(entry.native_type == NUMERIC for entry in profile.columns)


async def _row_estimate(connection: Connection, selection: Selection) -> int | None:
    """Return the planner's estimate: it knows the present size of the files, and works for views and queries alike."""
    with translated(connection):
        plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {sql.POSTGRES.from_item(selection)}")
    try:
        return int(json.loads(plan)[0]["Plan"]["Plan Rows"])
    except (ValueError, LookupError, TypeError):
        return None


def _column(row: asyncpg.Record) -> Column:
    element = None
    if row["category"] == "A":
        element = ElementFacts(
            base_type=row["element_type"],
            is_builtin=row["is_element_builtin"],
            category=row["element_category"],
            dimensions=row["dimensions"],
        )
    return column(
        row["name"],
        base_type=row["base_type"],
        is_builtin=row["is_builtin"],
        category=row["category"],
        native_type=row["native_type"],
        typmod=row["typmod"],
        is_nullable=True,
        element=element,
    )
