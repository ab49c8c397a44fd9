"""What the round trips of all sources share: one wide table of every type, and the comparison of a column."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from procflow_export.formats.forms import csv_form, parquet_column_form, parquet_form
from procflow_export.model.types import FIDELITY_KEY, LOGICAL_TYPE_KEY, NATIVE_TYPE_KEY
from tests.export.types import meaning
from tests.export.types.exporting import Exported
from tests.export.types.rows import TypeRow

CELLS = {
    "true, false": r"true|false",
    "digits": r"-?\d+",
    "digits, all decimals": r"-?\d+(\.\d+)?",
    "digits, NaN, inf": r"-?\d+(\.\d+)?|NaN|-?inf",
    "hyphenated digits": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "hexadecimal": r"([0-9a-f]{2})*",
    "2024-02-29": r"-?\d{4,7}-\d\d-\d\d",
    "12:34:56.000000": r"\d\d:\d\d:\d\d\.\d{6}",
    "2024-02-29T12:34:56.000000": r"-?\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}",
    "2024-02-29T12:34:56.000000Z": r"-?\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z",
    "-12:34:56.000000": r"-?\d{2,3}:\d\d:\d\d\.\d{6}",
    "JSON array": r"\[.*\]",
    "text": r".*",
}


def name_of(rows: Sequence[TypeRow], row: TypeRow) -> str:
    """The column of a type in the wide table."""
    return f"c{rows.index(row)}"


def wide_rows(rows: Sequence[TypeRow]) -> list[list[Any]]:
    """The rows of the wide table: every literal of every type, and NULL in every column; ``None`` is NULL."""
    count = max(len(row.literals) for row in rows) + 1
    return [[(*row.literals, None)[number % (len(row.literals) + 1)] for row in rows] for number in range(count)]


def assert_comes_back(
    exported: Exported,
    name: str,
    row: TypeRow,
    texts: dict[int, str | None],
    *,
    of_text: Callable[[str | None, pa.DataType], Any] = meaning.of_text,
) -> None:
    """Compare a column with the database's own texts: both formats, each by two readers; and its types with the page."""
    expected = {key: of_text(text, row.arrow_type) for key, text in texts.items()}
    assert exported.by_pyarrow(name) == expected
    assert_duckdb_reads(exported.by_duckdb(name, row.arrow_type), expected, row)
    for cells in (exported.cells_by_pyarrow(name), exported.cells_by_duckdb(name)):
        assert {key: meaning.of_cell(cell, row.arrow_type) for key, cell in cells.items()} == expected
        form = re.compile(CELLS[csv_form(row.arrow_type)], re.DOTALL)
        assert all(cell is None or form.fullmatch(cell) for cell in cells.values())
    assert_is_described(exported, name, row)


def assert_is_described(exported: Exported, name: str, row: TypeRow) -> None:
    """The file says of the column what the page says."""
    field = exported.schema().field(name)
    written = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    wanted = row.arrow_type.value_type if pa.types.is_dictionary(row.arrow_type) else row.arrow_type
    assert written.equals(wanted) or str(written).replace("element: ", "item: ") == str(wanted)
    metadata = field.metadata or {}
    assert metadata[LOGICAL_TYPE_KEY].decode() == row.logical_type.value
    assert metadata[FIDELITY_KEY].decode() == row.fidelity.value
    assert metadata[NATIVE_TYPE_KEY].decode() == (row.catalog_name or metadata[NATIVE_TYPE_KEY].decode())
    leaves = pq.ParquetFile(exported.parquet[0]).schema
    (leaf,) = [leaf for leaf in map(leaves.column, range(len(leaves))) if leaf.path.split(".")[0] == name]
    assert parquet_column_form(leaf) == parquet_form(row.arrow_type)


def assert_duckdb_reads(found: dict[int, Any], expected: dict[int, Any], row: TypeRow) -> None:
    """DuckDB makes a double of a decimal of more than 38 digits, and not always the nearest one."""
    if not pa.types.is_decimal256(row.arrow_type):
        assert found == expected
        return
    assert found.keys() == expected.keys()
    for key, value in found.items():
        wanted = expected[key]
        assert (value is None) == (wanted is None)
        assert value is None or math.isclose(float.fromhex(value), float(wanted), rel_tol=1e-14, abs_tol=1e-300)
