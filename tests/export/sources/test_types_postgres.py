"""What reading from PostgreSQL does to values; every type of it is in tests/export/types."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal

import pyarrow as pa
import pytest

from procflow_export.model.plan import KeyRange, Query, Relation
from procflow_export.model.types import Fidelity
from procflow_export.sources.failures import ValueRefusedError
from tests.export.sources.databases import PostgresDatabase, opened, read, values

pytestmark = pytest.mark.anyio

UTC = dt.UTC


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_byte_order_mark_is_data_in_every_chunk(postgres: PostgresDatabase) -> None:
    """E-20: a text that begins with U+FEFF, or is nothing else, keeps it at the beginning of every chunk and block."""
    postgres.execute(
        "CREATE TABLE t (v text, id int)",
        "INSERT INTO t SELECT E'\\uFEFF' || CASE WHEN n % 2 = 0 THEN '' ELSE repeat('x', 100000) END, n"
        " FROM generate_series(1, 60) AS g (n)",
    )
    expected = {n: "\ufeff" + ("" if n % 2 == 0 else "x" * 100_000) for n in range(1, 61)}

    async with opened(postgres) as source:
        for low, high in ((1, 61), (1, 2), (2, 3), (3, 4)):
            table = await read(source, "t", KeyRange.of_integers("id", low, high))
            numbers = range(low, high)
            assert dict(zip(values(table), values(table, "v"), strict=True)) == {n: expected[n] for n in numbers}


async def test_nan_stays_nan(postgres: PostgresDatabase) -> None:
    """E-20: a float's NaN is a NaN, not a NULL."""
    postgres.execute("CREATE TABLE t (a float8, b float4)", "INSERT INTO t VALUES ('NaN', 'NaN'), (NULL, NULL)")

    async with opened(postgres) as source:
        table = await read(source, "t")

    assert all(math.isnan(value) for value in (table["a"][0].as_py(), table["b"][0].as_py()))
    assert table["a"].null_count == table["b"].null_count == 1


async def test_years_outside_four_digits_are_exact(postgres: PostgresDatabase) -> None:
    """E-20: BC and five-digit years are values like others, also beside them."""
    postgres.execute(
        "CREATE TABLE t (id int, d date, t timestamp, z timestamptz)",
        "INSERT INTO t VALUES (1, '0044-03-15 BC', '0001-12-31 23:59:59.999999 BC', '0001-12-31 00:00:00+00 BC'),"
        " (2, '2024-02-29', '2024-02-29 01:02:03.4', '2024-02-29 01:02:03+00'),"
        " (3, '5874897-12-31', '294246-01-01 00:00:00', '10000-01-01 00:00:00.5+00'), (4, NULL, NULL, NULL)",
    )

    async with opened(postgres) as source:
        profile = await source.profile(Relation(table="t"))
        table = await read(source, "t")
        by_server = await read(
            source,
            Query(
                text="SELECT (d - date '1970-01-01')::int8 AS d,"
                " (extract(epoch FROM t) * 1000000)::int8 AS t, (extract(epoch FROM z) * 1000000)::int8 AS z FROM t ORDER BY id"
            ),
        )

    assert [column.fidelity for column in profile.columns] == [Fidelity.EXACT] * 4
    assert table["d"].cast(pa.int32()).to_pylist() == by_server["d"].to_pylist()
    assert table["t"].cast(pa.int64()).to_pylist() == by_server["t"].to_pylist()
    assert table["z"].cast(pa.int64()).to_pylist() == by_server["z"].to_pylist()


async def test_numerics_of_queries_keep_their_precision_or_travel_as_text(postgres: PostgresDatabase) -> None:
    """E-20: precision is found out for a query's columns; where there is none, the value is text."""
    postgres.execute("CREATE TABLE t (n numeric(10,2))", "INSERT INTO t VALUES (1.25)")

    async with opened(postgres) as source:
        table = await read(
            source, Query(text="SELECT n, n::numeric(30,5) AS cast, n / 3 AS ratio, sum(n) OVER () AS total FROM t")
        )

    assert table.schema.types == [pa.decimal128(10, 2), pa.decimal128(30, 5), pa.string(), pa.string()]
    assert table.to_pylist() == [
        {"n": Decimal("1.25"), "cast": Decimal("1.25000"), "ratio": "0.41666666666666666667", "total": "1.25"}
    ]


async def test_role_without_temporary_privilege_gets_text(postgres: PostgresDatabase) -> None:
    """E-20: where precision cannot be found out, the value is exact text all the same."""
    name = postgres.url.rpartition("/")[2]
    role = f"reader_{name}"
    postgres.execute(
        "CREATE TABLE t (n numeric(10,2))",
        "INSERT INTO t VALUES (1.25)",
        f"CREATE ROLE {role} LOGIN",
        f"GRANT SELECT ON t TO {role}",
        f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC",
    )
    try:
        reader = PostgresDatabase(postgres.url.replace("postgres@", f"{role}@"))
        async with opened(reader) as source:
            table = await read(source, Query(text="SELECT n FROM t"))
            direct = await read(source, "t")
    finally:
        postgres.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")

    assert table["n"].to_pylist() == ["1.25"]
    assert direct["n"].to_pylist() == [Decimal("1.25")]


