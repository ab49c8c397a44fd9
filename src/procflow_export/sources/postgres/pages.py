"""A table in pieces of pages: short statements that need no key.

Owns which tables can be read that way, and the conditions.  Must not know how rows travel.

``ctid`` says where a row version is, and since release 14 a range of it is read without looking at other pages.  Inside one
snapshot every row has one version, in one place that nothing moves: ranges that follow each other hold each row once.  In two
states of a table a row may be in two places, or in none, so without a snapshot a table is read in one statement.

Whether the server would read only those pages is asked, not guessed: a plan that has anything else than TID range scans at
its leaves (an older release, another storage, a view, row security, a foreign partition) would read everything again for
each piece.  A range of a partitioned table is that range of every partition.

Price: such scans do not use the small ring of buffers that a sequential scan of a large table gets.
"""

from __future__ import annotations

from typing import Final

from procflow_export.model.plan import Relation, TableChunk
from procflow_export.sources import sql
from procflow_export.sources.postgres.plans import planned
from procflow_export.sources.postgres.session import Connection

TID_RANGE_VERSION: Final = 14
FIRST_PAGES: Final = 512
"""Pages of the first piece, 4 MiB."""
MOST_PAGES: Final = 16_384
"""Pages of any piece, 128 MiB: after an empty stretch nothing is known of what follows."""

_PAGES: Final = """
    WITH RECURSIVE tree AS (
        SELECT pg_catalog.to_regclass($1)::oid AS oid
        UNION
        SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN tree ON i.inhparent = tree.oid
    )
    SELECT max(pg_catalog.pg_relation_size(c.oid)) / pg_catalog.current_setting('block_size')::bigint AS pages,
           bool_and(c.relkind IN ('r', 'p', 'm')) AS is_stored
    FROM tree JOIN pg_catalog.pg_class AS c ON c.oid = tree.oid
"""


def in_pages(low: int, high: int | None) -> str:
    """Return the condition for the rows on pages ``low <= page < high``; ``None`` is the end of the table, wherever it is."""
    lower = f"ctid >= '({low},0)'::pg_catalog.tid"
    return lower if high is None else f"{lower} AND ctid < '({high},0)'::pg_catalog.tid"


async def page_count(connection: Connection, relation: Relation, chunk: TableChunk) -> int | None:
    """Return how many pages the largest part of a table has; ``None`` if a chunk cannot be read in pieces of them."""
    if connection.get_server_version().major < TID_RANGE_VERSION:
        return None
    row = await connection.fetchrow(_PAGES, sql.POSTGRES.relation(relation))
    if row is None or row["pages"] is None or not row["is_stored"]:
        return None
    pages = int(row["pages"])
    if pages <= FIRST_PAGES:
        return None  # one statement is short
    piece = sql.POSTGRES.select(relation, ["1"], chunk, also=[in_pages(0, FIRST_PAGES)])
    return pages if (await planned(connection, piece)).scans == {"Tid Range Scan"} else None
