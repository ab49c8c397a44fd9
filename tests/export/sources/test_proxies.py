"""Proxies between us and MySQL or MariaDB: seen, told, and read through with our settings; and servers that are too old."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from procflow_export import ExitStatus, Warned, read_config
from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.plan import KeyRange, Query, Relation
from procflow_export.model.settings import SourceConfig, SourceType, Tuning
from procflow_export.sources import open_source
from procflow_export.sources.mysql.server import Server, require_supported, server_of
from tests.export.pipeline.runs import run, select
from tests.export.sources.databases import MariaDatabase, integer_bounds, opened, read, values
from tests.export.sources.mysql_proxy import Proxy, mysql_proxy

LIMITED = Tuning(statement_timeout_s=77, lock_timeout_s=33)
STATE = Query(
    text="SELECT @@session.time_zone AS z, @@session.max_statement_time + 0e0 AS s, @@session.lock_wait_timeout AS l,"
    " @@session.net_write_timeout AS n, @@session.character_set_results AS c"
)
OURS = {"z": "+00:00", "s": 77.0, "l": 33, "n": 600, "c": "utf8mb4"}


def config_of(url: str) -> SourceConfig:
    return SourceConfig(type=SourceType.MYSQL, url=url, tuning=LIMITED)


ANSWERS: dict[str, tuple[dict[str, Any], Server]] = {
    "MySQL 5.7": (
        {"greeting": "5.7.44-log", "version": "5.7.44-log"},
        Server(product="MySQL", version="5.7.44", proxy=None),
    ),
    "MySQL 8": (
        {"greeting": "8.0.36", "version": "8.0.36"},
        Server(product="MySQL", version="8.0.36", proxy=None),
    ),
    "MariaDB": (
        {"greeting": "5.5.5-10.11.6-MariaDB-0+deb12u1", "version": "10.11.6-MariaDB-0+deb12u1"},
        Server(product="MariaDB", version="10.11.6", proxy=None),
    ),
    "connection number beyond 32 bits": (
        {"greeting": "8.0.36", "version": "8.0.36", "connection_number": 2**32 + 7},
        Server(product="MySQL", version="8.0.36", proxy=None),
    ),
    # ProxySQL 2 greets with `mysql-server_version`, 8.0.11 unless it is set, and answers the question about the comment.
    "ProxySQL before MySQL": (
        {"greeting": "8.0.11", "version": "5.7.44-log", "connection_number": 99, "comment": "(ProxySQL)"},
        Server(product="MySQL", version="5.7.44", proxy="ProxySQL"),
    ),
    "ProxySQL before MariaDB": (
        {"greeting": "8.0.11", "version": "10.6.16-MariaDB-log", "connection_number": 99, "comment": "(ProxySQL)"},
        Server(product="MariaDB", version="10.6.16", proxy="ProxySQL"),
    ),
    # MaxScale greets with the version of its `version_string`, or of its backends.
    "MaxScale that says so": (
        {"greeting": "5.5.5-10.6.16 23.08.4-maxscale", "version": "10.6.16-MariaDB", "connection_number": 99},
        Server(product="MariaDB", version="10.6.16", proxy="MaxScale"),
    ),
    "MaxScale that does not": (
        {
            "greeting": "5.5.5-10.6.16-MariaDB",
            "version": "10.6.16-MariaDB",
            "connection_number": 99,
            "comment": "mariadb.org",
        },
        Server(product="MariaDB", version="10.6.16", proxy="a proxy"),
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_who_answers(name: str) -> None:
    """E-4, E-1: product, version and proxy are told by what is said."""
    answers, expected = ANSWERS[name]

    assert server_of(**{"greeting_number": 7, "connection_number": 7} | answers) == expected
    assert bool(expected.warnings) == (expected.proxy is not None)


@pytest.mark.parametrize(
    ("product", "version", "is_supported"),
    [
        ("MySQL", "5.6.51", False),
        ("MySQL", "5.7.1", True),
        ("MySQL", "8.0.36", True),
        ("MySQL", "9.7.4", True),
        ("MySQL", "8.0.mysql_aurora.3.05.2", True),
        ("MySQL", "next", True),
        ("MariaDB", "10.5.23", False),
        ("MariaDB", "10.6.0", True),
        ("MariaDB", "11.4.2", True),
        ("MariaDB", "5.5.68", False),
    ],
)
def test_servers_that_are_too_old_are_refused(product: str, version: str, is_supported: bool) -> None:
    """E-1: MySQL 5.7 and MariaDB 10.6 are the first that are read from; the error says so."""
    server = Server(product=product, version=version, proxy=None)

    if is_supported:
        require_supported(server)
        return
    with pytest.raises(SourceError, match=f"{product} {version} is too old: .* or later is needed") as caught:
        require_supported(server)
    assert caught.value.code is Code.SOURCE_NOT_SUPPORTED
    assert not caught.value.is_transient


@pytest.mark.anyio
async def test_an_old_server_is_told_before_anything_is_read(
    mariadb: MariaDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-1: the check is part of every log-in."""
    monkeypatch.setattr("procflow_export.sources.mysql.server.MIN_MARIADB", (99, 9))

    async with opened(mariadb) as source:
        with pytest.raises(SourceError, match=r"MariaDB 1\S+ is too old: 99.9 or later is needed"):
            await source.profile(Query(text="SELECT 1 AS a"))


