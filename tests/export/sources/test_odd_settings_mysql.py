"""A MariaDB whose defaults are the administrator's: what a session inherits must change no row and no value."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio.from_thread
import pytest

from procflow_export.model.keys import Bound, KeyKind, KeyPart, KeyValue
from procflow_export.model.plan import KeyRange, Query, Relation
from procflow_export.sources.port import KeySearch
from tests.export.sources.databases import MariaDatabase, opened, read
from tests.export.sources.programs import needed_program, own_folder, started
from tests.export.sources.tls_servers import mariadb_template, on_free_port
from tools.pytest_servers import mariadb_execute

pytestmark = pytest.mark.anyio

INSTALL = "apt-get install mariadb-server-core"
SETTINGS = (
    "SET GLOBAL sql_select_limit = 2",
    "SET GLOBAL sql_mode = 'TRADITIONAL,ANSI,PAD_CHAR_TO_FULL_LENGTH'",
    "SET GLOBAL TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
)


@asynccontextmanager
async def _odd_server() -> AsyncIterator[str]:
    program = needed_program("mariadbd", INSTALL)
    with own_folder() as folder:
        data = await mariadb_template(folder)
        options = [
            "--no-defaults",
            f"--datadir={data}",
            f"--socket={folder}/socket",
            f"--tmpdir={folder}",
            "--bind-address=127.0.0.1",
        ]
        async with on_free_port(
            lambda port: started(program, *options, f"--port={port}", ready="ready for connections")
        ) as port:
            yield f"mysql://root@127.0.0.1:{port}/odd"


@pytest.fixture(scope="module")
def odd() -> Iterator[MariaDatabase]:
    with (
        anyio.from_thread.start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(_odd_server()) as url,
    ):
        mariadb_execute(
            url.replace("/odd", "/mysql"),
            "CREATE DATABASE odd",
            "CREATE TABLE odd.numbers (id integer PRIMARY KEY, c char(5) NOT NULL)",
            "INSERT INTO odd.numbers SELECT seq, 'ab' FROM seq_1_to_100",
            "SET sql_mode = 'ALLOW_INVALID_DATES'",
            "CREATE TABLE odd.days (d date NOT NULL PRIMARY KEY)",
            "INSERT INTO odd.days VALUES ('0000-00-00'), ('2020-00-00'), ('2020-02-00'), ('2020-02-31'), ('2021-01-01')",
            *SETTINGS,
        )
        yield MariaDatabase(url)


@pytest.mark.parametrize("selection", [Relation(table="numbers"), Query(text="SELECT * FROM numbers")], ids=str)
async def test_a_limit_of_the_server_on_results_is_not_taken_over(
    odd: MariaDatabase, selection: Relation | Query
) -> None:
    """E-20: a server with ``sql_select_limit`` gives every row."""
    async with opened(odd) as source:
        table = await read(source, selection)

    assert table.num_rows == 100


async def test_texts_are_padded_on_no_server(odd: MariaDatabase) -> None:
    """E-20: a ``char(n)`` is the same text whatever the ``sql_mode`` of the server is."""
    async with opened(odd) as source:
        table = await read(source, "numbers")

    assert set(table["c"].to_pylist()) == {"ab"}


async def test_rows_that_are_not_committed_are_not_read(odd: MariaDatabase) -> None:
    """E-11: a server whose sessions read what is not committed gives committed rows, to the planner too."""
    import pymysql

    address = odd.url.removeprefix("mysql://root@").partition("/")[0].partition(":")
    writer = pymysql.connect(host=address[0], port=int(address[2]), user="root", database="odd")
    try:
        with writer.cursor() as cursor:
            cursor.execute("INSERT INTO numbers VALUES (1000, 'new')")
        async with opened(odd) as source:
            table = await read(source, "numbers")
            whole = KeyRange(key=(KeyPart(column="id", kind=KeyKind.INTEGER),))
            last = await source.find_key(KeySearch(selection=Relation(table="numbers"), within=whole, is_from_end=True))
    finally:
        writer.rollback()
        writer.close()

    assert 1000 not in table["id"].to_pylist()
    assert last == (KeyValue(KeyKind.INTEGER, "100"),)


async def test_dates_that_never_were_are_bounds_like_others(odd: MariaDatabase) -> None:
    """E-10: a key behind an incomplete date is found, and comes to an end, under a ``sql_mode`` that refuses such dates."""
    key = (KeyPart(column="d", kind=KeyKind.DATE),)
    found: list[str] = []
    within = KeyRange(key=key)
    async with opened(odd) as source:
        while (values := await source.find_key(KeySearch(selection=Relation(table="days"), within=within))) is not None:
            found.append(values[0].text)
            assert len(found) < 10, found
            within = KeyRange(key=key, low=Bound(values, is_inclusive=False))

    assert found == ["0000-00-00", "2020-00-00", "2020-02-00", "2020-02-31", "2021-01-01"]
