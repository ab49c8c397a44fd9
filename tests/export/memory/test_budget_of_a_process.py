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

pytestmark = pytest.mark.timeout(400)

IN_PROCESS: Final = ("--engine", "in-process")
CELL_MIB: Final = 100
CELL: Final = f"(SELECT string_agg(md5(i::text), '') FROM generate_series(1, {CELL_MIB * MIB // 32}) AS s (i))"
"""100 MiB of text that compresses to about a half."""
WIDE_ROWS: Final = 9_000
"""Two row groups and a half: what is kept from one to the next would show."""
MANY_ROWS: Final = 10_000_000


def wide_query(of_four: tuple[str, str, str, str], numbers: str) -> str:
    """A key and 999 columns of four types, which become dictionaries of three sizes, or none."""
    columns = (
        of_four[at % 4].format(factor=at + 3, values=(10, 1_000, 100_000)[at % 3]) + f" AS c{at}" for at in range(999)
    )
    return f"SELECT n AS id, {', '.join(columns)} FROM {numbers}"


POSTGRES_WIDE: Final = wide_query(
    (
        "(n * {factor} % 100003)::integer",
        "'t' || (n * {factor} % {values})",
        "n * {factor} / 7.0::float8",
        "((n * {factor} % 10000) / 100.0)::numeric(12,2)",
    ),
    f"generate_series(1::bigint, {WIDE_ROWS}) AS s (n)",
)
POSTGRES_PRINTED: Final = wide_query(
    (
        "n * {factor} % {values} / 7::numeric",
        "time '12:00' + n % {values} * interval '1 s'",
        "n * interval '1 s'",
        "inet '10.0.0.0' + n",
    ),
    f"generate_series(1::bigint, {WIDE_ROWS}) AS s (n)",
)
"""Columns without a binary form that is read: the server prints them."""
MARIADB_WIDE: Final = wide_query(
    (
        "seq * {factor} % 100003",
        "concat('t', seq * {factor} % {values})",
        "seq * {factor} / 7e0",
        "cast(seq * {factor} % 10000 / 100 AS decimal(12,2))",
    ),
    f"seq_1_to_{WIDE_ROWS}",
).replace("n AS id", "seq AS id")


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["in-process", "processes"])
def test_cells_of_100_mib_take_four_of_them_beside_the_budget(
    postgres: dict[str, Any], tmp_path: Path, engine: str
) -> None:
    """E-30: rows with a cell of 100 MiB go through one at a time, in four copies at most, and arrive whole."""
    query = f"SELECT n AS id, CASE n % 2 WHEN 0 THEN body END AS body FROM generate_series(1, 5) AS s (n), {CELL} AS b (body)"

    ended = export(tmp_path, postgres, {"query": query}, "--engine", engine, "--processes", "1")

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
@pytest.mark.parametrize("query", [POSTGRES_WIDE, POSTGRES_PRINTED], ids=["binary", "printed"])
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
    query = f"SELECT n AS id, (n % 1000)::integer AS value FROM generate_series(1::bigint, {MANY_ROWS}) AS s (n)"

    ended = export(tmp_path, postgres, {"query": query}, *IN_PROCESS)

    assert ended.status == 0, ended.err
    assert ended.row_count() == MANY_ROWS
    assert ended.peak_bytes <= BUDGET_MB * MIB
