"""The data of the three databases: what the tables are, and how they are filled.

Every value follows from the number of its row, so that each run has the same rows and nothing is downloaded.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import pymysql


class Kind(StrEnum):
    """What a column holds, and so how its values are added up."""

    INTEGER = "integer"
    DECIMAL = "decimal"
    FLOAT = "float"
    """Multiples of 1/64 below 2**40: their sum is exact in every order."""
    BOOL = "bool"
    DATE = "date"
    TIMESTAMP = "timestamp"
    TEXT = "text"
    BYTES = "bytes"
    UUID = "uuid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One export of the example.

    Attributes:
        export: Its name in the YAML file.
        source: ``webshop``, ``warehouse`` or ``factory``.
        relation: Table, or query in parentheses, as the source's SQL names it.
        format: ``parquet`` or ``csv``.
        columns: What each column holds.
    """

    export: str
    source: str
    relation: str
    columns: dict[str, Kind]
    format: str = "parquet"


_I, _D, _F, _B, _T, _X = Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT, Kind.BOOL, Kind.TEXT, Kind.BYTES

TABLES: Final = (
    Table(
        export="orders",
        source="webshop",
        relation="orders",
        columns={
            "id": _I,
            "customer_id": _I,
            "ordered_at": Kind.TIMESTAMP,
            "total": _D,
            "weight_kg": _F,
            "status": _T,
            "is_gift": _B,
            "note": _T,
        },
    ),
    Table(
        export="customers",
        source="webshop",
        relation="customers",
        columns={
            "id": _I,
            "name": _T,
            "email": _T,
            "balance": _D,
            "is_active": _B,
            "born_on": Kind.DATE,
            "signed_up_at": Kind.TIMESTAMP,
            "settings": _T,
        },
    ),
    Table(
        export="documents",
        source="webshop",
        relation="documents",
        columns={"id": _I, "key": Kind.UUID, "title": _T, "content": _X, "page_count": _I},
    ),
    Table(
        export="refunds",
        source="webshop",
        relation="(SELECT id, customer_id, total, ordered_at FROM orders WHERE status = 'refunded') AS refunds",
        columns={"id": _I, "customer_id": _I, "total": _D, "ordered_at": Kind.TIMESTAMP},
    ),
    Table(
        export="stock_moves",
        source="warehouse",
        relation="stock_moves",
        columns={
            "id": _I,
            "product_id": _I,
            "quantity": _I,
            "unit_cost": _D,
            "moved_at": Kind.TIMESTAMP,
            "reason": _T,
        },
    ),
    Table(
        export="products",
        source="warehouse",
        relation="products",
        columns={
            "id": _I,
            "sku": _T,
            "title": _T,
            "price": _D,
            "weight_kg": _F,
            "rating": _I,
            "listed_on": Kind.DATE,
            "changed_at": Kind.TIMESTAMP,
            "attributes": _T,
        },
    ),
    Table(
        export="photos",
        source="warehouse",
        relation="photos",
        columns={"id": _I, "product_id": _I, "image": _X, "caption": _T, "views": _I},
    ),
    Table(
        export="measurements",
        source="factory",
        relation="measurements",
        columns={"id": _I, "machine_id": _I, "value": _F, "taken_at": Kind.TIMESTAMP, "is_valid": _B, "remark": _T},
    ),
    Table(
        export="machines",
        source="factory",
        relation="machines",
        columns={"id": _I, "name": _T, "price": _D, "bought_on": Kind.DATE, "is_running": _B, "manual": _T},
        format="csv",
    ),
    Table(
        export="alarms",
        source="factory",
        relation="alarms",
        columns={"id": _I, "machine_id": _I, "raised_at": Kind.TIMESTAMP, "payload": _X, "details": _T},
    ),
)

AWKWARD: Final = (
    "plain",
    "",
    " padded ",
    "comma, semicolon; tab\tend",
    "quote \" and ' mixed",
    "two\nlines",
    "carriage\r\nreturn",
    "back\\slash \\N \\t",
    "Žluťoučký kůň",
    "日本語のテキスト",
    "emoji 🙂🚀",
    "שלום عليكم",
    "e\u0301 combining",
    "NULL",
    "0123",
    "{braces} $1 %s",
)
"""No NUL: PostgreSQL's text cannot hold one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many rows the large tables get, and all others in proportion."""

    scale: float = 1.0

    def rows(self, full: int) -> int:
        return max(50, int(full * self.scale))


# --- PostgreSQL -----------------------------------------------------------------------------------------------------

# A multiplier of full period: rows look unordered and are the same everywhere.
_PG_ROWS: Final = (
    "(SELECT n, (n * 1103515245 + 12345) % 2147483648 AS r FROM generate_series(1::bigint, {count}) AS n) AS rows"
)

_POSTGRES: Final = (
    """CREATE TABLE orders (
        id bigint PRIMARY KEY, customer_id integer NOT NULL, ordered_at timestamp NOT NULL, total numeric(12,2) NOT NULL,
        weight_kg double precision, status text NOT NULL, is_gift boolean, note text)""",
    """CREATE TABLE customers (
        id integer PRIMARY KEY, name text NOT NULL, email varchar(80) NOT NULL, balance numeric(12,2), is_active boolean NOT NULL,
        born_on date, signed_up_at timestamptz NOT NULL, settings jsonb)""",
    """CREATE TABLE documents (
        id integer PRIMARY KEY, key uuid NOT NULL, title text, content bytea, page_count smallint)""",
)

