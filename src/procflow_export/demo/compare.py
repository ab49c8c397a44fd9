"""Whether the files hold what the shop holds: counts and a figure per column, asked of SQLite, pyarrow and DuckDB.

Owns the questions to SQLite and the comparison.  The readers of the files are ``checks.readback``'s.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from procflow_export.checks.readback import (
    Figure,
    Found,
    Measure,
    found_by_duckdb,
    found_by_pyarrow,
    has_duckdb,
    measures,
    published_parts,
)
from procflow_export.demo.folder import DemoFolder
from procflow_export.demo.shop import TABLES

_SQLITE: Final = {
    Measure.SUM: "sum({column})",
    Measure.CHARACTERS: "sum(length({column}))",
    Measure.VALUES: "nullif(count({column}), 0)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One table, as the source and every reader of its files see it.

    Attributes:
        table: Its name.
        parts: Its published files.
        row_count: Rows in the source.
        column_count: Columns compared.
        readers: Names of the readers that read the files.
        differences: What did not agree, in words; empty when everything did.
    """

    table: str
    parts: tuple[Path, ...]
    row_count: int
    column_count: int
    readers: tuple[str, ...]
    differences: tuple[str, ...]


def compare_shop(folder: DemoFolder) -> list[Comparison]:
    """Compare every table of the shop with its published files.  Blocks; reads everything."""
    readers: dict[str, Callable[[Sequence[Path], Mapping[str, Measure]], Found]] = {"pyarrow": found_by_pyarrow}
    if has_duckdb():
        readers["DuckDB"] = found_by_duckdb
    comparisons = []
    with closing(sqlite3.connect(f"{folder.database.absolute().as_uri()}?mode=ro", uri=True)) as shop:
        for table in TABLES:
            parts = published_parts(folder.data / table)
            wanted = measures(parts)
            expected = _found_by_sqlite(shop, table, wanted)
            differences = [
                f"{name}: {difference}"
                for name, read in readers.items()
                for difference in _differences(expected, read(parts, wanted))
            ]
            comparisons.append(
                Comparison(
                    table=table,
                    parts=tuple(parts),
                    row_count=expected.row_count,
                    column_count=len(wanted),
                    readers=tuple(readers),
                    differences=tuple(differences),
                )
            )
    return comparisons


def _found_by_sqlite(shop: sqlite3.Connection, table: str, wanted: Mapping[str, Measure]) -> Found:
    selected = ", ".join(_SQLITE[measure].format(column=f'"{name}"') for name, measure in wanted.items())
    count, *figures = shop.execute(f'SELECT count(*), {selected} FROM "{table}"').fetchone()  # noqa: S608 (our own names)
    return Found(row_count=count, figures=dict(zip(wanted, figures, strict=True)))


def _differences(expected: Found, found: Found) -> list[str]:
    differences = []
    if found.row_count != expected.row_count:
        differences.append(f"{found.row_count} rows, the source has {expected.row_count}")
    for column, figure in expected.figures.items():
        seen: Figure = found.figures[column]
        if seen != figure:
            differences.append(f"column {column}: {seen}, the source has {figure}")
    return differences
