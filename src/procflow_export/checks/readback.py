"""What independent readers find in the published parts of one export: row counts and a figure for every column.

Owns two readers that share nothing but the files: pyarrow's Parquet reader and DuckDB.  Both follow the manifest and nothing else.
Must not know where the rows came from; whoever compares asks the source the same questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypeAlias, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from procflow_export.model.manifest import MANIFEST_KEY, decode_manifest

Figure: TypeAlias = int | float | Decimal | None


class Measure(Enum):
    """One figure of a column that changes when a value does, or is lost."""

    SUM = "sum"
    """Sum of its numbers; the number of true values of a boolean one."""
    CHARACTERS = "characters"
    """Code points of all its texts."""
    VALUES = "values"
    """How many of its values are not NULL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one reader found."""

    row_count: int
    figures: Mapping[str, Figure]


def published_parts(directory: Path) -> list[Path]:
    """Return the parts that the manifest in ``directory`` names, in its order.

    Raises:
        OSError: If there is no manifest.
        msgspec.DecodeError: If it is none.
    """
    manifest = decode_manifest((directory / MANIFEST_KEY).read_bytes())
    return [directory / part.key for part in manifest.parts]


def measures(parts: Sequence[Path]) -> dict[str, Measure]:
    """Return which figure is taken of each column of Parquet ``parts``."""
    return {field.name: _measure(field.type) for field in pq.read_schema(parts[0])}


def found_by_pyarrow(parts: Sequence[Path], wanted: Mapping[str, Measure]) -> Found:
    """Read every part with pyarrow, one row group at a time."""
    row_count = 0
    totals: dict[str, Figure] = dict.fromkeys(wanted)
    for part in parts:
        with pq.ParquetFile(part) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                row_count += table.num_rows
                for name, measure in wanted.items():
                    totals[name] = _added(totals[name], _figure(table.column(name), measure))
    return Found(row_count=row_count, figures=totals)


def has_duckdb() -> bool:
    """Whether DuckDB can be imported here."""
    return find_spec("duckdb") is not None


def found_by_duckdb(parts: Sequence[Path], wanted: Mapping[str, Measure]) -> Found:
    """Read every part with DuckDB, in one query.

    Raises:
        ImportError: If DuckDB is not installed.
    """
    import duckdb

    selected = ", ".join(_DUCKDB[measure].format(column=_quoted(name)) for name, measure in wanted.items())
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT count(*), {selected} FROM read_parquet(?)",  # noqa: S608 (identifiers are quoted)
            [[str(part) for part in parts]],
        ).fetchall()
    count, *figures = rows[0]
    return Found(row_count=int(count), figures=dict(zip(wanted, figures, strict=True)))


_DUCKDB: Final = {
    Measure.SUM: "sum({column})",
    Measure.CHARACTERS: "sum(length({column}))",
    Measure.VALUES: "nullif(count({column}), 0)",
}


def _measure(kind: pa.DataType) -> Measure:
    if (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
    ):
        return Measure.SUM
    return Measure.CHARACTERS if pa.types.is_string(kind) or pa.types.is_large_string(kind) else Measure.VALUES


def _figure(column: pa.ChunkedArray[pa.Scalar[pa.DataType]], measure: Measure) -> Figure:
    match measure:
        case Measure.SUM:
            return cast("Figure", pc.sum(column).as_py())  # type: ignore[type-var]  # the stubs know no untyped column
        case Measure.CHARACTERS:
            return cast("Figure", pc.sum(pc.utf8_length(column)).as_py())  # type: ignore[arg-type]  # the same
        case Measure.VALUES:
            return (len(column) - column.null_count) or None


def _added(one: Figure, other: Figure) -> Figure:
    if one is None or other is None:
        return other if one is None else one
    return cast("Figure", one + other)  # type: ignore[operator]  # one column has one type


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