_POSTGRES_ROWS: Final = (
    (
        1_000_000,
        """INSERT INTO orders SELECT n, 1 + r % 50000, timestamp '2020-01-01' + r * interval '73 milliseconds' + n * interval '1 microsecond',
            (r % 99999999 - 500000)::numeric / 100, CASE WHEN r % 7 > 0 THEN (r % 65536) / 64.0 END,
            (ARRAY['new', 'paid', 'shipped', 'refunded'])[1 + r / 11 % 4], CASE WHEN r % 5 > 0 THEN r % 3 = 0 END,
            CASE WHEN r % 9 = 0 THEN ($1::text[])[1 + r / 97 % 16] END FROM {rows}""",
    ),
    (
        50_000,
        """INSERT INTO customers SELECT n, ($1::text[])[1 + r % 16] || ' ' || n, 'customer' || n || '@example.com',
            CASE WHEN r % 6 > 0 THEN (r % 100000000 - 30000000)::numeric / 100 END, r % 3 > 0,
            CASE WHEN r % 10 > 0 THEN date '1930-01-01' + (r % 30000)::int END,
            timestamptz '2015-01-01 00:00:00+00' + r * interval '150 milliseconds',
            CASE WHEN r % 4 > 0 THEN jsonb_build_object('theme', ($1::text[])[1 + r / 5 % 16], 'size', r % 20) END FROM {rows}""",
    ),
    (
        20_000,
        """INSERT INTO documents SELECT n, md5(n::text)::uuid, ($1::text[])[1 + r % 16],
            CASE WHEN r % 8 > 0 THEN decode(repeat(md5(r::text), (r % 12)::int), 'hex') END,
            CASE WHEN r % 5 > 0 THEN r % 32767 END FROM {rows}""",
    ),
)


async def fill_postgres(url: str, size: Size) -> None:
    connection = await asyncpg.connect(url)
    try:
        # One transaction: rows of a table made in it need no write-ahead log.
        async with connection.transaction():
            for statement in _POSTGRES:
                await connection.execute(statement)
            for count, statement in _POSTGRES_ROWS:
                await connection.execute(statement.format(rows=_PG_ROWS.format(count=size.rows(count))), list(AWKWARD))
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


# --- MariaDB --------------------------------------------------------------------------------------------------------

# The SEQUENCE engine is built in.
_MARIADB_NUMBERS: Final = """(SELECT CAST(seq AS SIGNED) AS n, CAST(MOD(seq * 1103515245 + 12345, 2147483648) AS SIGNED) AS r
    FROM seq_1_to_{count}) AS numbers"""

_MARIADB: Final = (
    """CREATE TABLE stock_moves (
        id BIGINT UNSIGNED PRIMARY KEY, product_id INT NOT NULL, quantity SMALLINT NOT NULL, unit_cost DECIMAL(12,2),
        moved_at DATETIME(6) NOT NULL, reason VARCHAR(200))""",
    """CREATE TABLE products (
        id INT PRIMARY KEY, sku CHAR(9) NOT NULL, title TEXT NOT NULL, price DECIMAL(12,2) NOT NULL, weight_kg DOUBLE,
        rating TINYINT, listed_on DATE, changed_at TIMESTAMP(6) NOT NULL DEFAULT '2001-01-01', attributes JSON)""",
    """CREATE TABLE photos (
        id INT UNSIGNED PRIMARY KEY, product_id INT NOT NULL, image MEDIUMBLOB, caption MEDIUMTEXT, views BIGINT)""",
)

_MARIADB_ROWS: Final = (
    (
        400_000,
        """INSERT INTO stock_moves SELECT n, 1 + MOD(r, 30000), MOD(r, 2001) - 1000, IF(MOD(r, 7) > 0, (MOD(r, 100000000) - 7000) / 100, NULL),
            TIMESTAMPADD(MICROSECOND, r * 60000 + n, '2021-03-01'), IF(MOD(r, 6) > 0, ELT(1 + MOD(r, 16), {awkward}), NULL) FROM {rows}""",
    ),
    (
        30_000,
        """INSERT INTO products SELECT n, CONCAT('SKU-', LPAD(n, 5, '0')), CONCAT(ELT(1 + MOD(r, 16), {awkward}), ' no. ', n),
            MOD(r, 1000000) / 100, IF(MOD(r, 9) > 0, MOD(r, 65536) / 64, NULL), IF(MOD(r, 4) > 0, MOD(r, 6), NULL),
            IF(MOD(r, 12) > 0, DATE_ADD('1990-05-05', INTERVAL MOD(r, 12000) DAY), NULL),
            TIMESTAMPADD(MICROSECOND, r * 40000 + n, '2018-02-03'),
            IF(MOD(r, 3) > 0, JSON_OBJECT('colour', ELT(1 + MOD(r, 16), {awkward}), 'depth', MOD(r, 50)), NULL) FROM {rows}""",
    ),
    (
        4_000,
        """INSERT INTO photos SELECT n, 1 + MOD(r, 30000), IF(MOD(r, 8) > 0, UNHEX(REPEAT(MD5(r), MOD(r, 200))), NULL),
            IF(MOD(r, 5) > 0, ELT(1 + MOD(r, 16), {awkward}), NULL), IF(MOD(r, 10) > 0, r * 4000000000, NULL) FROM {rows}""",
    ),
)


