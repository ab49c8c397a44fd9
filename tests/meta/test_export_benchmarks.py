"""What the benchmarks of the export measure with: tables that are the same everywhere, commands seen from outside, values compared."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import json
import os
import re
import subprocess
import sys
import uuid
from decimal import Decimal
from pathlib import Path

import asyncpg
import pyarrow as pa
import pyarrow.parquet
import pytest

from benchmarks import environments, export_trials, exported, observing, table_files
from benchmarks.environments import ENVIRONMENTS, PINS, NotInstalledError
from benchmarks.export_peers import PEERS, Writer, array, table_of
from benchmarks.export_postgres import DRAINS, SAME_COPY
from benchmarks.observing import MIB, TICKS, Peak, Server, observed
from benchmarks.table_files import first_rows, row_count, table_file
from benchmarks.tables import NARROW, PLAIN, SERVER_TABLES, TABLES, WIDE, Column
from tools.lock import PIN

SCALE = 0.002


@pytest.fixture(autouse=True)
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "PLACE", tmp_path / "tables")


def piped(program: str) -> subprocess.Popen[bytes]:
    """Start a program that ends when its input does; leaving the block ends it."""
    return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def run_python(program: str, **options: object) -> observing.Observation:
    return observed([sys.executable, "-c", program], os.environ, server_pid=None, **options)  # type: ignore[arg-type]  # its own


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("wide", "a43b4107256619fbf704c45ae502089b7f75e2aad949ded5f6c6b4d9957cc1ac"),
        ("narrow", "ab69dbb9a8b9f1a174c96e4ca8ae910c06824c63a7acd7f73d1e37aa1a902399"),
    ],
)
def test_rows_follow_from_their_numbers(name: str, digest: str) -> None:
    content = table_file(TABLES[name], SCALE).read_bytes()

    assert hashlib.sha256(content).hexdigest() == digest


def test_the_first_rows_are_those_of_a_smaller_table() -> None:
    small, large = first_rows(WIDE, SCALE, 1000), first_rows(WIDE, 2 * SCALE, 1000)

    assert len(small) == row_count(WIDE, SCALE) == 1000
    assert row_count(WIDE, 2 * SCALE) == 2000
    assert small == large


def test_every_nullable_column_has_nulls_and_every_text_that_needs_escaping_is_there() -> None:
    rows = first_rows(WIDE, SCALE, 1000)

    for column, values in zip(WIDE.columns, zip(*rows, strict=True), strict=True):
        assert (None in values) == ("NOT NULL" not in column.postgres), column.name
    notes = " ".join(row[[column.name for column in WIDE.columns].index("note")] or "" for row in rows)
    assert all(text in notes for text in ("\n", "\t", '"', "\\", "\\N", ",", "東京"))


def test_a_table_may_have_less_than_its_file() -> None:
    names = [column.name for column in WIDE.columns]
    kept = [names.index(column.name) for column in PLAIN.columns]

    assert first_rows(PLAIN, SCALE, 50) == [tuple(row[place] for place in kept) for row in first_rows(WIDE, SCALE, 50)]


def test_a_share_of_the_rows_is_that_of_the_lowest_keys() -> None:
    query, rows = export_trials.first_part(NARROW, SCALE, 0.1)

    assert query == f"SELECT * FROM narrow WHERE id < {rows + 1}"
    assert rows == row_count(NARROW, SCALE) // 10
    assert export_trials.first_part(NARROW, SCALE, 1) == ("SELECT * FROM narrow", row_count(NARROW, SCALE))


@pytest.mark.postgres
def test_the_drain_is_in_the_format_in_which_the_table_is_read(postgres_database: str, tmp_path: Path) -> None:
    """Otherwise the distance to the limit would be that to another limit."""
    log = asyncio.run(make_logged(postgres_database))
    exports = [
        {"name": table.name, "table": table.name, "mode": "full", "format": "parquet"} for table in SERVER_TABLES
    ]
    config = tmp_path / "all.yaml"
    source = {"type": "postgres", "url_env": "PROCFLOW_BENCH_URL"}
    destination = {"type": "local", "path": "{export}"}
    config.write_text(json.dumps({"source": source, "destination": destination, "exports": exports}))

    argv = [sys.executable, "-m", "procflow_export", "run", str(config), "--quiet", "--engine", "in-process"]
    subprocess.run(argv, env={**os.environ, "PROCFLOW_BENCH_URL": postgres_database}, check=True)

    # Only LOG: of the other databases the server notes the statements that fail.
    asked = re.findall(r"""LOG:  statement: COPY .* FROM \S*?(\w+)"?\b.* \(FORMAT '?(\w+)""", log.read_text())
    assert {table: DRAINS[format_name] for table, format_name in asked} == SAME_COPY


