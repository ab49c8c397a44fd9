"""Exporting a table for real, to Parquet and to CSV, and reading the parts back with readers that are not ours."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import anyio
import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from procflow_export import ExitStatus, Finished, InProcessEngine, read_config
from procflow_export.checks.findings import CheckCode
from procflow_export.checks.validation import ValidationDepth, validate_set
from procflow_export.destinations.local import LocalDestination
from tests.export.pipeline.runs import Ran, run
from tests.export.types import meaning

KEY = "id"


@dataclass(frozen=True, slots=True)
class Exported:
    """The published parts of one table in both formats."""

    directory: Path

    @property
    def parquet(self) -> list[str]:
        return [str(part) for part in sorted(self.directory.glob("parquet/*.parquet"))]

    @property
    def csv(self) -> list[str]:
        return [str(part) for part in sorted(self.directory.glob("csv/*.csv"))]

    def schema(self) -> pa.Schema:
        return pq.read_schema(self.parquet[0])

    def by_pyarrow(self, name: str) -> dict[int, Any]:
        table: Any = pa.concat_tables([pq.read_table(part, columns=[KEY, name]) for part in self.parquet])
        return dict(zip(table[KEY].to_pylist(), meaning.of_arrow(table[name]), strict=True))

    def by_duckdb(self, name: str, arrow_type: pa.DataType) -> dict[int, Any]:
        value = meaning.duckdb_expression(f'"{name}"', arrow_type)
        rows = _duckdb().execute(f'SELECT "{KEY}", {value} FROM read_parquet(?)', [self.parquet]).fetchall()
        return {key: meaning.of_duckdb(value, arrow_type) for key, value in rows}

    def cells_by_pyarrow(self, name: str) -> dict[int, str | None]:
        table: Any = _csv_by_pyarrow(tuple(self.csv))
        return dict(zip(map(int, table[KEY].to_pylist()), table[name].to_pylist(), strict=True))

    def cells_by_duckdb(self, name: str) -> dict[int, str | None]:
        table: Any = _csv_by_duckdb(tuple(self.csv))
        return dict(zip(map(int, table[KEY].to_pylist()), table[name].to_pylist(), strict=True))


@lru_cache(maxsize=1)
def _duckdb() -> Any:
    """One connection for all: opening one costs more than a query."""
    return duckdb.connect(config={"threads": 1})


@lru_cache(maxsize=4)
def _csv_by_pyarrow(parts: tuple[str, ...]) -> pa.Table:
    with open(parts[0], newline="", encoding="utf-8") as file:
        names = next(csv.reader(file))
    return pa.concat_tables(
        pa.csv.read_csv(
            part,
            read_options=pa.csv.ReadOptions(block_size=1 << 26, use_threads=False),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        for part in parts
    )


@lru_cache(maxsize=4)
def _csv_by_duckdb(parts: tuple[str, ...]) -> pa.Table:
    cursor = _duckdb().execute(
        "SELECT * FROM read_csv(?, all_varchar = true, header = true, delim = ',', quote = '\"', escape = '\"',"
        " nullstr = '', allow_quoted_nulls = false, max_line_size = 100000000, new_line = '\\n')",
        [list(parts)],
    )
    names = [entry[0] for entry in cursor.description]
    columns = zip(*cursor.fetchall(), strict=True)
    return pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)})


def export(
    directory: Path,
    source: Mapping[str, Any],
    *,
    table: str | None = None,
    query: str | None = None,
    columns: Mapping[str, Any] | None = None,
    formats: Sequence[str] = ("parquet", "csv"),
    chunked_by: str | None = None,
) -> Ran:
    """Export one table or query to every format, in this process, and return what was said."""
    selection = {"table": table} if query is None else {"query": query}
    mode = {"mode": "full"} if chunked_by is None else {"mode": "chunked", "chunk_column": chunked_by, "chunk_count": 3}
    loaded = read_config(
        {
            "source": source,
            "destination": {"type": "local", "path": "."},
            "exports": [
                {"name": kind, "format": kind, **selection, **mode} | ({"columns": columns} if columns else {})
                for kind in formats
            ],
        },
        base_dir=directory,
    )
    return anyio.run(partial(run, loaded, engine=InProcessEngine(max_units=1)))


def exported(directory: Path, source: Mapping[str, Any], **what: Any) -> Exported:
    """Export one table or query; it must succeed, and nothing may be changed."""
    ran = export(directory, source, **what)
    assert ran.result.exit_status is ExitStatus.OK, [verdict.failure for verdict in ran.result.exports]
    assert not any(verdict.changed_values for verdict in ran.of(Finished))
    for kind in what.get("formats", ("parquet", "csv")):
        result = validate_set(LocalDestination(directory / kind), kind, depth=ValidationDepth.FULL, has_csv_header=True)
        assert {finding.code for finding in result.findings} <= {CheckCode.SUPERSEDED_OBJECT}, result.findings
        assert result.compared_count == (result.part_count if kind == "parquet" else 0)
    return Exported(directory)
