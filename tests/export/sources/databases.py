"""Databases that tests fill: the other side of a source, on connections of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from procflow_export.model.keys import KeyKind, KeyPart
from procflow_export.model.plan import Everything, KeyRange, NullKeys, Query, Relation, Selection, Snapshot, TableChunk
from procflow_export.model.settings import SourceConfig, SourceType, Tuning, TuningProfile
from procflow_export.model.types import Column, arrow_schema
from procflow_export.planning.keys import Facts
from procflow_export.sources import ChunkRequest, ReadStatistics, Source, open_source
from procflow_export.sources.port import KeySearch
from tools.pytest_servers import mariadb_execute, mariadb_rows, postgres_execute, postgres_rows

FAST = Tuning(profile=TuningProfile.FAST)


class Database(Protocol):
    """A database with a source that reads it."""

    kind: str
    quote: str
    integer: str
    """The widest signed integer type."""

    @property
    def config(self) -> SourceConfig: ...

    def execute(self, *statements: str) -> None: ...

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What a statement gives."""
        ...

    def numbers(self, count: int) -> str:
        """A query for the numbers 1 to ``count`` in a column ``n``."""
        ...


class PostgresDatabase:
    kind = "postgres"
    quote = '"'
    integer = "bigint"

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def config(self) -> SourceConfig:
        return SourceConfig(type=SourceType.POSTGRES, url=self.url, tuning=FAST)

    def execute(self, *statements: str) -> None:
        # In a thread of its own: this one may be running a loop already.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(postgres_execute, self.url, *statements).result()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(postgres_rows, self.url, statement).result()

    def numbers(self, count: int) -> str:
        return f"SELECT n FROM generate_series(1, {count}) AS g (n)"


class MariaDatabase:
    kind = "mysql"
    quote = "`"
    integer = "bigint"

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def config(self) -> SourceConfig:
        return SourceConfig(type=SourceType.MYSQL, url=self.url, tuning=FAST)

    def execute(self, *statements: str) -> None:
        mariadb_execute(self.url, *statements)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return mariadb_rows(self.url, statement)

    def numbers(self, count: int) -> str:
        return f"SELECT CAST(seq AS signed) AS n FROM seq_1_to_{count}"


class MysqlDatabase(MariaDatabase):
    """MySQL itself, where a run was given one."""

    def numbers(self, count: int) -> str:
        digits = " UNION ALL ".join(f"SELECT {digit} AS d" for digit in range(10))
        places = range(len(str(count)))
        sums = " + ".join(f"p{place}.d * {10**place}" for place in places)
        tables = ", ".join(f"({digits}) AS p{place}" for place in places)
        return f"SELECT n FROM (SELECT {sums} AS n FROM {tables}) AS g WHERE n BETWEEN 1 AND {count} ORDER BY n"


class SqliteDatabase:
    kind = "sqlite"
    quote = '"'
    integer = "integer"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA user_version = 1")

    @property
    def config(self) -> SourceConfig:
        return SourceConfig(type=SourceType.SQLITE, path=str(self.path), tuning=FAST)

    def execute(self, *statements: str, parameters: Sequence[Any] = ()) -> None:
        for statement in statements:
            self._connection.execute(statement, parameters)

    def close(self) -> None:
        self._connection.close()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement).fetchall()

    def numbers(self, count: int) -> str:
        return f"WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < {count}) SELECT n FROM g"


def opened(database: Database) -> AbstractAsyncContextManager[Source]:
    """The source of a database."""
    return open_source(database.config, environ={})


async def read(
    source: Source,
    selection: Selection | str,
    chunk: TableChunk | None = None,
    *,
    columns: Sequence[Column] | None = None,
    batch_rows: int = 1000,
    snapshot: Snapshot | None = None,
) -> pa.Table:
    """Everything that one chunk reader gives, as a table."""
    selection = Relation(table=selection) if isinstance(selection, str) else selection
    columns = (await source.profile(selection)).columns if columns is None else columns
    batches = []
    request = ChunkRequest(
        selection=selection,
        columns=tuple(columns),
        chunk=chunk or Everything(),
        batch_rows=batch_rows,
        row_key=row_key_of(chunk),
        snapshot=snapshot,
    )
    async with source.read_chunk(request, ReadStatistics()) as reader:
        async for batch in reader:
            assert 0 < batch.num_rows <= batch_rows
            batch.validate(full=True)
            batches.append(batch)
    return pa.Table.from_batches(batches, schema=arrow_schema(columns))


def row_key_of(chunk: TableChunk | None) -> tuple[str, ...]:
    """What a plan without unique keys names the rows of a chunk by."""
    return tuple(part.column for part in chunk.key) if isinstance(chunk, KeyRange) else ()


async def facts_of(source: Source, selection: Selection | str) -> Facts:
    """What a planner knows of a selection."""
    selection = Relation(table=selection) if isinstance(selection, str) else selection
    profile = await source.profile(selection)
    return Facts(
        selection=selection,
        columns=profile.columns,
        indexes=profile.indexes,
        row_estimate=profile.row_estimate,
    )


async def integer_bounds(source: Source, selection: Selection, column: str) -> tuple[int | None, int | None, bool]:
    """The lowest and the highest key of a column of integers, and whether any is NULL, as a planner asks for them."""
    key = (KeyPart(column=column, kind=KeyKind.INTEGER, is_nullable=True),)
    ends = [
        await source.find_key(KeySearch(selection=selection, within=KeyRange(key=key), is_from_end=is_from_end))
        for is_from_end in (False, True)
    ]
    low, high = (None if found is None else int(found[0].text) for found in ends)
    return low, high, await source.has_rows(selection, NullKeys(key=key))


@asynccontextmanager
async def reading(
    source: Source,
    selection: Selection,
    *,
    columns: Sequence[Column] | None = None,
    batch_rows: int = 1000,
    statistics: ReadStatistics | None = None,
) -> AsyncIterator[Any]:
    """A chunk reader over everything."""
    columns = (await source.profile(selection)).columns if columns is None else columns
    request = ChunkRequest(selection=selection, columns=tuple(columns), chunk=Everything(), batch_rows=batch_rows)
    async with source.read_chunk(request, statistics or ReadStatistics()) as reader:
        yield reader


def values(table: pa.Table, name: str = "id") -> list[Any]:
    """A column as Python values."""
    found: list[Any] = table[name].to_pylist()
    return found


def query(text: str) -> Query:
    return Query(text=text)
