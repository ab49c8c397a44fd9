"""What went wrong elsewhere and must not here, through the whole pipeline, with files that nothing of ours reads."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from procflow_export import ExitStatus, Finished, Status, Warned
from procflow_export.formats import refuse_unwritable
from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError
from procflow_export.model.settings import Compression, Format, FormatOptions
from tests.export.sources.databases import PostgresDatabase, SqliteDatabase
from tests.export.types.exporting import export, exported
from tools.pytest_servers import mariadb_execute


@pytest.fixture
def sqlite(tmp_path: Path) -> Any:
    database = SqliteDatabase(tmp_path / "source.db")
    yield database
    database.close()


def sqlite_source(database: SqliteDatabase) -> dict[str, Any]:
    return {"type": "sqlite", "path": str(database.path)}


def cells(directory: Path) -> list[str]:
    (part,) = (directory / "csv").glob("*.csv")
    return part.read_text(encoding="utf-8").split("\n")


def rows_of(directory: Path) -> list[dict[str, Any]]:
    (part,) = (directory / "parquet").glob("*.parquet")
    return pq.read_table(part).to_pylist()


def test_unsigned_integers_of_64_bits_have_all_their_values(mariadb_database: str, tmp_path: Path) -> None:
    """E-20, E-10: the highest unsigned integer is itself as a value and as a key (lesson 11)."""
    keys = [0, 2**63 - 1, 2**63, 2**64 - 1]
    mariadb_execute(
        mariadb_database,
        "CREATE TABLE t (id bigint unsigned PRIMARY KEY, v bigint unsigned)",
        f"INSERT INTO t VALUES {', '.join(f'({key}, {key})' for key in keys)}",
    )

    found = exported(tmp_path, {"type": "mysql", "url": mariadb_database}, table="t", chunked_by="id")

    assert found.by_pyarrow("v") == found.by_duckdb("v", pa.uint64()) == {key: key for key in keys}
    assert found.cells_by_duckdb("v") == {key: str(key) for key in keys}


def test_a_scale_that_is_too_small_loses_no_digit(sqlite: SqliteDatabase, tmp_path: Path) -> None:
    """E-20: a decimal of scale 0 refuses 1.05: nothing is published, and the error names column and row (lesson 12)."""
    sqlite.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v DECIMAL(10,2))", "INSERT INTO t VALUES (1, 7), (2, '1.05')"
    )

    ran = export(tmp_path, sqlite_source(sqlite), table="t", columns={"v": "decimal(10,0)"})

    assert ran.result.exit_status is ExitStatus.REFUSED
    for verdict in ran.of(Finished):
        assert verdict.failure is not None
        assert verdict.failure.code is Code.VALUE_REFUSED
        assert "'v'" in verdict.failure.message
        assert "rowid 2" in verdict.failure.message
    assert not list(tmp_path.glob("*/manifest.json"))


def test_money_is_no_float(postgres_database: str, tmp_path: Path) -> None:
    """E-20: money has all of its digits, whatever the locale of the server writes between them (lesson 13)."""
    database = PostgresDatabase(postgres_database)
    amounts = ["92233720368547758.07", "-92233720368547758.08", "0.01", "1234567.89"]
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v money)",
        *(f"INSERT INTO t VALUES ({number}, {amount}::numeric)" for number, amount in enumerate(amounts)),
        f"ALTER DATABASE {postgres_database.rpartition('/')[2]} SET lc_monetary = 'C'",
    )

    found = exported(tmp_path, {"type": "postgres", "url": postgres_database}, table="t")

    expected = {number: Decimal(amount) for number, amount in enumerate(amounts)}
    assert found.by_pyarrow("v") == found.by_duckdb("v", pa.decimal128(19, 2)) == expected
    assert found.cells_by_pyarrow("v") == dict(enumerate(amounts))


def test_a_null_in_an_array_leaves_the_array(postgres_database: str, tmp_path: Path) -> None:
    """E-20: an array with a NULL element is that array, in both formats, as a list and as JSON (lesson 14)."""
    PostgresDatabase(postgres_database).execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int[], j numeric[])",
        "INSERT INTO t VALUES (1, '{1,NULL,3}', '{1.50,NULL}'), (2, '{NULL}', '{}'), (3, NULL, NULL), (4, '{}', '{NULL}')",
    )

    found = exported(tmp_path, {"type": "postgres", "url": postgres_database}, table="t")

    lists = {1: [1, None, 3], 2: [None], 3: None, 4: []}
    assert found.by_pyarrow("v") == found.by_duckdb("v", pa.list_(pa.int32())) == lists
    texts = found.cells_by_duckdb("v")
    assert {key: None if text is None else json.loads(text) for key, text in texts.items()} == lists
    assert found.by_duckdb("j", pa.string()) == {1: "[1.50,null]", 2: "[]", 3: None, 4: "[null]"}


@pytest.mark.parametrize("on_invalid", ["error", "null"])
def test_uuids_that_are_none_are_refused_or_counted(sqlite: SqliteDatabase, tmp_path: Path, on_invalid: str) -> None:
    """E-21: a UUID that does not parse is an error, or a NULL that is counted: never a column of NULLs (lesson 15)."""
    known = "123e4567-e89b-12d3-a456-426614174000"
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    for number, text in enumerate((known, None, "nothing", known.replace("-", "").upper(), "")):
        sqlite.execute(f"INSERT INTO t VALUES ({number}, ?)", parameters=(text,))

    ran = export(tmp_path, sqlite_source(sqlite), table="t", columns={"v": {"type": "uuid", "on_invalid": on_invalid}})

    verdicts = ran.of(Finished)
    if on_invalid == "error":
        assert all(verdict.failure and verdict.failure.code is Code.VALUE_REFUSED for verdict in verdicts)
        return
    assert all(verdict.status is Status.SUCCESS and verdict.changed_values == {"v": 2} for verdict in verdicts)
    assert [row["v"] and str(row["v"]) for row in rows_of(tmp_path)] == [known, None, None, known, None]
    for kind in ("parquet", "csv"):
        manifest = json.loads((tmp_path / kind / "manifest.json").read_bytes())
        assert manifest["changed_values"] == {"v": 2}
    told = [(event.export, event.message) for event in ran.of(Warned) if event.code == "VALUES_CHANGED"]
    assert sorted(told) == [("csv", "v: 2 values changed to NULL"), ("parquet", "v: 2 values changed to NULL")]


@pytest.mark.parametrize(
    ("kind", "arrow_type"),
    [
        (Format.PARQUET, pa.month_day_nano_interval()),
        (Format.CSV, pa.sparse_union([pa.field("a", pa.int32())])),
    ],
)
def test_what_a_format_has_no_form_for_is_an_error(kind: Format, arrow_type: pa.DataType) -> None:
    """E-22: a type that cannot be written is told before the first row, by check and by run, and never left out (lesson 18)."""
    schema = pa.schema([pa.field("v", arrow_type)])

    with pytest.raises(DataError) as caught:
        refuse_unwritable(FormatOptions(format=kind, compression=Compression.NONE), schema)

    assert caught.value.code is Code.TYPE_NOT_SUPPORTED
    assert "'v'" in caught.value.message


def test_moments_before_1970_have_their_fraction_in_csv(postgres_database: str, tmp_path: Path) -> None:
    """E-24: times before 1970 keep their fraction, instants end in Z, wall-clock times in nothing (lesson 19)."""
    PostgresDatabase(postgres_database).execute(
        "CREATE TABLE t (id int, a timestamp, b timestamptz, c date)",
        "INSERT INTO t VALUES (1, '1969-12-31 23:59:59.000001', '1901-01-01 00:00:00.5+00', '0044-03-15 BC')",
    )

    exported(tmp_path, {"type": "postgres", "url": postgres_database}, table="t")

    assert cells(tmp_path) == [
        "id,a,b,c",
        "1,1969-12-31T23:59:59.000001,1901-01-01T00:00:00.500000Z,-0043-03-15",
        "",
    ]


def test_negative_times_have_one_sign_in_csv(mariadb_database: str, tmp_path: Path) -> None:
    """E-24: a negative TIME of less than an hour keeps its sign (lesson 19)."""
    mariadb_execute(
        mariadb_database,
        "CREATE TABLE t (id int, v time(6))",
        "INSERT INTO t VALUES (1, '-00:00:00.000001'), (2, '-838:59:59'), (3, '100:00:00')",
    )

    exported(tmp_path, {"type": "mysql", "url": mariadb_database}, table="t")

    assert cells(tmp_path)[1:4] == ["1,-00:00:00.000001", "2,-838:59:59.000000", "3,100:00:00.000000"]


def test_names_of_columns_are_quoted_in_csv(sqlite: SqliteDatabase, tmp_path: Path) -> None:
    """E-24: a header is quoted where a value would be (lesson 19)."""
    sqlite.execute('CREATE TABLE t (id INTEGER, "a,b" TEXT, "c""d" TEXT)', "INSERT INTO t VALUES (1, 'x', '')")

    exported(tmp_path, sqlite_source(sqlite), table="t")

    assert cells(tmp_path) == ['id,"a,b","c""d"', '1,x,""', ""]
    (part,) = (tmp_path / "csv").glob("*.csv")
    with duckdb.connect() as connection:
        found = connection.execute("SELECT * FROM read_csv(?, header = true)", [str(part)]).description
    assert [entry[0] for entry in found or ()] == ["id", "a,b", 'c"d']


def test_queries_and_tables_agree_on_decimals(postgres_database: str, tmp_path: Path) -> None:
    """E-22: an expression has its precision, or is text, and is so in check as in run (lesson 39)."""
    PostgresDatabase(postgres_database).execute(
        "CREATE TABLE t (id int, n numeric(10,2))", "INSERT INTO t VALUES (1, 1.25)"
    )
    query = "SELECT id, n, n * 2 AS twice, (n / 3)::numeric(20,8) AS third FROM t"

    found = exported(tmp_path, {"type": "postgres", "url": postgres_database}, query=query)

    assert [field.type for field in found.schema()][1:] == [
        pa.decimal128(10, 2),
        pa.string(),
        pa.decimal128(20, 8),
    ]
    assert rows_of(tmp_path) == [{"id": 1, "n": Decimal("1.25"), "twice": "2.50", "third": Decimal("0.41666667")}]


@pytest.mark.parametrize("chunked_by", [None, "no"])
def test_a_refused_value_is_named_by_the_table_s_key(
    postgres_database: str, mariadb_database: str, tmp_path: Path, chunked_by: str | None
) -> None:
    """E-21: whatever the rows are read by, they are named by what tells them apart, all of its columns."""
    PostgresDatabase(postgres_database).execute(
        "CREATE TABLE t (region text, no int, v date, PRIMARY KEY (region, no))",
        "INSERT INTO t VALUES ('n', 1, '2024-05-06'), ('n', 2, 'infinity')",
    )
    mariadb_execute(
        mariadb_database,
        "SET SESSION sql_mode = ''",
        "CREATE TABLE t (region varchar(5), no int, v date, PRIMARY KEY (region, no))",
        "INSERT INTO t VALUES ('n', 1, '2024-05-06'), ('n', 2, '0000-00-00')",
    )

    for kind, url in (("postgres", postgres_database), ("mysql", mariadb_database)):
        ran = export(tmp_path / kind, {"type": kind, "url": url}, table="t", chunked_by=chunked_by)

        for verdict in ran.of(Finished):
            assert verdict.failure is not None
            assert verdict.failure.code is Code.VALUE_REFUSED
            assert "region = n, no = 2" in verdict.failure.message