async def test_session_of_the_server_does_not_change_values(postgres: PostgresDatabase) -> None:
    """E-20: what the database's own settings say about texts has no effect."""
    name = postgres.url.rpartition("/")[2]
    postgres.execute(
        *(
            f"ALTER DATABASE {name} SET {setting}"
            for setting in (
                "TimeZone = 'America/Los_Angeles'",
                "DateStyle = 'German, DMY'",
                "IntervalStyle = 'sql_standard'",
                "bytea_output = 'escape'",
                "extra_float_digits = -10",
            )
        ),
        "CREATE TABLE t (z timestamptz, d date, i interval, b bytea, f float8)",
        r"INSERT INTO t VALUES ('2024-06-01 12:00:00+00', '2024-06-01', '1 day', '\x00', 0.1)",
    )

    async with opened(postgres) as source:
        table = await read(source, "t")

    assert table.to_pylist() == [
        {"z": dt.datetime(2024, 6, 1, 12, tzinfo=UTC), "d": dt.date(2024, 6, 1), "i": "P1D", "b": b"\x00", "f": 0.1}
    ]


async def test_rows_that_row_security_hides_are_told(postgres: PostgresDatabase) -> None:
    """E-20: rows that the user may not see are missing from the export, but not silently."""
    role = f"seer_{postgres.url.rpartition('/')[2]}"
    postgres.execute(
        f"CREATE ROLE {role} LOGIN",
        "CREATE TABLE t (id int PRIMARY KEY)",
        "INSERT INTO t VALUES (1), (2)",
        f"GRANT SELECT ON t TO {role}",
        "CREATE POLICY few ON t FOR SELECT USING (id = 1)",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
    )
    seer = PostgresDatabase(postgres.url.replace("postgres@", f"{role}@"))
    try:
        async with opened(seer) as source, opened(postgres) as owner:
            filtered = await source.profile(Relation(table="t"))
            table = await read(source, "t")
            whole = await owner.profile(Relation(table="t"))
    finally:
        postgres.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")

    assert table["id"].to_pylist() == [1]
    assert "row security" in filtered.notes[0]
    assert whole.notes == ()


async def test_a_server_that_can_looks_whether_anybody_waits(postgres: PostgresDatabase) -> None:
    """E-34: a statement whose client is gone ends within a second, where the server's platform tells it; no other is asked."""
    setting = "SELECT current_setting('client_connection_check_interval') AS v"

    async with opened(postgres) as source:
        table = await read(source, Query(text=setting))
        (server,) = (await read(source, Query(text="SELECT version() AS v")))["v"].to_pylist()

    assert table["v"].to_pylist() == ["1s" if "linux" in str(server) else "0"]


@pytest.mark.parametrize("decimals", [0, 20], ids=["binary", "text"])
async def test_text_that_is_no_utf8_is_an_error_that_names_it(postgres: PostgresDatabase, decimals: int) -> None:
    """E-21: a database without an encoding may hold any bytes; those that are no text are refused, all others exported."""
    name = f"{postgres.url.rpartition('/')[2]}_bytes"
    postgres.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        database = PostgresDatabase(postgres.url + "_bytes")
        numbers = "".join(f", n{number} numeric(5,2)" for number in range(decimals))
        database.execute(
            f'CREATE TABLE "Größe" (id int PRIMARY KEY, "text ä" text{numbers})',
            "INSERT INTO \"Größe\" VALUES (1, 'é'), (2, E'a\\xff'), (3, NULL)",
        )
        async with opened(database) as source:
            good = await read(source, "Größe", KeyRange.of_integers("id", 1, 2))
            with pytest.raises(ValueRefusedError, match="not valid UTF-8") as caught:
                await read(source, "Größe", KeyRange.of_integers("id", 1, 4))
            again = await read(source, "Größe", KeyRange.of_integers("id", 3, 4))
    finally:
        postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")

    assert values(good, "text ä") == ["é"]
    assert (caught.value.column, caught.value.place) == ("text ä", "id = 2")
    assert values(again, "text ä") == [None]


async def test_one_nullable_column_and_very_long_values(postgres: PostgresDatabase) -> None:
    """E-23: an empty line is NULL, a quoted one is empty, and a value longer than every block arrives."""
    postgres.execute(
        "CREATE TABLE t (v text)",
        "INSERT INTO t VALUES (NULL), (''), (repeat(E'line\\n\"', 1000000)), ('end'), (NULL)",
    )

    async with opened(postgres) as source:
        table = await read(source, "t")

    assert table["v"].to_pylist() == [None, "", 'line\n"' * 1_000_000, "end", None]