@pytest.mark.anyio
async def test_a_server_is_not_taken_for_a_proxy(mariadb: MariaDatabase) -> None:
    """E-4: nothing is told where the way is direct, and the settings are the session's."""
    async with open_source(config_of(mariadb.url), environ={}) as source:
        assert (await read(source, STATE)).to_pylist() == [OURS]
        assert source.warnings == ()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("proxy", "name"),
    [
        (Proxy(comment=b"(ProxySQL)", version=b"8.0.11"), "ProxySQL"),
        (Proxy(version=b"5.5.5-10.11.6 23.08.4-maxscale"), "MaxScale"),
        (Proxy(), "a proxy"),
    ],
    ids=["ProxySQL", "MaxScale", "another"],
)
async def test_settings_hold_behind_a_proxy_that_multiplexes(mariadb: MariaDatabase, proxy: Proxy, name: str) -> None:
    """E-4: where sessions forget between transactions, every read brings the settings along; the operator is told."""
    mariadb.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamp NULL, f float)",
        "SET time_zone = '+00:00'",
        "INSERT INTO t SELECT seq, FROM_UNIXTIME(1700000000 + seq), seq / 7 FROM seq_1_to_500",
    )
    async with opened(mariadb) as source:
        direct = await read(source, Relation(table="t"))
        floats = await read(source, Query(text="SELECT id, f FROM t ORDER BY id"))

    async with mysql_proxy(mariadb.url, proxy), open_source(config_of(proxy.url), environ={}) as source:
        for _ in range(2):
            assert (await read(source, STATE)).to_pylist() == [OURS]
            assert (await read(source, Relation(table="t"))).sort_by("id").equals(direct.sort_by("id"))
            assert (await read(source, Query(text="SELECT id, f FROM t ORDER BY id"))).equals(floats)
            bounds = await integer_bounds(source, Relation(table="t"), "id")
            part = await read(source, Relation(table="t"), KeyRange.of_integers("id", 10, 20))
            assert (bounds, sorted(values(part))) == ((1, 500, False), list(range(10, 20)))

        assert source.description.startswith("MariaDB 1")
        (warning,) = source.warnings
        assert warning.startswith(f"{name} stands before MariaDB")
    assert proxy.statements.count(b"COMMIT") == proxy.statements.count(b"START TRANSACTION READ ONLY") > 0


@pytest.mark.anyio
async def test_a_failed_read_behind_a_proxy_is_no_open_transaction(mariadb: MariaDatabase) -> None:
    """E-4: after an error the connection goes, and its transaction with it."""
    proxy = Proxy()
    async with mysql_proxy(mariadb.url, proxy), open_source(config_of(proxy.url), environ={}) as source:
        with pytest.raises(SourceError):
            await source.profile(Relation(table="nowhere"))

        assert (await read(source, STATE)).to_pylist() == [OURS]


@pytest.mark.anyio
async def test_a_proxy_that_breaks_transactions_up_is_refused(mariadb: MariaDatabase) -> None:
    """E-4: where not even a transaction has the settings, no value can be trusted."""
    proxy = Proxy(keeps_transactions=False)
    async with mysql_proxy(mariadb.url, proxy), open_source(config_of(proxy.url), environ={}) as source:
        with pytest.raises(SourceError, match="connect to the server itself") as caught:
            await source.profile(Query(text="SELECT 1 AS a"))

    assert caught.value.code is Code.SOURCE_NOT_SUPPORTED


@pytest.mark.anyio
async def test_a_multiplexer_that_hides_is_the_known_hole(mariadb: MariaDatabase) -> None:
    """E-4: this is what the transaction is for: without it, what a session was told is gone at the next statement."""
    proxy = Proxy(renumbers=False)
    found: list[dict[str, Any]] = []
    async with mysql_proxy(mariadb.url, proxy), open_source(config_of(proxy.url), environ={}) as source:
        # What the server prepared is gone as well, so that most reads fail.
        with suppress(SourceError):
            found += (await read(source, STATE)).to_pylist()
        assert source.warnings == ()

    assert found != [OURS]


@pytest.mark.anyio
async def test_a_run_behind_a_proxy_tells_and_is_whole(mariadb: MariaDatabase, tmp_path: Path) -> None:
    """E-4: the warning is an event of the run, and the chunks are those of the table."""
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT seq FROM seq_1_to_1000")
    export = {"name": "t", "table": "t", "mode": "chunked", "chunk_size": 100, "parallel": 3, "format": "parquet"}

    async with mysql_proxy(mariadb.url, Proxy(comment=b"(ProxySQL)")) as proxy:
        loaded = read_config(
            {
                "source": {"type": "mysql", "url": proxy.url},
                "destination": {"type": "local", "path": "out"},
                "exports": [export],
            },
            base_dir=tmp_path,
        )
        ran = await run(loaded)

    assert ran.result.exit_status is ExitStatus.OK, [verdict.failure for verdict in ran.result.exports]
    told = [event.message for event in ran.of(Warned)]
    assert [text.startswith("ProxySQL stands before MariaDB") for text in told].count(True) == 1, told
    assert any("nobody tells whether its connections end at one server" in text for text in told), told
    assert select(f"select count(*), count(distinct id) from '{tmp_path}/out/t/*.parquet'") == [(1000, 1000)]
