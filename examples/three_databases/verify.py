"""Whether the exported files hold what the databases hold, asked three times independently.

The source answers in its own SQL; DuckDB and pyarrow read the files that the manifest names.  Each adds up every column:
values that are not NULL, and sum, smallest and largest of its numbers; of text and bytes the lengths and a checksum that
does not depend on the order of the rows (the sum of the first 32 bits of every value's MD5).  Nothing of procflow is used.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import asyncpg
import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from examples.three_databases.data import Kind, Table, connect_mariadb

Answers = dict[str, Decimal | None]
"""Measure, for example ``total.sum``, to its value; None where no row has a value."""

_NUMBERS: Final = ("sum", "min", "max")
_CONTENT: Final = ("bytes", "md5")
_TEXTUAL: Final = (Kind.TEXT, Kind.BYTES, Kind.UUID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the source and the readers of the files say of one table."""

    table: Table
    row_count: int
    measure_count: int
    size_bytes: int
    part_count: int
    differences: list[str] = field(default_factory=list)


def measures(table: Table) -> list[tuple[str, str, Kind]]:
    """Return (column, measure, kind), in the order in which every dialect asks for them."""
    asked: list[tuple[str, str, Kind]] = []
    for column, kind in table.columns.items():
        asked.append((column, "values", kind))
        asked += [(column, measure, kind) for measure in (_CONTENT if kind in _TEXTUAL else _NUMBERS)]
    return asked


# --- SQL: one statement a table, four dialects ----------------------------------------------------------------------

# Numbers: decimals in hundredths, floats in 64ths, times in microseconds, so that all sums are sums of integers.
_DIALECTS: Final[dict[str, dict[str, str]]] = {
    "webshop": {
        Kind.DECIMAL: "({c} * 100)",
        Kind.FLOAT: "({c} * 64)::numeric",
        Kind.BOOL: "{c}::int",
        Kind.DATE: "({c} - date '1970-01-01')",
        Kind.TIMESTAMP: "(extract(epoch FROM {c}) * 1000000)::numeric(30, 0)",
        "as_text": "{c}::text",
        "bytes": "octet_length({c})",
        "md5": "('x' || substr(md5({c}), 1, 8))::bit(32)::bigint",
        "quote": '"',
    },
    "warehouse": {
        Kind.DECIMAL: "({c} * 100)",
        Kind.FLOAT: "CAST({c} * 64 AS DECIMAL(30, 0))",
        Kind.DATE: "DATEDIFF({c}, '1970-01-01')",
        Kind.TIMESTAMP: "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {c})",
        "as_text": "{c}",
        "bytes": "OCTET_LENGTH({c})",
        "md5": "CAST(CONV(SUBSTR(MD5({c}), 1, 8), 16, 10) AS UNSIGNED)",
        "quote": "`",
    },
    "factory": {
        Kind.DECIMAL: "CAST(round({c} * 100) AS INTEGER)",
        Kind.FLOAT: "CAST({c} * 64 AS INTEGER)",
        Kind.DATE: "CAST(julianday({c}) - julianday('1970-01-01') AS INTEGER)",
        Kind.TIMESTAMP: "CAST(strftime('%s', {c}) AS INTEGER) * 1000000",
        "as_text": "{c}",
        "bytes": "length(CAST({c} AS BLOB))",
        "md5": "md5_32({c})",
        "quote": '"',
    },
    "duckdb": {
        Kind.DECIMAL: "({c} * 100)",
        Kind.FLOAT: "CAST({c} * 64 AS HUGEINT)",
        Kind.BOOL: "{c}::INT",
        Kind.DATE: "date_diff('day', DATE '1970-01-01', {c})",
        Kind.TIMESTAMP: "epoch_us({c})",
        "as_text": "{c}::VARCHAR",
        "bytes": "octet_length({c})",
        "md5": "('0x' || substr(md5({c}), 1, 8))::UBIGINT",
        "quote": '"',
    },
}


def statement(table: Table, relation: str, dialect: str) -> str:
    """Return the query for the number of rows and every measure of ``table``."""
    words = _DIALECTS[dialect]
    asked = ["count(*)"]
    for column, measure, kind in measures(table):
        name = words["quote"] + column + words["quote"]
        if measure == "values":
            asked.append(f"count({name})")
        elif measure in _CONTENT:
            value = name if kind is Kind.BYTES else words["as_text"].format(c=name)
            if measure == "bytes" and dialect == "duckdb" and kind is not Kind.BYTES:
                value = f"encode({value})"
            asked.append(f"sum({words[measure].format(c=value)})")
        else:
            function = "exact_sum" if (dialect, measure) == ("factory", "sum") else measure
            asked.append(f"{function}({words.get(kind, '{c}').format(c=name)})")
    return f"SELECT {', '.join(asked)} FROM {relation}"