async def make_logged(url: str) -> Path:
    """Make the tables, without rows, and return where the server notes every statement about this database from now on."""
    connection = await asyncpg.connect(url)
    for table in SERVER_TABLES:
        columns = ", ".join(f"{column.name} {column.postgres}" for column in table.columns)
        await connection.execute(f"CREATE TABLE {table.name} ({columns}, PRIMARY KEY ({', '.join(table.key)}))")
    await connection.execute(
        f"ALTER DATABASE {await connection.fetchval('SELECT current_database()')} SET log_statement = 'all'"
    )
    directory = await connection.fetchval("SHOW data_directory")
    await connection.close()
    return Path(directory).parent / "log"


# --- peers ----------------------------------------------------------------------------------------------------------


def test_every_peer_is_pinned() -> None:
    pinned = {name.lower() for name, _ in PIN.findall(PINS.read_text("utf-8"))}

    assert {package.partition("[")[0] for packages in ENVIRONMENTS.values() for package in packages} <= pinned


def test_an_environment_is_not_made_where_that_is_not_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "PLACE", tmp_path)

    with pytest.raises(NotInstalledError, match="rivet is not installed"):
        environments.ensure("rivet", is_made=False)

    assert not list(tmp_path.iterdir())


def test_the_module_of_the_peers_needs_nothing_but_pyarrow() -> None:
    program = (
        "import sys; sys.path.insert(0, '.'); import benchmarks.export_peers\n"
        "print({'asyncpg', 'pymysql', 'procflow', 'psutil', 'anyio'} & set(sys.modules))"
    )

    assert run_python(program).output == b"set()\n"


def test_a_loop_writes_what_its_driver_gives(tmp_path: Path) -> None:
    query, path = "SELECT * FROM wide WHERE id < 100", tmp_path / "wide.parquet"
    rows = first_rows(WIDE, SCALE, 99)
    json_place = [column.name for column in WIDE.columns].index("settings")
    texts = [
        tuple('{"a": 1}' if place == json_place and value else value for place, value in enumerate(row)) for row in rows
    ]

    writer = Writer(query, str(path))
    writer.write(texts)
    writer.close()

    assert table_of(query) is WIDE
    assert list(exported.inexact_columns([path], WIDE, rows)) == ["settings"]
    assert array(Column(name="b", postgres="", mariadb="", arrow=pa.bool_()), [1, 0, None]).to_pylist() == [
        True,
        False,
        None,
    ]
    assert {"asyncpg", "aiomysql", "connectorx", "adbc", "pandas-psycopg"} <= set(PEERS)


# --- commands seen from outside -------------------------------------------------------------------------------------


def test_cpu_of_children_and_orphans_counts() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    # The orphan outlives its parent and takes its time afterwards.
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}])"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); subprocess.run([sys.executable, '-c', {orphan!r}])"

    assert run_python(program).client_cpu_s >= 0.6


def test_memory_of_all_processes_counts_at_once() -> None:
    program = "import sys; held = bytearray(80 << 20); print(flush=True); sys.stdin.read()"
    peak = Peak()

    with contextlib.ExitStack() as children:
        for _ in range(2):
            child = children.enter_context(piped(program))
            assert child.stdout is not None
            child.stdout.readline()
        peak.look()
    at_worst = peak.bytes
    peak.look()

    assert at_worst >= 160 * MIB
    assert peak.bytes == at_worst


