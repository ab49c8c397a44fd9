"""The row forms of a real MariaDB: binary ones, and text where the server prepares no statements."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pyarrow as pa
import pytest

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Everything, KeyRange, Query, Relation
from procflow_export.model.types import OnInvalid, arrow_schema
from procflow_export.sources.failures import ValueRefusedError
from procflow_export.sources.mysql.decoding.decoder import PacketDecoder
from procflow_export.sources.mysql.source import MysqlSource
from procflow_export.sources.mysql.types import projection
from procflow_export.sources.mysql.wire import RowSource
from procflow_export.sources.port import ChunkRequest, ReadStatistics
from tests.export.sources.conftest import MYSQL_VARIABLE
from tests.export.sources.databases import MariaDatabase, MysqlDatabase, opened, read
from tests.export.sources.mysql_rows import decode_slowly
from tests.export.types.meaning import of_arrow, of_text
from tests.export.types.mysql_rows import ROWS
from tests.export.types.printed import texts_of
from tools.pytest_servers import mariadb_execute, with_database
from tools.servers import Owner, ServerUnavailableError, ensure, stop

pytestmark = pytest.mark.anyio

ZERO = "0000-00-00"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def unprepared() -> Iterator[MariaDatabase]:
    """A database of a server that prepares no statements: its administrator forbade it, or applications use up all there are."""
    holder = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = Owner.of(holder.pid)
    try:
        url = ensure("mariadb", owner, ["--max-prepared-stmt-count=0"])
        mariadb_execute(url, "CREATE DATABASE unprepared")
        yield MariaDatabase(with_database(url, "unprepared"))
    except ServerUnavailableError as exc:
        pytest.skip(str(exc))
    finally:
        stop(owner)
        holder.communicate(b"\n")


@pytest.fixture(params=["binary", "text"])
def database(request: pytest.FixtureRequest) -> MariaDatabase:
    """A database whose rows come in one form or the other."""
    found: MariaDatabase = request.getfixturevalue("mariadb" if request.param == "binary" else "unprepared")
    return found


async def test_a_server_that_prepares_nothing_is_read_all_the_same(unprepared: MariaDatabase) -> None:
    """E-1, E-20: every type of a table is exact also from text rows."""
    statements = ["SET time_zone = '+00:00'"]
    for number, row in enumerate(ROWS):
        statements.append(f"CREATE OR REPLACE TABLE t{number} (id int NOT NULL, v {row.native}) CHARACTER SET utf8mb4")
        rows = ", ".join(f"({at}, {literal})" for at, literal in enumerate(row.literals))
        statements.append(f"INSERT INTO t{number} VALUES {rows}, ({len(row.literals)}, NULL)")
    unprepared.execute(*statements)

    async with opened(unprepared) as source:
        for number, row in enumerate(ROWS):
            table = (await read(source, f"t{number}")).sort_by("id")
            assert table.schema.field("v").type == row.arrow_type, row.native
            texts = texts_of(unprepared.url, f"t{number}", "v", row)
            expected = [of_text(text, row.arrow_type) for _, text in sorted(texts.items())]
            assert of_arrow(table["v"]) == expected, row.native
        with pytest.raises(SourceError) as refused:
            await source.profile(Query(text="SELECT 1 AS a"))

    assert "1461" in refused.value.message


async def test_what_a_server_sends_is_what_the_slow_decoder_makes_of_it(mariadb: MariaDatabase) -> None:
    """E-23: the rows of a table with every type, in both forms as a server sends them, by column and cell by cell."""
    kinds = [(row.native, row.literals) for row in ROWS]
    columns = ", ".join(f"c{at} {sql_type} NULL" for at, (sql_type, _) in enumerate(kinds))
    rows = []
    for row in range(24):
        cells = [
            "NULL" if (row + at) % 5 == 4 else literals[row % len(literals)] for at, (_, literals) in enumerate(kinds)
        ]
        rows.append(f"({row}, {', '.join(cells)})")
    mariadb.execute(
        "SET time_zone = '+00:00'",
        f"CREATE TABLE t (id int NOT NULL, {columns}) CHARACTER SET utf8mb4",
        f"INSERT INTO t VALUES {', '.join(rows)}",
    )

    batches = []
    async with opened(mariadb) as source:
        assert isinstance(source, MysqlSource)
        found = (await source.profile(Relation(table="t"))).columns
        async with source._connections.lease() as connection:
            for is_binary in (True, False):
                expressions = ", ".join(projection(column, is_binary=is_binary) for column in found)
                statement = f"SELECT {expressions} FROM t ORDER BY id"
                if is_binary:
                    async with connection.binary_rows(statement) as (fields, stream):
                        block = await everything(stream)
                else:
                    fields, stream = await connection.start_rows(statement)
                    block = await everything(stream)
                batch = PacketDecoder(found, fields, is_binary=is_binary, index=stream.index).decode(block)
                slow = decode_slowly(block, found, fields, is_binary=is_binary)
                assert batch.equals(pa.RecordBatch.from_arrays(slow, schema=arrow_schema(found)))
                batches.append(batch)

    assert batches[0].num_rows == len(rows)
    assert batches[0].equals(batches[1])


async def everything(rows: RowSource) -> bytes:
    block = b""
    while piece := await rows.receive():
        block += piece
    return block


@pytest.mark.parametrize(
    ("sql_type", "literal"),
    [
        ("timestamp", ZERO),
        *product(("date", "datetime", "datetime(6)"), (ZERO, "2020-00-15", "2020-02-00", "2020-02-31")),
    ],
)
async def test_dates_that_never_were_follow_the_policy(database: MariaDatabase, sql_type: str, literal: str) -> None:
    """E-21: an error that names column, value and key; or NULL, counted; never a date that is near."""
    database.execute(
        "SET sql_mode = 'ALLOW_INVALID_DATES'",
        f"CREATE OR REPLACE TABLE t (id int PRIMARY KEY, v {sql_type} NULL)",
        f"INSERT INTO t VALUES (1, NULL), (7, '{literal}'), (8, '2024-02-29'), (9, '{literal}')",
    )
    shown = literal if sql_type == "date" else f"{literal} 00:00:00"

    async with opened(database) as source:
        key, value = (await source.profile(Relation(table="t"))).columns
        for policy in (OnInvalid.ERROR, OnInvalid.CLAMP):
            with pytest.raises(ValueRefusedError) as caught:
                await read(
                    source, "t", KeyRange.of_integers("id", 0, 10), columns=[key, replace(value, on_invalid=policy)]
                )
            assert caught.value.code is Code.VALUE_REFUSED
            assert (caught.value.column, caught.value.place) == ("v", "id = 7")
            assert caught.value.value.startswith(shown)
        statistics = ReadStatistics()
        lenient = (key, replace(value, on_invalid=OnInvalid.NULL))
        request = ChunkRequest(selection=Relation(table="t"), columns=lenient, chunk=Everything(), batch_rows=100)
        async with source.read_chunk(request, statistics) as batches:
            rows = [row async for batch in batches for row in batch.to_pylist()]

    assert [row["id"] for row in rows if row["v"] is None] == [1, 7, 9]
    assert statistics.changed_values == {"v": 2}


@pytest.mark.skipif(MYSQL_VARIABLE not in os.environ, reason=f"needs a MySQL server: {MYSQL_VARIABLE}")
async def test_types_that_only_mysql_has(request: pytest.FixtureRequest) -> None:
    """E-20: a JSON document and a vector are what MySQL sends, by table and by query."""
    mysql: MysqlDatabase = request.getfixturevalue("mysql")
    mysql.execute(
        "CREATE TABLE t (id int, j json, v vector(3))",
        """INSERT INTO t VALUES (1, '{"b": 1, "a": [2.50, null]}', string_to_vector('[1,2,-0.5]')), (2, NULL, NULL)""",
    )

    async with opened(mysql) as source:
        for selection in (Relation(table="t"), Query(text="SELECT * FROM t")):
            table = (await read(source, selection)).sort_by("id")
            assert table["j"].to_pylist() == ['{"a": [2.5, null], "b": 1}', None]
            assert table["v"].to_pylist() == [struct.pack("<3f", 1, 2, -0.5), None]
            assert table.schema.field("j").type == pa.json_()
