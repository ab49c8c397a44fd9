"""What a whole process takes at its worst: the real program, real servers, and the kernel's account of it.

The bounds are the budget itself, interpreter and libraries included, and for large cells four times the largest beside it: both are
below what is promised (interpreter and budget, and four cells).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.export.memory.children import BUDGET_MB, MIB, export
from tests.export.memory.shapes import CELL_MIB, LARGE, MANY_ROWS, MARIADB_WIDE, NARROW, PRINTED, WIDE, WIDE_ROWS

pytestmark = pytest.mark.timeout(400)

IN_PROCESS: Final = ("--engine", "in-process")


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["in-process", "processes"])
def test_cells_of_100_mib_take_four_of_them_beside_the_budget(
    postgres: dict[str, Any], tmp_path: Path, engine: str
) -> None:
    """E-30: rows with a cell of 100 MiB go through one at a time, in four copies at most, and arrive whole."""
    ended = export(tmp_path, postgres, {"query": LARGE}, "--engine", engine, "--processes", "1")

    assert ended.status == 0, ended.err
    assert ended.peak_bytes <= (BUDGET_MB + 4 * CELL_MIB) * MIB
    lengths = [length for file in ended.files() for length in pc.binary_length(pq.read_table(file)["body"]).to_pylist()]
    assert lengths == [None, CELL_MIB * MIB, None, CELL_MIB * MIB, None]


@pytest.mark.postgres
def test_a_cell_above_the_limit_is_refused_by_name(postgres: dict[str, Any], tmp_path: Path) -> None:
    """E-30: above ``max_value_mb`` the run ends with an error that names the column and the row, and publishes nothing."""
    query = "SELECT n AS id, repeat('x', n * 3 * 1048576) AS body FROM generate_series(1, 3) AS s (n)"

    ended = export(tmp_path, postgres, {"query": query, "tuning": {"max_value_mb": 8}}, *IN_PROCESS)

    assert ended.status != 0
    assert ended.verdict["failure"]["code"] == "VALUE_TOO_LARGE"
    assert "column 'body'" in ended.verdict["failure"]["message"]
    assert "row 3 of the chunk" in ended.verdict["failure"]["message"]
    assert ended.files() == []


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("query", [WIDE, PRINTED], ids=["binary", "printed"])
def test_a_thousand_columns_stay_within_the_budget(
    postgres: dict[str, Any], tmp_path: Path, query: str, workers: int
) -> None:
    """E-30: the number of columns does not show in the memory, with one worker or two."""
    chunks = {"mode": "chunked", "chunk_column": "id", "chunk_count": 2, "parallel": 2} if workers == 2 else {}

    ended = export(tmp_path, postgres, {"query": query} | chunks, *IN_PROCESS)

    assert ended.status == 0, ended.err
    assert ended.row_count() == WIDE_ROWS
    assert ended.peak_bytes <= BUDGET_MB * MIB


@pytest.mark.mariadb
@pytest.mark.slow
def test_a_thousand_columns_of_mariadb_stay_within_the_budget(mariadb: dict[str, Any], tmp_path: Path) -> None:
    """E-30: nor does it for rows that come in the other server's form."""
    ended = export(tmp_path, mariadb, {"query": MARIADB_WIDE}, *IN_PROCESS)

    assert ended.status == 0, ended.err
    assert ended.row_count() == WIDE_ROWS
    assert ended.peak_bytes <= BUDGET_MB * MIB


@pytest.mark.postgres
@pytest.mark.slow
def test_ten_million_rows_stay_within_the_budget(postgres: dict[str, Any], tmp_path: Path) -> None:
    """E-30: nor does the number of rows."""
    ended = export(tmp_path, postgres, {"query": NARROW}, *IN_PROCESS)

    assert ended.status == 0, ended.err
    assert ended.row_count() == MANY_ROWS
    assert ended.peak_bytes <= BUDGET_MB * MIB
