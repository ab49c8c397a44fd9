"""Which statements read a chunk: one, or several short ones that follow each other.

Owns the choice, and that a piece is only asked for where the server reads nothing else for it.  Must not know how rows travel.

A chunk is read the way in which the server would read it at once.  Where it would look at every page, pieces are ranges of
pages, which needs no key (see ``pages``).  Where it would use an index, and for many rows, they are ranges of a key: the index says with
which key one ends.  Both need a snapshot: in two states a row may be in two pieces, or in none.

Finding the end of a piece costs a tenth of reading it, so nobody looks for one in a chunk that the server expects to be small;
and where rows do not lie in the order of the key, and the index alone does not tell which of them are visible, more than
reading it: there the server would rather sort, and the rest of the chunk is one statement.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Final

from procflow_export.model.keys import KeyValues
from procflow_export.model.plan import Relation, TableChunk
from procflow_export.sources import sql
from procflow_export.sources.literals import key_values
from procflow_export.sources.pieces import KeyPieces, Pacer, key_pieces
from procflow_export.sources.port import MIB, ChunkRequest, KeySearch, ReadStatistics
from procflow_export.sources.postgres import session
from procflow_export.sources.postgres.pages import FIRST_PAGES, MOST_PAGES, in_pages, page_count
from procflow_export.sources.postgres.plans import planned
from procflow_export.sources.postgres.session import Connection
from procflow_export.sources.postgres.wire import WireFormat

FIRST_BYTES: Final = 16 * MIB
"""Size of the first piece by a key, by what the server's statistics say of rows: the chunks of most tables are one piece."""
_IN_ORDER: Final = frozenset({"Index Scan", "Index Only Scan"})
_BY_INDEX: Final = _IN_ORDER | {"Bitmap Index Scan", "Result"}


async def statements(
    connection: Connection, request: ChunkRequest, wire: WireFormat, statistics: ReadStatistics
) -> AsyncGenerator[str, None]:
    """Give the statements that read a chunk together, each when the one before is done.

    Args:
        connection: In the transaction that reads the chunk.
        request: The chunk.
        wire: How its rows travel.
        statistics: Is told of the statements that find out where a piece ends.
    """
    whole = _statement(request, wire, request.chunk)
    pages, pieces = None, None
    # The statement itself is planned too: that locks the partitions and the views' tables that it reads.
    if request.snapshot is None or not isinstance(request.selection, Relation):
        await session.hold(connection, whole)
    else:
        plan = await planned(connection, whole)
        if plan.scans == {"Seq Scan"}:
            pages = await page_count(connection, request.selection, request.chunk)
        # Where a text may be any bytes, so may a key, and the driver reads neither it nor a plan with it.
        elif plan.scans <= _BY_INDEX and plan.row_count > (rows := FIRST_BYTES // plan.row_bytes):
            pieces = key_pieces(request, rows) if session.knows_texts(connection) else None
    await session.send_texts_as_stored(connection)
    if pages is not None:
        for statement in _by_pages(request, wire, pages):
            yield statement
    elif pieces is not None:
        async for statement in _by_key(connection, request, wire, pieces, statistics):
            yield statement
    else:
        yield whole


def _statement(request: ChunkRequest, wire: WireFormat, *chunks: TableChunk, also: Iterable[str] = ()) -> str:
    carried = [column.carried() for column in request.columns]
    return sql.POSTGRES.select(request.selection, wire.select_list(carried), *chunks, also=also)


def _by_pages(request: ChunkRequest, wire: WireFormat, pages: int) -> Iterator[str]:
    pacer = Pacer(first=FIRST_PAGES, most=MOST_PAGES)
    low, high = 0, pacer.width
    while low < pages:
        started = time.monotonic()
        # The last piece has no end: that no row lies behind it need not be proven.
        yield _statement(request, wire, request.chunk, also=[in_pages(low, high if high < pages else None)])
        pacer.note(time.monotonic() - started)
        low, high = high, high + pacer.width


async def _by_key(
    connection: Connection, request: ChunkRequest, wire: WireFormat, pieces: KeyPieces, statistics: ReadStatistics
) -> AsyncGenerator[str, None]:
    while (last := await _last_key(connection, pieces.search, statistics)) is not None:
        piece = _statement(request, wire, *pieces.until(last))
        if not (await planned(connection, piece)).scans <= _BY_INDEX:
            break
        started = time.monotonic()
        yield piece
        pieces.go_on_behind(last, time.monotonic() - started)
    yield _statement(request, wire, *pieces.rest)


async def _last_key(connection: Connection, search: KeySearch, statistics: ReadStatistics) -> KeyValues | None:
    """Return the last key of a piece; ``None`` if there are fewer rows, or the server would sort what is left to find it."""
    statement = sql.POSTGRES.nth_key(search)
    if not (await planned(connection, statement)).scans <= _IN_ORDER:
        return None
    with statistics.statement():
        row = await connection.fetchrow(statement)
    return None if row is None else key_values(search.within.key, row)
