"""Values of every type, as SQL literals for servers and as Python values for SQLite."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from procflow_export.model.types import LogicalType
from tests.export.types.rows import TypeRow

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
INTEGERS = {
    width: st.one_of(
        st.sampled_from([-(2 ** (width - 1)), 2 ** (width - 1) - 1, 0, -1]),
        st.integers(-(2 ** (width - 1)), 2 ** (width - 1) - 1),
    )
    for width in (8, 16, 24, 32, 64)
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
DAYS = st.integers(-719_162, 2_932_896)
"""The years 1 to 9999."""


def postgres_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"


def mysql_quoted(text: str) -> str:
    return f"CONVERT(x'{text.encode().hex()}' USING utf8mb4)" if text else "''"


def numbers(precision: int, scale: int) -> st.SearchStrategy[str]:
    def spelled(unscaled: int) -> str:
        digits = str(abs(unscaled)).rjust(scale + 1, "0")
        point = f"{digits[: len(digits) - scale]}.{digits[len(digits) - scale :]}" if scale else digits
        return f"{'-' if unscaled < 0 else ''}{point}"

    return st.integers(-(10**precision) + 1, 10**precision - 1).map(spelled)


def dates(low: int, high: int) -> st.SearchStrategy[str]:
    """Dates from one day to another, counted from 1970, as PostgreSQL spells them."""

    def spelled(days: int) -> str:
        year, rest = (text := str(np.datetime64(days, "D")))[:-6], text[-6:]
        return f"{int(year):04d}{rest}" if int(year) > 0 else f"{1 - int(year):04d}{rest} BC"

    return st.integers(low, high).map(spelled)


def clocks() -> st.SearchStrategy[str]:
    return st.times().map(lambda time: time.isoformat())


def postgres(row: TypeRow) -> st.SearchStrategy[str | None]:
    """Literals of a type of PostgreSQL."""
    quoted = postgres_quoted
    by_type: dict[str, st.SearchStrategy[str]] = {
        "boolean": st.sampled_from(["true", "false"]),
        "smallint": INTEGERS[16].map(str),
        "integer": INTEGERS[32].map(str),
        "bigint": INTEGERS[64].map(str),
        "oid": st.integers(0, 2**32 - 1).map(str),
        "real": st.floats(width=32).map(lambda value: f"'{value!r}'"),
        "double precision": st.floats().map(lambda value: f"'{value!r}'"),
        "numeric(10,2)": numbers(10, 2),
        "numeric(38,0)": numbers(38, 0),
        "numeric(76,38)": numbers(76, 38),
        "numeric": numbers(40, 20),
        "money": numbers(16, 2).map(lambda digits: f"{digits}::numeric"),
        "text": TEXTS.map(quoted),
        "bytea": st.binary(max_size=30).map(lambda data: rf"'\x{data.hex()}'"),
        "uuid": st.uuids().map(lambda value: f"'{value}'"),
        "json": JSON.map(lambda value: quoted(json.dumps(value, ensure_ascii=False))),
        "date": dates(-2_440_588, 2_145_042_905).map(quoted),
        "timestamp": st.tuples(dates(-2_440_588, 100_000_000), clocks()).map(
            lambda pair: quoted(_with_clock(pair[0], pair[1]))
        ),
        "timestamptz": st.tuples(dates(-719_162, 2_932_896), clocks(), st.sampled_from(["", "+02", "-11:30"])).map(
            lambda parts: quoted(_with_clock(parts[0], parts[1] + parts[2]))
        ),
        "time": clocks().map(quoted),
        "integer[]": st.lists(st.none() | INTEGERS[32], max_size=4).map(
            lambda values: (
                "ARRAY[" + ",".join("NULL" if value is None else f"({value})" for value in values) + "]::int[]"
            )
        ),
        "text[]": st.lists(st.none() | TEXTS, max_size=4).map(
            lambda values: (
                "ARRAY[" + ",".join("NULL" if value is None else quoted(value) for value in values) + "]::text[]"
            )
        ),
        "double precision[]": st.lists(st.none() | st.floats(), max_size=4).map(
            lambda values: (
                "ARRAY["
                + ",".join("NULL" if value is None else f"'{value!r}'::float8" for value in values)
                + "]::float8[]"
            )
        ),
        "interval": st.tuples(*[st.integers(-1000, 1000)] * 3, st.integers(-(10**12), 10**12)).map(
            lambda parts: f"'{parts[0]} years {parts[1]} mons {parts[2]} days {parts[3]} microseconds'"
        ),
        "pair": st.tuples(INTEGERS[32], TEXTS).map(lambda pair: f"ROW({pair[0]}, {quoted(pair[1])})"),
    }
    return st.none() | by_type.get(row.native, st.sampled_from(row.literals))


def _with_clock(date: str, clock: str) -> str:
    day, _, era = date.partition(" ")
    return f"{day} {clock} {era}".rstrip()


def mysql(row: TypeRow) -> st.SearchStrategy[str | None]:
    """Literals of a type of MariaDB."""
    unsigned = {"tinyint unsigned": 8, "smallint unsigned": 16, "mediumint unsigned zerofill": 24, "int unsigned": 32}
    signed = {"tinyint": 8, "tinyint(1)": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
    moments = st.datetimes(dt.datetime(1000, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59))
    by_type: dict[str, st.SearchStrategy[str]] = {
        **{native: INTEGERS[bits].map(str) for native, bits in signed.items()},
        **{native: st.integers(0, 2**bits - 1).map(str) for native, bits in unsigned.items()},
        "bigint unsigned": st.integers(0, 2**64 - 1).map(str),
        "decimal(10,2)": numbers(10, 2),
        "decimal(38,0)": numbers(38, 0),
        "decimal(65,30)": numbers(65, 30),
        # The server reads the texts of tiny floats with fewer digits than it keeps.
        "float": st.integers(-(2**24), 2**24).map(lambda value: str(value / 1024)),
        "double": st.floats(-1e300, 1e300).filter(lambda value: value == 0 or abs(value) > 1e-300).map(repr),
        "bit(10)": st.integers(0, 2**10 - 1).map(lambda value: f"b'{value:b}'"),
        "bit(64)": st.integers(0, 2**64 - 1).map(lambda value: f"x'{value:016x}'"),
        "year": st.integers(1901, 2155).map(str),
        "date": moments.map(lambda moment: f"'{moment.date()}'"),
        "datetime": moments.map(lambda moment: f"'{moment.replace(microsecond=0)}'"),
        "datetime(6)": moments.map(lambda moment: f"'{moment}'"),
        "time(6)": st.integers(-(10**12), 10**12).map(_mysql_clock),
        "longtext": TEXTS.map(mysql_quoted),
        "longblob": st.binary(max_size=30).map(lambda data: f"x'{data.hex()}'"),
    }
    return st.none() | by_type.get(row.native, st.sampled_from(row.literals))


def _mysql_clock(micros: int) -> str:
    seconds, rest = divmod(abs(micros), 10**6)
    sign = "-" if micros < 0 else ""
    return f"'{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:06d}'"


def sqlite(row: TypeRow) -> st.SearchStrategy[Any]:
    """Values of a declared type of SQLite."""
    kind = row.logical_type
    by_kind: dict[LogicalType, st.SearchStrategy[Any]] = {
        LogicalType.INTEGER: INTEGERS[64],
        LogicalType.FLOAT: st.floats(allow_nan=False),  # SQLite stores NaN as NULL
        LogicalType.TEXT: TEXTS,
        LogicalType.BYTES: st.binary(max_size=30),
        LogicalType.DATE: st.dates().map(str),
        LogicalType.TIMESTAMP: st.datetimes().map(str),
        LogicalType.TIME: st.times().map(str),
        LogicalType.JSON: JSON.map(lambda value: json.dumps(value, ensure_ascii=False)),
    }
    if kind is LogicalType.DECIMAL and pa.types.is_decimal128(row.arrow_type):
        return st.none() | numbers(10, 2)
    if not row.native:
        return st.none() | st.sampled_from(row.literals)  # its type follows from its values
    return st.none() | by_kind.get(kind, st.sampled_from(row.literals))