def test_what_a_process_has_given_back_before_the_sample_counts() -> None:
    peak = Peak()

    with piped("import sys; held = bytearray(300 << 20); del held; print(flush=True); sys.stdin.read()") as child:
        assert child.stdout is not None
        child.stdout.readline()
        peak.look()

    assert peak.bytes >= 300 * MIB


def test_a_command_that_fails_says_its_last_line() -> None:
    with pytest.raises(RuntimeError, match=r"^the reason$"):
        run_python("import sys; sys.exit('first\\nthe reason')")


def test_output_is_kept_or_thrown_away() -> None:
    assert run_python("print('said')").output == b"said\n"
    assert run_python("print('said')", drains=True).output == b""


def test_cpu_of_a_server_counts_children_that_have_ended() -> None:
    program = (
        "import subprocess, sys\n"
        "burn = 'import time\\nwhile time.process_time() < 0.3: pass'\n"
        "print(flush=True)\n"
        "for line in sys.stdin:\n"
        "    subprocess.run([sys.executable, '-c', burn]); print(flush=True)\n"
    )

    with piped(program) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        server = Server(child.pid)
        before = server.cpu_s()
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        server.settle()
        taken_s = server.cpu_s() - before

    assert taken_s >= 0.3 - 4 / TICKS  # each of four counters is cut to whole ticks


# --- values ---------------------------------------------------------------------------------------------------------

INSTANT = dt.datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=dt.UTC)
TOKEN = uuid.UUID("2c0627a8-d7b9-4551-bcd7-365025eb4ccd")


@pytest.mark.parametrize(
    ("name", "mine", "right", "same"),
    [
        ("price", Decimal("0.0400"), Decimal("0.04"), True),
        ("price", 0.04, Decimal("0.04"), False),
        ("price", "0.04", Decimal("0.04"), False),
        ("created_at", INSTANT, INSTANT, True),
        ("created_at", INSTANT.replace(tzinfo=None), INSTANT, True),
        ("created_at", INSTANT.replace(microsecond=123000), INSTANT, False),
        ("born_on", dt.datetime(2024, 5, 6), dt.date(2024, 5, 6), False),
        ("is_active", 1, True, True),
        ("token", str(TOKEN), TOKEN, True),
        ("token", TOKEN.bytes, TOKEN, True),
        ("token", TOKEN.hex, TOKEN, False),
        ("settings", '{"b":2,"a":[1]}', {"a": [1], "b": 2}, True),
        ("settings", {"a": [1]}, {"a": [1]}, False),
        ("settings", "{", {"a": [1]}, False),
        ("note", "", None, False),
        ("note", None, None, True),
        ("note", b"text", "text", False),
    ],
)
def test_a_value_is_the_same_only_if_it_says_the_same(name: str, mine: object, right: object, same: bool) -> None:
    [column] = [column for column in WIDE.columns if column.name == name]

    assert exported.is_same(column, mine, right) is same


def test_rows_are_compared_in_the_order_of_the_key_over_all_files(tmp_path: Path) -> None:
    rows = first_rows(NARROW, SCALE, 100)
    files = [tmp_path / "later.parquet", tmp_path / "earlier.parquet"]
    for path, part in zip(files, (rows[50:], rows[:50]), strict=True):
        columns = [pa.array(values) for values in zip(*part, strict=True)]
        pyarrow.parquet.write_table(pa.table(columns, names=["id", "value"]), path)

    assert exported.row_count(files) == 100
    assert exported.inexact_columns(files, NARROW, rows) == {}
    assert exported.inexact_columns(files, NARROW, [(key, value + (key == 7)) for key, value in rows]) == {
        "value": "int64"
    }
    with pytest.raises(AssertionError, match="50 rows instead of 99"):
        exported.inexact_columns(files[1:], NARROW, rows)