def connect_mariadb(url: str) -> pymysql.Connection[Any]:
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=parts.username or "root",
        password=parts.password or "",
        database=parts.path.lstrip("/"),
        charset="utf8mb4",
        init_command="SET time_zone = '+00:00'",
    )


def fill_mariadb(url: str, size: Size) -> None:
    with closing(connect_mariadb(url)) as connection, connection.cursor() as cursor:
        awkward = ", ".join(str(connection.escape(text)) for text in AWKWARD)
        for statement in _MARIADB:
            cursor.execute(statement)
        for count, statement in _MARIADB_ROWS:
            rows = _MARIADB_NUMBERS.format(count=size.rows(count))
            cursor.execute(statement.format(rows=rows, awkward=awkward))
        connection.commit()
        cursor.execute("ANALYZE TABLE stock_moves, products, photos")


# --- SQLite ---------------------------------------------------------------------------------------------------------

_SQLITE: Final = (
    """CREATE TABLE measurements (
        id INTEGER PRIMARY KEY, machine_id INTEGER NOT NULL, value REAL, taken_at TIMESTAMP NOT NULL, is_valid BOOLEAN, remark TEXT)""",
    """CREATE TABLE machines (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, price DECIMAL(12,2), bought_on DATE, is_running BOOLEAN NOT NULL, manual TEXT)""",
    """CREATE TABLE alarms (
        id INTEGER PRIMARY KEY, machine_id INTEGER NOT NULL, raised_at TIMESTAMP NOT NULL, payload BLOB, details JSON)""",
)

_SQLITE_ROWS: Final = (
    (
        400_000,
        """INSERT INTO measurements SELECT n, 1 + r % 400, CASE WHEN r % 11 > 0 THEN (r % 65536 - 20000) / 64.0 END,
            strftime('%Y-%m-%d %H:%M:%S', 1500000000 + r / 16, 'unixepoch'), CASE WHEN r % 6 > 0 THEN r % 2 END,
            CASE WHEN r % 20 = 0 THEN awkward(r / 13) END FROM rows""",
    ),
    (
        400,
        """INSERT INTO machines SELECT n, awkward(r) || ' ' || n, CASE WHEN r % 5 > 0 THEN (r % 10000000) / 100.0 END,
            CASE WHEN r % 7 > 0 THEN date('2001-01-01', '+' || (r % 8000) || ' days') END, r % 2, CASE WHEN r % 4 > 0 THEN awkward(r / 7) END
            FROM rows""",
    ),
    (
        50_000,
        """INSERT INTO alarms SELECT n, 1 + r % 400, strftime('%Y-%m-%d %H:%M:%S', 1500000000 + r / 16, 'unixepoch'),
            CASE WHEN r % 4 > 0 THEN CAST(substr(hex(r) || hex(n), 1, r % 24) AS BLOB) END,
            CASE WHEN r % 3 > 0 THEN json_object('code', r % 100, 'text', awkward(r / 5)) END FROM rows""",
    ),
)

_SQLITE_NUMBERS: Final = """WITH RECURSIVE counter (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < {count}),
    rows (n, r) AS (SELECT n, (n * 1103515245 + 12345) % 2147483648 FROM counter) """


def fill_sqlite(path: Path, size: Size) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.create_function("awkward", 1, lambda number: AWKWARD[number % len(AWKWARD)], deterministic=True)
        connection.execute("PRAGMA synchronous = OFF")
        for statement in _SQLITE:
            connection.execute(statement)
        for count, statement in _SQLITE_ROWS:
            insert, _, select = statement.partition(" SELECT ")
            numbers = _SQLITE_NUMBERS.format(count=size.rows(count))
            connection.execute(f"{insert} {numbers} SELECT {select}")
        connection.commit()


def fill_all(urls: dict[str, str], sqlite_path: Path, size: Size) -> None:
    """Fill the three databases at the same time.

    Raises:
        RuntimeError: If one of them could not be filled.
    """
    failures: list[BaseException] = []

    def guarded(fill: Callable[[], None]) -> None:
        try:
            fill()
        except Exception as exc:  # noqa: BLE001  # the top of a thread: kept for the caller
            failures.append(exc)

    fills: tuple[Callable[[], None], ...] = (
        lambda: asyncio.run(fill_postgres(urls["postgres"], size)),
        lambda: fill_mariadb(urls["mariadb"], size),
        lambda: fill_sqlite(sqlite_path, size),
    )
    threads = [threading.Thread(target=guarded, args=(fill,)) for fill in fills]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError("a database could not be filled") from failures[0]
