"""pytest fixtures that give throw-away databases and buckets on throw-away servers.

Owns which process of a test run is the owner of the servers (the controller under pytest-xdist, pytest itself otherwise),
fresh databases and fresh buckets. How servers start and end is ``tools/servers``.

A server starts when the first test asks for it. Without its binaries the test is skipped with the command that installs
them, or fails if PROCFLOW_REQUIRE_SERVICES=1.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final, Protocol, TypeVar
from urllib.parse import urlsplit, urlunsplit

import pytest

from tools.servers import (
    Kind,
    ObjectStore,
    Owner,
    Server,
    ServerUnavailableError,
    StoreKind,
    ensure,
    new_bucket,
    own_server,
    stop,
)

if TYPE_CHECKING:
    import asyncpg
    import pymysql
    import pymysql.cursors


class Node(Protocol):
    """pytest-xdist's handle of a worker, which has no types."""

    config: pytest.Config
    workerinput: dict[str, str]


OWNER: Final = pytest.StashKey[Owner]()
WORKER_INPUT: Final = "procflow_servers_owner"
_numbers: Final = itertools.count()
_T = TypeVar("_T")


def pytest_configure(config: pytest.Config) -> None:
    given: dict[str, str] = getattr(config, "workerinput", {})
    config.stash[OWNER] = Owner.parse(given[WORKER_INPUT]) if WORKER_INPUT in given else Owner.of(os.getpid())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Node) -> None:
    node.workerinput[WORKER_INPUT] = str(node.config.stash[OWNER])


def pytest_unconfigure(config: pytest.Config) -> None:
    owner = config.stash.get(OWNER, None)
    if owner is not None and owner.pid == os.getpid():
        stop(owner)


# --- servers: one of each for the whole run -------------------------------------------------------------------------


def _ensure_or_skip(kind: Kind, config: pytest.Config) -> str:
    with _skipping():
        return ensure(kind, config.stash[OWNER])


@contextlib.contextmanager
def _skipping() -> Iterator[None]:
    try:
        yield
    except ServerUnavailableError as exc:
        if os.environ.get("PROCFLOW_REQUIRE_SERVICES") == "1":
            pytest.fail(str(exc), pytrace=False)
        pytest.skip(str(exc))


@pytest.fixture(scope="session")
def postgres_url(pytestconfig: pytest.Config) -> str:
    """The superuser's URL of the run's PostgreSQL server: shared, so change nothing there that another test can see."""
    return _ensure_or_skip("postgres", pytestconfig)


@pytest.fixture(scope="session")
def mariadb_url(pytestconfig: pytest.Config) -> str:
    """The root user's URL of the run's MariaDB server: shared, so change nothing there that another test can see."""
    return _ensure_or_skip("mariadb", pytestconfig)


# --- databases: fresh for a test or a module ------------------------------------------------------------------------


def with_database(url: str, database: str) -> str:
    """Return ``url`` with its database replaced."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def postgres_execute(url: str, *statements: str) -> None:
    """Run statements on a connection of their own, from synchronous code."""

    async def execute(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        for statement in statements:
            await connection.execute(statement)

    _with_postgres(url, execute)


def postgres_rows(url: str, statement: str) -> list[tuple[object, ...]]:
    """Return the rows of one statement, from synchronous code."""

    async def fetch(connection: asyncpg.Connection[asyncpg.Record]) -> list[tuple[object, ...]]:
        return [tuple(row) for row in await connection.fetch(statement)]

    return _with_postgres(url, fetch)


def _with_postgres(url: str, action: Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[_T]]) -> _T:
    import asyncpg  # only tests with this server need the driver

    async def connect() -> _T:
        connection = await asyncpg.connect(url)
        try:
            return await action(connection)
        finally:
            await connection.close()

    # A loop of its own that is never installed: the test's back end stays untouched.
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(connect())
    finally:
        loop.close()


def mariadb_execute(url: str, *statements: str) -> None:
    """Run statements on a connection of their own, from synchronous code, and commit."""
    with _mariadb(url) as connection:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        connection.commit()


def mariadb_rows(url: str, statement: str) -> list[tuple[object, ...]]:
    """Return the rows of one statement, from synchronous code."""
    with _mariadb(url) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def _mariadb(url: str) -> pymysql.Connection[pymysql.cursors.Cursor]:
    import pymysql  # only tests with this server need the driver

    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname, port=parts.port or 3306, user=parts.username, database=parts.path[1:], charset="utf8mb4"
    )


def _postgres_database(admin_url: str) -> Iterator[str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    postgres_execute(admin_url, f"CREATE DATABASE {name} STRATEGY = FILE_COPY")
    yield with_database(admin_url, name)
    postgres_execute(admin_url, f"DROP DATABASE {name} WITH (FORCE)")


def fresh_mariadb_database(admin_url: str) -> Iterator[str]:
    """Give the URL of an empty database of a MariaDB or MySQL server, which is dropped at the end."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    mariadb_execute(admin_url, f"CREATE DATABASE {name}")
    yield with_database(admin_url, name)
    mariadb_execute(admin_url, f"DROP DATABASE {name}")


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of this test's own; open connections to it are cut at the end."""
    yield from _postgres_database(postgres_url)


@pytest.fixture(scope="module")
def postgres_module_database(postgres_url: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database that the tests of one module share."""
    yield from _postgres_database(postgres_url)


@pytest.fixture
def mariadb_database(mariadb_url: str) -> Iterator[str]:
    """The URL of an empty MariaDB database of this test's own."""
    yield from fresh_mariadb_database(mariadb_url)


@pytest.fixture(scope="module")
def mariadb_module_database(mariadb_url: str) -> Iterator[str]:
    """The URL of an empty MariaDB database that the tests of one module share."""
    yield from fresh_mariadb_database(mariadb_url)


# --- object stores: a fresh bucket for a test -----------------------------------------------------------------------


def fresh_bucket(kind: StoreKind, config: pytest.Config) -> ObjectStore:
    """Return an empty bucket on the run's server of this kind, or skip the test; the server ends with the run, and so does it."""
    return new_bucket(kind, _ensure_or_skip(kind, config), f"test-{os.getpid()}-{next(_numbers)}")


@pytest.fixture
def s3_store(pytestconfig: pytest.Config) -> ObjectStore:
    """An empty S3 bucket; the server takes any key."""
    return fresh_bucket("s3", pytestconfig)


@pytest.fixture
def gcs_store(pytestconfig: pytest.Config) -> ObjectStore:
    """An empty bucket behind Google's XML API; the server takes any key."""
    return fresh_bucket("gcs", pytestconfig)


@pytest.fixture
def azure_store(pytestconfig: pytest.Config) -> ObjectStore:
    """An empty container; the server checks keys."""
    return fresh_bucket("azure", pytestconfig)


@pytest.fixture
def rclone_store(pytestconfig: pytest.Config) -> ObjectStore:
    """An empty S3 bucket of a server that checks signatures, but has neither conditional puts nor ranges."""
    return fresh_bucket("rclone", pytestconfig)


@contextlib.contextmanager
def own_store(kind: StoreKind) -> Iterator[tuple[Server, ObjectStore]]:
    """Give a server of this test's own, to be killed and started again, with an empty bucket, or skip the test."""
    with _skipping(), own_server(kind) as server:
        yield server, new_bucket(kind, server.url, "own")
