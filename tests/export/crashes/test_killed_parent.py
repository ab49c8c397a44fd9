"""SIGKILL of the parent while its workers are in the middle of statements: who is alive afterwards, here and at the server."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tools.soak.crashes.databases import Database, MariaDatabase, PostgresDatabase, wait_until
from tools.soak.crashes.findings import PublishedFolder
from tools.soak.crashes.program import GONE_WITHIN_S, Program, started, survivors

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="reads /proc")

SERVER_SEES_IT_WITHIN_S = 15.0
"""PostgreSQL looks for its client every second; the rest is for a loaded machine."""
ROWS = 200_000
SLOW: dict[str, str] = {
    # A statement that runs for an hour and has its next row after a moment.
    "postgres": f"select n as id, pg_sleep(0.02)::text as nothing, 1 as worker from generate_series(1, {ROWS}) as n",
    "mysql": f"select seq as id, sleep(0.02) as nothing, repeat('x', 9000) as filler, 1 as worker from seq_1_to_{ROWS}",
}
ESTABLISHED = "01"


@pytest.fixture(params=["postgres", "mysql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    name = f"killed_{os.getpid()}_{time.monotonic_ns()}"
    found: Database
    if request.param == "postgres":
        found = PostgresDatabase(request.getfixturevalue("postgres_url"), name)
    else:
        found = MariaDatabase(request.getfixturevalue("mariadb_url"), name)
    yield found
    found.drop()


def write_config(directory: Path, database: Database, slow: str | None, **tuning: Any) -> None:
    """Two exports of a slow query, and one whose set can be published at once; or, without a query, all of them quick."""
    quick = "select 1 as id, 'a' as nothing"
    exports = [
        {"name": name, "query": quick if slow is None else slow.replace("1 as worker", f"{number} as worker")}
        for number, name in enumerate(("first", "second"))
    ]
    config = {
        "source": {**database.source, "tuning": {"profile": "fast", "batch_size": 10, "max_retries": 0, **tuning}},
        "destination": {"type": "local", "path": "out"},
        "exports": [{"mode": "full", "format": "parquet", **export} for export in exports],
    }
    (directory / "c.json").write_text(json.dumps(config))


def wait_reading(program: Program, database: Database) -> None:
    """Wait until each of two workers has a statement of its own."""

    def are_reading() -> bool:
        assert not program.is_over(), program.log.read_text()
        running = [client for client in database.clients() if " as worker" in client]
        return all(any(f" {number} as worker" in client for client in running) for number in range(2))

    wait_until(are_reading, "two workers read")


def client_sockets(pids: list[int], port: int) -> set[tuple[int, int]]:
    """Return address and port of every connection that some processes have to a port of this machine."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            name = os.readlink(link)
            if name.startswith("socket:["):
                inodes.add(name[8:-1])
    return {ends for ends, state, inode in connections(port) if inode in inodes and state == ESTABLISHED}


def connections(port: int) -> list[tuple[tuple[int, int], str, str]]:
    """Return the local end, state and inode of every connection to a port."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *rest = line.split()
        if int(remote.split(":")[1], 16) == port:
            address, local_port = local.split(":")
            found.append(((int(address, 16), int(local_port, 16)), state, rest[5]))
    return found


def test_two_seconds_after_its_parent_nothing_of_a_run_is_alive(database: Database, tmp_path: Path) -> None:
    """E-34: no process of the whole tree, no client socket; the server sees it as documented; nothing is half published."""
    write_config(tmp_path, database, SLOW[database.kind])
    port = urlsplit(database.source["url"]).port
    assert port is not None

    with started(tmp_path, "run", "c.json", "--engine", "processes", "--processes", "2") as program:
        wait_reading(program, database)
        sockets = client_sockets(program.family(), port)
        assert len(program.workers()) == 2
        assert len(sockets) >= 2
        program.process.kill()
        program.process.wait()
        killed_s = time.monotonic()

        assert survivors(program, within_s=GONE_WITHIN_S) == []
        still = {ends for ends, state, inode in connections(port) if ends in sockets and inode != "0"}
        assert still == set()
        assert time.monotonic() - killed_s < GONE_WITHIN_S + 1.0
        wait_until(lambda: not database.clients(), "the server is rid of them", patience_s=SERVER_SEES_IT_WITHIN_S)

    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []
    write_config(tmp_path, database, None)
    with started(tmp_path, "run", "c.json") as program:
        assert program.finish() == 0, program.log.read_text()
    for export in ("first", "second"):
        assert PublishedFolder(tmp_path / "out" / export).leftovers() == []


def test_a_silent_statement_of_mariadb_ends_at_its_limit(mariadb_url: str, tmp_path: Path) -> None:
    """E-34: where the server looks for its client only when it has something to say, the statement limit bounds what it does."""
    database = MariaDatabase(mariadb_url, f"silent_{os.getpid()}_{time.monotonic_ns()}")
    try:
        silent = f"select seq as id, sleep(0.05) as nothing, 1 as worker from seq_1_to_{ROWS}"
        write_config(tmp_path, database, silent, statement_timeout_s=8)
        with started(tmp_path, "run", "c.json", "--engine", "processes", "--processes", "2") as program:
            wait_reading(program, database)
            program.process.kill()
            program.process.wait()
            assert survivors(program) == []

            wait_until(
                lambda: not database.clients(), "the limit has ended them", patience_s=8 + SERVER_SEES_IT_WITHIN_S
            )
    finally:
        database.drop()
