"""What an export has written: read back, and compared with what the source holds."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import uuid
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

from benchmarks.tables import Column, Table

SAMPLE_ROWS: Final = 2000


def size_bytes(files: Sequence[Path]) -> int:
    """Return the size of all files together."""
    return sum(file.stat().st_size for file in files)


def row_count(files: Sequence[Path]) -> int:
    """Return the rows of Parquet files, as their metadata says."""
    return sum(pyarrow.parquet.read_metadata(file).num_rows for file in files)


def inexact_columns(files: Sequence[Path], table: Table, expected: Sequence[Sequence[object]]) -> dict[str, str]:
    """Return the columns whose values are not those of the source, each with the type that they have.

    Args:
        files: Parquet files that hold the rows, in any order.
        table: The table that was exported.
        expected: Its first rows by the order of its key, as exact values.
    """
    key = [column.name for column in table.columns].index(table.key[0])
    last = expected[-1][key]
    found = pyarrow.dataset.dataset([str(file) for file in files])
    # The rows of the last key may be more than those that are expected.
    rows = found.to_table(filter=pyarrow.dataset.field(table.key[0]) < last)
    rows = rows.sort_by([(name, "ascending") for name in table.key])
    wanted = [row for row in expected if row[key] != last]
    if rows.num_rows != len(wanted):
        raise AssertionError(f"{rows.num_rows} rows instead of {len(wanted)} below {table.key[0]} {last}")
    inexact = {}
    for column, values in zip(table.columns, zip(*wanted, strict=True), strict=True):
        stored = rows[column.name]
        if not all(is_same(column, mine, right) for mine, right in zip(stored.to_pylist(), values, strict=True)):
            inexact[column.name] = str(stored.type)
    return inexact


def is_same(column: Column, mine: object, right: object) -> bool:
    """Return whether a stored value says exactly what the source's does: a text is no number, nor is a float a decimal."""
    if mine is None or right is None:
        return mine is right
    match column.kind:
        case "json":
            return is_same_json(mine, right)
        case "uuid":
            known = uuid.UUID(str(right))
            return mine in (known, str(known), known.bytes)
    if pa.types.is_decimal(column.arrow):
        return isinstance(mine, Decimal | int) and mine == right
    if isinstance(mine, dt.datetime) and isinstance(right, dt.datetime) and mine.tzinfo is None:
        return mine == right.replace(tzinfo=None)
    return mine == right


def is_same_json(mine: object, right: object) -> bool:
    """Return whether a text is JSON of this value."""
    with contextlib.suppress(ValueError):
        return isinstance(mine, str | bytes) and json.loads(mine) == right
    return False
