"""Three tables that are hard on the memory, as queries: their rows exist only while they are sent."""

from __future__ import annotations

from typing import Final

MIB: Final = 1 << 20
CELL_MIB: Final = 100
WIDE_ROWS: Final = 9_000
"""Several row groups: what is kept from one to the next would show."""
MANY_ROWS: Final = 10_000_000

_CELL: Final = f"(SELECT string_agg(md5(i::text), '') FROM generate_series(1, {CELL_MIB * MIB // 32}) AS s (i))"
"""Text that compresses to about a half."""

LARGE: Final = (
    f"SELECT n AS id, CASE n % 2 WHEN 0 THEN body END AS body FROM generate_series(1, 5) AS s (n), {_CELL} AS b (body)"
)
"""Every second row has a cell of 100 MiB."""

NARROW: Final = f"SELECT n AS id, (n % 1000)::integer AS value FROM generate_series(1::bigint, {MANY_ROWS}) AS s (n)"


def _thousand(number: str, numbers: str, *of_four: str) -> str:
    """Return a query for a key and 999 columns of four kinds, which become dictionaries of three sizes, or none."""
    values = (10, 1_000, 100_000)
    columns = (
        of_four[at % 4].format(n=number, factor=at + 3, values=values[at % 3]) + f" AS c{at}" for at in range(999)
    )
    return f"SELECT {number} AS id, {', '.join(columns)} FROM {numbers}"


WIDE: Final = _thousand(
    "n",
    f"generate_series(1::bigint, {WIDE_ROWS}) AS s (n)",
    "({n} * {factor} % 100003)::integer",
    "'t' || ({n} * {factor} % {values})",
    "{n} * {factor} / 7.0::float8",
    "(({n} * {factor} % 10000) / 100.0)::numeric(12,2)",
)
PRINTED: Final = _thousand(
    "n",
    f"generate_series(1::bigint, {WIDE_ROWS}) AS s (n)",
    "{n} * {factor} % {values} / 7::numeric",
    "time '12:00' + {n} % {values} * interval '1 s'",
    "{n} * interval '1 s'",
    "inet '10.0.0.0' + {n}",
)
"""Columns without a binary form that is read: the server prints them."""
MARIADB_WIDE: Final = _thousand(
    "seq",
    f"seq_1_to_{WIDE_ROWS}",
    "{n} * {factor} % 100003",
    "concat('t', {n} * {factor} % {values})",
    "{n} * {factor} / 7e0",
    "cast({n} * {factor} % 10000 / 100 AS decimal(12,2))",
)