def answers(table: Table, row: Sequence[object]) -> Answers:
    """Return the row of ``statement()`` as answers."""
    names = ["rows", *(f"{column}.{measure}" for column, measure, _ in measures(table))]
    return {name: _decimal(value) for name, value in zip(names, row, strict=True)}


def _decimal(value: object) -> Decimal | None:
    return None if value is None else Decimal(str(value)).normalize() + 0


async def ask_postgres(url: str, tables: Sequence[Table]) -> list[Answers]:
    connection = await asyncpg.connect(url, server_settings={"timezone": "UTC"})
    try:
        return [
            answers(table, list(await connection.fetchrow(statement(table, table.relation, "webshop"))))
            for table in tables
        ]
    finally:
        await connection.close()


def ask_mariadb(url: str, tables: Sequence[Table]) -> list[Answers]:
    with closing(connect_mariadb(url)) as connection, connection.cursor() as cursor:
        found = []
        for table in tables:
            cursor.execute(statement(table, table.relation, "warehouse"))
            found.append(answers(table, cursor.fetchone() or ()))
        return found


class ExactSum:
    """SQLite's own sum overflows at 64 bits."""

    def __init__(self) -> None:
        self._total: int | None = None

    def step(self, value: int | None) -> None:
        if value is not None:
            self._total = (self._total or 0) + value

    def finalize(self) -> str | None:
        return None if self._total is None else str(self._total)


def ask_sqlite(path: Path, tables: Sequence[Table]) -> list[Answers]:
    with closing(sqlite3.connect(path)) as connection:
        connection.create_function("md5_32", 1, _md5_32, deterministic=True)
        connection.create_aggregate("exact_sum", 1, ExactSum)  # type: ignore[arg-type]  # the stubs know only int results
        return [
            answers(table, connection.execute(statement(table, table.relation, "factory")).fetchone())
            for table in tables
        ]


def ask_sources(urls: Mapping[str, str], sqlite_path: Path, tables: Sequence[Table]) -> dict[str, Answers]:
    """Return what the databases themselves say of every table."""
    of = {
        source: [table for table in tables if table.source == source] for source in ("webshop", "warehouse", "factory")
    }
    found: dict[str, Answers] = {}
    replies = {
        "webshop": asyncio.run(ask_postgres(urls["postgres"], of["webshop"])),
        "warehouse": ask_mariadb(urls["mariadb"], of["warehouse"]),
        "factory": ask_sqlite(sqlite_path, of["factory"]),
    }
    for source, reply in replies.items():
        found.update(zip((table.export for table in of[source]), reply, strict=True))
    return found


# --- the files ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What the manifest of one export names, after its own claims were checked."""

    files: list[Path]
    size_bytes: int
    complaints: list[str]


def read_manifest(directory: Path) -> Published:
    """Follow ``manifest.json``: the marker, the number of rows, sizes and checksums of the parts, and no other part."""
    raw = (directory / "manifest.json").read_bytes()
    manifest = json.loads(raw)
    complaints = []
    marker = directory / "_SUCCESS"
    if not marker.exists() or hashlib.sha256(raw).hexdigest() not in marker.read_text():
        complaints.append("_SUCCESS does not hold the digest of the manifest")
    if manifest["status"] != "success" or manifest["row_count"] != sum(part["row_count"] for part in manifest["parts"]):
        complaints.append("the manifest's status or number of rows is wrong")
    files = [directory / part["key"] for part in manifest["parts"]]
    for path, part in zip(files, manifest["parts"], strict=True):
        algorithm, _, digest = part["checksum"].partition(":")
        content = path.read_bytes()
        if len(content) != part["size_bytes"] or hashlib.new(algorithm, content).hexdigest() != digest:
            complaints.append(f"{path.name} has another size or checksum than its manifest says")
    extra = {path.name for path in directory.iterdir() if path.suffix in {".parquet", ".csv", ".tmp"}}
    if len(set(files)) != len(files):
        complaints.append("the manifest names a part twice")
    stray = {name for name in extra - {path.name for path in files} if name.endswith(".tmp")}
    if stray:
        complaints.append(f"half-written files remain: {sorted(stray)}")
    return Published(files=files, size_bytes=sum(path.stat().st_size for path in files), complaints=complaints)


