"""The loop that everybody writes: a driver's cursor, batches of rows, pyarrow. `python -m benchmarks.naive TYPE TABLE FILE`."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

BATCH_ROWS = 10_000


def schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(columns)


SCHEMAS: dict[str, pa.Schema] = {
    "orders": schema(
        id=pa.int64(),
        customer_id=pa.int32(),
        ordered_at=pa.timestamp("us"),
        total=pa.decimal128(12, 2),
        weight_kg=pa.float64(),
        status=pa.string(),
        is_gift=pa.bool_(),
        note=pa.string(),
    ),
    "stock_moves": schema(
        id=pa.uint64(),
        product_id=pa.int32(),
        quantity=pa.int16(),
        unit_cost=pa.decimal128(12, 2),
        moved_at=pa.timestamp("us"),
        reason=pa.string(),
    ),
    "measurements": schema(
        id=pa.int64(),
        machine_id=pa.int64(),
        value=pa.float64(),
        taken_at=pa.string(),
        is_valid=pa.int64(),
        remark=pa.string(),
    ),
}


class Writer:
    def __init__(self, table: str, path: Path) -> None:
        self._schema = SCHEMAS[table]
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: Sequence[Sequence[object]]) -> None:
        columns = [
            pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), self._schema, strict=True)
        ]
        self._file.write_batch(pa.record_batch(columns, schema=self._schema))

    def close(self) -> None:
        self._file.close()


async def postgres(url: str, table: str, writer: Writer) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    async with connection.transaction():
        cursor = await connection.cursor(f"SELECT * FROM {table}")
        while rows := await cursor.fetch(BATCH_ROWS):
            writer.write([tuple(row) for row in rows])
    await connection.close()


async def mysql(url: str, table: str, writer: Writer) -> None:
    import aiomysql

    parts = urlsplit(url)
    connection = await aiomysql.connect(
        host=parts.hostname, port=parts.port, user=parts.username, db=parts.path[1:], charset="utf8mb4"
    )
    async with connection.cursor(aiomysql.SSCursor) as cursor:
        await cursor.execute(f"SELECT * FROM {table}")
        while rows := await cursor.fetchmany(BATCH_ROWS):
            writer.write(rows)
    connection.close()


def sqlite(url: str, table: str, writer: Writer) -> None:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    cursor = connection.execute(f"SELECT * FROM {table}")
    while rows := cursor.fetchmany(BATCH_ROWS):
        writer.write(rows)
    connection.close()


def main() -> None:
    kind, table, path = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    url = os.environ["PROCFLOW_BENCH_URL"]
    writer = Writer(table, path)
    match kind:
        case "postgres":
            asyncio.run(postgres(url, table, writer))
        case "mysql":
            asyncio.run(mysql(url, table, writer))
        case _:
            sqlite(url, table, writer)
    writer.close()


if __name__ == "__main__":
    main()
