"""What a MySQL server itself prints of a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import pymysql

from procflow_export.model.types import LogicalType
from tests.export.types.rows import TypeRow


def printed(name: str, row: TypeRow) -> str:
    """The server's own text of a column; of numbers, with all their digits."""
    match row.logical_type:
        case LogicalType.FLOAT:
            return f"CAST(CAST({name} AS DOUBLE) AS CHAR)"
        case LogicalType.BYTES:
            return f"HEX({name})"
        case LogicalType.GEOMETRY:
            return f"HEX(ST_AsBinary({name}))"
        case LogicalType.BITS | LogicalType.BOOL:
            return f"CAST(CAST({name} AS UNSIGNED) AS CHAR)"
        case _:
            return f"CAST({name} AS CHAR)"


def fetch(url: str, statement: str) -> Sequence[Any]:
    parts = urlsplit(url)
    with (
        pymysql.connect(
            host=parts.hostname,
            port=parts.port or 3306,
            user=parts.username,
            database=parts.path[1:],
            charset="utf8mb4",
            init_command="SET time_zone = '+00:00'",
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
        return list(cursor.fetchall())


def texts_of(url: str, table: str, name: str, row: TypeRow) -> dict[int, str | None]:
    return dict(fetch(url, f"SELECT id, {printed(name, row)} FROM {table}"))