def ask_duckdb(table: Table, files: Sequence[Path]) -> Answers:
    """Return what DuckDB says of the parts."""
    names = [str(path) for path in files]
    if table.format == "csv":
        kinds = {
            Kind.INTEGER: "BIGINT",
            Kind.DECIMAL: "DECIMAL(12, 2)",
            Kind.FLOAT: "DOUBLE",
            Kind.BOOL: "BOOLEAN",
            Kind.DATE: "DATE",
            Kind.TIMESTAMP: "TIMESTAMP",
            Kind.TEXT: "VARCHAR",
        }
        columns = {name: kinds[kind] for name, kind in table.columns.items()}
        relation = f"read_csv({names}, header = true, columns = {columns}, allow_quoted_nulls = false, escape = '\"', quote = '\"')"
    else:
        relation = f"read_parquet({names})"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        row = connection.execute(statement(table, relation, "duckdb")).fetchone()
    return answers(table, row or ())


def ask_pyarrow(table: Table, files: Sequence[Path]) -> Answers:
    """Return what pyarrow says of the parts, read one by one."""
    total: Answers = {"rows": Decimal(0)}
    for path in files:
        data = _read_csv(table, path) if table.format == "csv" else pa.parquet.read_table(path)
        total["rows"] = (total["rows"] or 0) + Decimal(data.num_rows)
        for column, kind in table.columns.items():
            for measure, value in _measure(data.column(column), kind).items():
                name = f"{column}.{measure}"
                total[name] = _merged(measure, total.get(name), value)
    return total


def _merged(measure: str, before: Decimal | None, value: Decimal | None) -> Decimal | None:
    if before is None or value is None:
        return value if before is None else before
    match measure:
        case "min":
            return min(before, value)
        case "max":
            return max(before, value)
        case _:
            return before + value


def _read_csv(table: Table, path: Path) -> pa.Table:
    kinds = {
        Kind.INTEGER: pa.int64(),
        Kind.DECIMAL: pa.decimal128(12, 2),
        Kind.FLOAT: pa.float64(),
        Kind.BOOL: pa.bool_(),
        Kind.DATE: pa.date32(),
        Kind.TIMESTAMP: pa.timestamp("us"),
        Kind.TEXT: pa.string(),
    }
    convert = pyarrow.csv.ConvertOptions(
        column_types={name: kinds[kind] for name, kind in table.columns.items()},
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return pyarrow.csv.read_csv(path, convert_options=convert, parse_options=parse)


def _measure(values: Any, kind: Kind) -> Answers:  # noqa: ANN401  # pyarrow's stubs follow neither casts nor extensions
    if isinstance(values.type, pa.BaseExtensionType):
        values = values.cast(values.type.storage_type)
    count: Answers = {"values": Decimal(len(values) - values.null_count)}
    if kind in _TEXTUAL:
        size = checksum = Decimal(0)
        # A distinct value is hashed once.
        for entry in pc.value_counts(values.drop_null()):
            value, repeats = entry["values"].as_py(), entry["counts"].as_py()
            if kind is Kind.UUID and isinstance(value, bytes):
                value = str(uuid.UUID(bytes=value))
            content = value.encode() if isinstance(value, str) else value
            size += len(content) * repeats
            checksum += _md5_32(content) * repeats
        return count | ({"bytes": size, "md5": checksum} if count["values"] else {"bytes": None, "md5": None})
    factor = 1
    match kind:
        case Kind.DECIMAL:
            factor = 100
        case Kind.FLOAT:
            factor = 64
        case Kind.DATE:
            values = values.cast(pa.date32()).cast(pa.int32())
        case Kind.TIMESTAMP:
            values = values.cast(pa.timestamp("us", values.type.tz)).cast(pa.int64())
        case Kind.BOOL:
            values = values.cast(pa.int8())
        case _:
            pass
    if pa.types.is_integer(values.type):
        # Times in microseconds add up beyond 64 bits.
        values = values.cast(pa.decimal128(38, 0))
    found = {"sum": pc.sum(values), "min": pc.min(values), "max": pc.max(values)}
    scaled = {
        name: None if (plain := value.as_py()) is None else Decimal(plain) * factor for name, value in found.items()
    }
    return count | {name: _decimal(value) for name, value in scaled.items()}


def _md5_32(value: str | bytes | None) -> int | None:
    if value is None:
        return None
    content = value.encode() if isinstance(value, str) else value
    return int(hashlib.md5(content, usedforsecurity=False).hexdigest()[:8], 16)


def compare(table: Table, source: Answers, directory: Path) -> Comparison:
    """Return what the files of ``table`` have in common with its source."""
    published = read_manifest(directory)
    differences = list(published.complaints)
    for reader, found in (
        ("DuckDB", ask_duckdb(table, published.files)),
        ("pyarrow", ask_pyarrow(table, published.files)),
    ):
        for measure, expected in source.items():
            if found.get(measure) != expected:
                differences.append(f"{measure}: the source says {expected}, {reader} reads {found.get(measure)}")
    return Comparison(
        table=table,
        row_count=int(source["rows"] or 0),
        measure_count=len(source),
        size_bytes=published.size_bytes,
        part_count=len(published.files),
        differences=differences,
    )
