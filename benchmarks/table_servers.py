"""Servers with the tables loaded: `python -m benchmarks.table_servers postgres mariadb [--scale 1] [-- CMD...]`.

Prints the URLs and keeps the servers until Ctrl-C, or runs a command with the URLs in PROCFLOW_BENCH_POSTGRES and PROCFLOW_BENCH_MARIADB,
which `./run bench` takes for the servers that it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import pymysql

from benchmarks.environments import NotInstalledError, ensure
from benchmarks.table_files import NULL, table_file
from benchmarks.tables import SERVER_TABLES, Table
from tools.servers import Kind, running

OPTIONS: Final[dict[Kind, tuple[str, ...]]] = {
    # All tables fit, and none is large enough for the ring buffer of large scans: the disk takes no part.
    "postgres": ("-c", "shared_buffers=3GB"),
    "mariadb": ("--innodb-buffer-pool-size=3G",),
}
"""What makes a server one for these sizes; everything else is as tools/servers starts it."""

VARIABLES: Final[dict[Kind, str]] = {"postgres": "PROCFLOW_BENCH_POSTGRES", "mariadb": "PROCFLOW_BENCH_MARIADB"}
MARIADB_DATABASE: Final = "bench"


@contextlib.contextmanager
def loaded(*kinds: Kind, scale: float, say: Callable[[str], None] = lambda _text: None) -> Iterator[dict[Kind, str]]:
    """Give the URLs of servers that hold the tables: those that the environment names, else servers of this block.

    `lineitem` is left out where its generator is not installed.

    Raises:
        RuntimeError: If a server could not be filled.
    """
    given = {kind: os.environ[VARIABLES[kind]] for kind in kinds if VARIABLES[kind] in os.environ}
    wanted = [kind for kind in kinds if kind not in given]
    with running(*wanted, options=OPTIONS if scale == 1 else {}) as urls:
        files = dict(_files(scale, say)) if wanted else {}
        found = dict(urls)
        loads: list[Callable[[], None]] = []
        if "postgres" in urls:
            loads.append(lambda: asyncio.run(_load_postgres(urls["postgres"], files)))
        if "mariadb" in urls:
            found["mariadb"] = urls["mariadb"].rpartition("/")[0] + f"/{MARIADB_DATABASE}"
            loads.append(lambda: _load_mariadb(found["mariadb"], files))
        started = time.monotonic()
        _side_by_side(loads)
        if loads:
            say(f"loaded {', '.join(table.name for table in files)} in {time.monotonic() - started:.0f} s")
        yield given | found


def _files(scale: float, say: Callable[[str], None]) -> Iterator[tuple[Table, Path]]:
    for table in SERVER_TABLES:
        started = time.monotonic()
        try:
            path = table_file(table, scale)
        except NotInstalledError as exc:
            say(f"without {table.name}: {exc}")
        else:
            say(f"the rows of {table.name} are there ({time.monotonic() - started:.0f} s)")
            yield table, path


def _side_by_side(actions: Sequence[Callable[[], None]]) -> None:
    failures: list[BaseException] = []

    def guarded(action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as exc:  # the top of a thread: kept for the caller
            failures.append(exc)

    threads = [threading.Thread(target=guarded, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"a table could not be loaded: {failures[0]}") from failures[0]


async def _load_postgres(url: str, files: dict[Table, Path]) -> None:
    connection = await asyncpg.connect(url)
    try:
        for table, path in files.items():
            columns = ", ".join(f"{column.name} {column.postgres}" for column in table.columns)
            # Made and filled in one transaction: no write-ahead log, and rows that need no vacuum.
            async with connection.transaction():
                await connection.execute(f"CREATE TABLE {table.name} ({columns})")
                await connection.copy_to_table(
                    table.name, source=path, format="csv", header=True, null=NULL, freeze=True
                )
                await connection.execute(f"ALTER TABLE {table.name} ADD PRIMARY KEY ({', '.join(table.key)})")
            await connection.execute(f"VACUUM (ANALYZE) {table.name}")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


def _load_mariadb(url: str, files: dict[Table, Path]) -> None:
    address = urlsplit(url)
    connection = pymysql.connect(
        host=address.hostname or "127.0.0.1",
        port=address.port or 3306,
        user=address.username or "root",
        password=address.password or "",
        charset="utf8mb4",
        local_infile=True,
        # Without the two checks a load into an empty table builds its pages in order.
        init_command="SET time_zone = '+00:00', unique_checks = 0, foreign_key_checks = 0",
    )
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {MARIADB_DATABASE}")
        connection.select_db(MARIADB_DATABASE)
        for table, path in files.items():
            columns = ", ".join(f"{column.name} {column.mariadb}" for column in table.columns)
            cursor.execute(f"CREATE TABLE {table.name} ({columns}, PRIMARY KEY ({', '.join(table.key)}))")
            blobs = [column.name for column in table.columns if column.mariadb.startswith("blob")]
            fields = ", ".join(f"@{column.name}" if column.name in blobs else column.name for column in table.columns)
            setting = ", ".join(f"{name} = UNHEX(SUBSTR(@{name}, 3))" for name in blobs)
            cursor.execute(
                f"LOAD DATA LOCAL INFILE {connection.escape(str(path))} INTO TABLE {table.name} CHARACTER SET utf8mb4"
                " FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' IGNORE 1 LINES"
                f" ({fields}) {'SET ' + setting if setting else ''}"
            )
            # A local file makes warnings of errors.
            cursor.execute("SHOW WARNINGS")
            if warnings := cursor.fetchall():
                raise RuntimeError(f"{table.name}: {warnings[0]}")
            connection.commit()
            cursor.execute(f"ANALYZE TABLE {table.name}")
            # Nothing is left to be written while others are measured.
            cursor.execute(f"FLUSH TABLES {table.name} FOR EXPORT")
            cursor.execute("UNLOCK TABLES")


def main() -> int:
    arguments = sys.argv[1:]
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table_servers", description=__doc__)
    parser.add_argument("kinds", nargs="+", metavar="SERVER", choices=VARIABLES, help=" or ".join(VARIABLES))
    parser.add_argument("--scale", type=float, default=1.0, help="of all tables (default: 1)")
    options = parser.parse_args(arguments[:cut])
    command = arguments[cut + 1 :]
    ensure("tpchgen")
    with loaded(*options.kinds, scale=options.scale, say=lambda text: print(text, file=sys.stderr, flush=True)) as urls:
        if command:
            environ = {**os.environ, **{VARIABLES[kind]: url for kind, url in urls.items()}}
            return subprocess.run(command, env=environ, check=False).returncode
        for kind, url in urls.items():
            print(f"export {VARIABLES[kind]}={url}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.sigwait({signal.SIGTERM, signal.SIGINT})
    return 0


if __name__ == "__main__":
    sys.exit(main())
