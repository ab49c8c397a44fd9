"""The rows of the tables, as CSV files that both databases load.

Every value follows from the number of its row, so that all machines measure the same; `lineitem` is made by TPC-H's generator.
NULL is an unquoted ``NULL``.  Files are kept below .local and made anew when this file or the tables change.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import itertools
import json
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from benchmarks import environments, tables
from benchmarks.harness import ROOT
from benchmarks.tables import LINEITEM, NARROW, WIDE, Column, Table

PLACE: Final = ROOT / ".local" / "benchmarks" / "tables"
NULL: Final = "NULL"
LINEITEM_SCALE: Final = 0.5
"""TPC-H's scale factor that is our scale 1."""

_WORDS: Final = (
    "account", "carefully", "deposit", "express", "final", "foxes", "instructions", "ironic", "naïve", "packages", "pending",
    "quickly", "requests", "schön", "sleep", "slyly", "theodolites", "unusual", "žluťoučký", "東京",
)  # fmt: skip
_SPECIAL: Final = ("", "two\nlines", "a\ttab", 'a "quoted" word', "back\\slash", "comma, semicolon; colon:", "\\N")
"""What stands in one note of sixteen: what a text format must escape."""


def table_file(table: Table, scale: float) -> Path:
    """Return the CSV file with the rows of a table, header included; it is made if it is missing.

    Raises:
        environments.NotInstalledError: If it takes the generator of `lineitem`, and that is not installed.
    """
    sources = b"".join(Path(str(module)).read_bytes() for module in (__file__, tables.__file__))
    path = PLACE / f"{table.name}-{scale:g}-{hashlib.sha256(sources).hexdigest()[:12]}.csv"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        _WRITERS[table.name](draft, scale)
        draft.rename(path)
    return path


def row_count(table: Table, scale: float) -> int:
    """Return how many rows a table has at a scale; counted where the generator decides."""
    if table is not LINEITEM:
        return max(1000, int(table.rows * scale))
    if scale == 1:
        return table.rows
    with table_file(table, scale).open("rb") as file:
        return sum(1 for _ in file) - 1  # no value of it holds a line feed


def rows_of(table: Table, scale: float, convert: Callable[[Column], Callable[[str], Any]]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table; ``convert`` gives what makes a value of a column's texts, NULL is always ``None``."""
    with table_file(table, scale).open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader)
        # A table may have less than its file.
        columns = [(header.index(column.name), convert(column)) for column in table.columns]
        for row in reader:
            yield tuple(None if row[place] == NULL else to(row[place]) for place, to in columns)


def first_rows(table: Table, scale: float, count: int) -> list[tuple[Any, ...]]:
    """Return the first rows of a table as exact Python values: what an export must hold."""
    return list(itertools.islice(rows_of(table, scale, exact), count))


def exact(column: Column) -> Callable[[str], Any]:
    """Return what makes the exact value of a text."""
    of = column.arrow
    if column.kind:
        return _KINDS[column.kind]
    if pa.types.is_integer(of):
        return int
    if pa.types.is_decimal(of):
        return Decimal
    if pa.types.is_floating(of):
        return float
    if pa.types.is_boolean(of):
        return lambda text: text == "1"
    if pa.types.is_date(of):
        return dt.date.fromisoformat
    if pa.types.is_timestamp(of):
        return lambda text: dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)
    return lambda text: bytes.fromhex(text[2:]) if pa.types.is_binary(of) else text


_KINDS: Final[dict[str, Callable[[str], Any]]] = {"json": json.loads, "uuid": uuid.UUID}


# --- writing --------------------------------------------------------------------------------------------------------


def _write_lineitem(path: Path, scale: float) -> None:
    program = environments.ensure("tpchgen", is_made=False) / "tpchgen-cli"
    directory = path.with_suffix(".directory")
    factor = f"{LINEITEM_SCALE * scale:g}"
    argv = [str(program), "csv", "-q", "-s", factor, "--tables=lineitem", f"--output-dir={directory}"]
    try:
        subprocess.run(argv, check=True)
        (directory / "lineitem.csv").rename(path)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _write_wide(path: Path, scale: float) -> None:
    count = row_count(WIDE, scale)
    columns = list(_wide_columns(count))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column.name for column in WIDE.columns])
        writer.writerows(zip(*columns, strict=True))


def _write_narrow(path: Path, scale: float) -> None:
    count = row_count(NARROW, scale)
    values = (_draw(1, count) >> np.uint64(32)).astype(np.int32)
    rows = pa.table([pa.array(np.arange(1, count + 1)), pa.array(values)], schema=NARROW.schema)
    pyarrow.csv.write_csv(rows, path)


_WRITERS: Final[dict[str, Callable[[Path, float], None]]] = {
    "lineitem": _write_lineitem,
    "wide": _write_wide,
    "narrow": _write_narrow,
    "plain": _write_wide,
}


def _draw(number: int, count: int) -> npt.NDArray[np.uint64]:
    """Return the ``number``-th sequence of random words: splitmix64, the same everywhere and in every version of numpy."""
    state = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(number << 40)
    state *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    return state ^ (state >> np.uint64(31))


def _with_nulls(values: Sequence[object], number: int, every: int) -> list[object]:
    is_null = (_draw(number, len(values)) % np.uint64(every) == 0).tolist()
    return [NULL if null else value for value, null in zip(values, is_null, strict=True)]


def _wide_columns(count: int) -> Iterator[Sequence[object]]:
    """Yield the columns of `wide` as texts and numbers, in the order of the table."""

    def below(number: int, bound: int) -> list[int]:
        return [int(value) for value in (_draw(number, count) % np.uint64(bound)).tolist()]

    def fractions(number: int) -> list[float]:
        return [float(value) for value in (_draw(number, count) / 2.0**64).tolist()]

    def decimals(number: int, digits: int) -> list[str]:
        middle = 10**digits // 2
        return [f"{(value - middle) // 10_000}.{(value - middle) % 10_000:04}" for value in below(number, 10**digits)]

    def instants(number: int) -> list[str]:
        texts = np.datetime_as_string(
            np.datetime64("2015-01-01", "us") + (_draw(number, count) % np.uint64(300_000_000_000_000)).astype(np.int64)
        )
        return [str(text).replace("T", " ") for text in texts.tolist()]

    yield range(1, count + 1)
    yield [1 + value for value in below(2, 50_000)]
    yield _with_nulls([value - 1000 for value in below(3, 2001)], 4, 10)
    yield _with_nulls(below(5, 32_768), 6, 5)
    yield below(7, 1 << 56)
    yield [1000 * value for value in fractions(8)]
    yield _with_nulls(fractions(9), 10, 4)
    yield decimals(11, 12)
    yield _with_nulls(decimals(12, 18), 13, 6)
    yield instants(14)
    yield _with_nulls(instants(15), 16, 3)
    yield _with_nulls([str(dt.date(1930, 1, 1) + dt.timedelta(days=days)) for days in below(17, 30_000)], 18, 10)
    yield below(19, 2)
    yield _with_nulls(below(20, 2), 21, 3)
    yield [_uuid(high, low) for high, low in zip(below(22, 1 << 63), below(23, 1 << 63), strict=True)]
    yield _with_nulls([_settings(value) for value in below(24, 1 << 60)], 25, 4)
    yield [f"{_words(value, 2)} {number}" for number, value in enumerate(below(26, 1 << 60), 1)]
    yield [f"{_WORDS[value % 4]}.{value}@example.com" for value in below(27, 1_000_000_000)]
    yield _with_nulls([_note(value) for value in below(28, 1 << 60)], 29, 5)
    yield _with_nulls([_payload(value) for value in below(30, 1 << 60)], 31, 8)


def _words(value: int, count: int) -> str:
    return " ".join(_WORDS[(value >> 5 * place) % 20] for place in range(count))


def _uuid(high: int, low: int) -> str:
    return str(uuid.UUID(int=high << 64 | low, version=4))  # MariaDB refuses what is of no version


def _settings(value: int) -> str:
    tags = [_WORDS[(value >> shift) % 20] for shift in (4, 9)]
    content = {
        "theme": ("dark", "light", "plain")[value % 3],
        "size": value % 40,
        "tags": tags,
        "ratio": value % 997 / 8,
    }
    return json.dumps(content, ensure_ascii=False)


def _note(value: int) -> str:
    text = _words(value, 5 + value % 8)
    return f"{text} {_SPECIAL[value // 16 % 7]}".lstrip() if value % 16 == 0 else text


def _payload(value: int) -> str:
    return "\\x" + f"{value:016x}" * (1 + value % 5)
