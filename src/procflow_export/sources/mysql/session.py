"""Connections to MySQL and MariaDB: logging in, the session's settings, and the meaning of errors.

Owns what every statement can rely on: a read-only session in UTC with utf8mb4 results and the limits of the configuration.
Must not know tables or types.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

import pymysql.err

from procflow_export.model.codes import Code
from procflow_export.model.errors import ExportError, SourceError
from procflow_export.model.settings import ReadLimits
from procflow_export.sources.connection import ServerAddress, context_for
from procflow_export.sources.mysql.wire import WireConnection
from procflow_export.sources.tls import tls_reason

Connector: TypeAlias = Callable[[], Awaitable[WireConnection]]
CONNECT_TIMEOUT_S: Final = 15.0
IDLE_TIMEOUT_S: Final = 7 * 24 * 3600
"""How long a reader of a snapshot may have nothing to read."""
NET_WRITE_TIMEOUT_S: Final = 600
"""How long the server waits for a reader that is busy: a full buffer is normal here."""

_CODES: Final[dict[int, Code]] = {
    1213: Code.SOURCE_DEADLOCK,
    1205: Code.SOURCE_LOCKED,
    3572: Code.SOURCE_LOCKED,
    1412: Code.SOURCE_SNAPSHOT_LOST,
    1040: Code.SOURCE_TOO_MANY_CONNECTIONS,
    1203: Code.SOURCE_TOO_MANY_CONNECTIONS,
    1226: Code.SOURCE_TOO_MANY_CONNECTIONS,
    1053: Code.SOURCE_SHUTTING_DOWN,
    1927: Code.SOURCE_CONNECTION_LOST,
    2006: Code.SOURCE_CONNECTION_LOST,
    2013: Code.SOURCE_CONNECTION_LOST,
    2055: Code.SOURCE_CONNECTION_LOST,
    2003: Code.SOURCE_UNREACHABLE,
    2002: Code.SOURCE_UNREACHABLE,
    3024: Code.SOURCE_STATEMENT_TIMEOUT,
    1969: Code.SOURCE_STATEMENT_TIMEOUT,
    1028: Code.SOURCE_STATEMENT_TIMEOUT,
    1317: Code.SOURCE_STATEMENT_TIMEOUT,
    1044: Code.SOURCE_AUTH_FAILED,
    1045: Code.SOURCE_AUTH_FAILED,
    1049: Code.SOURCE_AUTH_FAILED,
    1698: Code.SOURCE_AUTH_FAILED,
    1142: Code.SOURCE_DENIED,
    1143: Code.SOURCE_DENIED,
    1227: Code.SOURCE_DENIED,
    1370: Code.SOURCE_DENIED,
    1054: Code.SOURCE_NOT_FOUND,
    1146: Code.SOURCE_NOT_FOUND,
    1046: Code.SOURCE_QUERY_INVALID,
    1060: Code.SOURCE_QUERY_INVALID,
    1064: Code.SOURCE_QUERY_INVALID,
    1792: Code.SOURCE_QUERY_INVALID,
    1021: Code.SOURCE_OUT_OF_RESOURCES,
    1037: Code.SOURCE_OUT_OF_RESOURCES,
    1041: Code.SOURCE_OUT_OF_RESOURCES,
    1114: Code.SOURCE_OUT_OF_RESOURCES,
}


async def connect(address: ServerAddress, limits: ReadLimits) -> WireConnection:
    """Log in and set up the session.

    Raises:
        SourceError: If the server cannot be reached, refuses, or cannot prove who it is.
    """
    context = await context_for(address)
    password = "" if address.password is None else address.password.reveal()
    connection = WireConnection(
        host=address.host,
        port=address.port,
        unix_socket=address.host if address.is_socket else None,
        user=address.user,
        # The driver writes passwords as latin-1; like this the server gets UTF-8, as from every other client.
        password=password.encode().decode("latin-1"),
        db=address.database or "",
        charset="utf8mb4",
        conv={},
        autocommit=True,
        ssl=context,
    )
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            with translated(address):
                await connection._connect()  # noqa: SLF001 (a subclass)
                for statement in _settings(connection, limits):
                    await connection.query(statement)
    except TimeoutError as exc:
        connection.close()
        message = f"MySQL at {address.host}:{address.port} cannot be reached: no answer within {CONNECT_TIMEOUT_S:g} s"
        raise SourceError(Code.SOURCE_UNREACHABLE, message) from exc
    except BaseException:
        connection.close()
        raise
    return connection


def snapshot_settings(connection: WireConnection) -> list[str]:
    """Return what a connection needs that will read one state for as long as an export lasts."""
    _, is_mariadb = version_of(connection)
    idle = f"SET SESSION wait_timeout = {IDLE_TIMEOUT_S}"
    if is_mariadb:
        idle += ", SESSION idle_transaction_timeout = 0, SESSION idle_readonly_transaction_timeout = 0"
    # A consistent snapshot is silently none under READ COMMITTED, which may be the server's default.
    return ["SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", idle]


def version_of(connection: WireConnection) -> tuple[str, bool]:
    """Return the server's version and whether it is MariaDB."""
    text = str(connection.server_version)
    is_mariadb = "mariadb" in text.lower()
    return text.removeprefix("5.5.5-").partition("-")[0], is_mariadb


def _settings(connection: WireConnection, limits: ReadLimits) -> list[str]:
    _, is_mariadb = version_of(connection)
    statements = [
        f"SET SESSION time_zone = '+00:00', SESSION net_write_timeout = {NET_WRITE_TIMEOUT_S}",
        "SET SESSION TRANSACTION READ ONLY",
    ]
    if limits.statement_timeout_s:
        # MySQL counts milliseconds and only SELECT, MariaDB counts seconds; neither knows the other's name.
        limit = (
            f"max_statement_time = {limits.statement_timeout_s}"
            if is_mariadb
            else f"max_execution_time = {limits.statement_timeout_s * 1000}"
        )
        statements.append(f"SET SESSION {limit}")
    if limits.lock_timeout_s:
        wait = limits.lock_timeout_s
        statements.append(f"SET SESSION lock_wait_timeout = {wait}, SESSION innodb_lock_wait_timeout = {wait}")
    return statements


@contextmanager
def translated(address: ServerAddress | None = None) -> Iterator[None]:
    """Raise errors of the driver as errors of ours."""
    try:
        yield
    except ExportError:
        raise
    except Exception as exc:
        ours = translate(exc, address)
        if ours is None:
            raise
        raise ours from exc


def translate(exc: BaseException, address: ServerAddress | None = None) -> SourceError | None:
    """Return the error of ours for one of the driver's, or ``None`` for anything else."""
    root = exc.__cause__ if isinstance(exc.__cause__, ssl.SSLError) else exc
    match root:
        case ssl.SSLError():
            return SourceError(Code.SOURCE_TLS_FAILED, f"the server's TLS was refused: {tls_reason(root)}")
        case pymysql.err.MySQLError():
            number = root.args[0] if root.args and isinstance(root.args[0], int) else 0
            code = _CODES.get(number, Code.SOURCE_FAILED)
            if code is Code.SOURCE_UNREACHABLE and address is not None:
                return SourceError(code, f"MySQL at {address.host}:{address.port} cannot be reached")
            message = root.args[1] if len(root.args) > 1 else type(root).__name__
            return SourceError(code, f"MySQL refused ({number}): {message}")
        case OSError():
            return SourceError(Code.SOURCE_CONNECTION_LOST, "the connection to MySQL was lost")
        case _:
            return None


async def close(connection: WireConnection) -> None:
    """Close a connection in order if it is idle; the server is told."""
    try:
        if connection.is_idle:
            await connection.ensure_closed()
    except (pymysql.err.MySQLError, OSError):
        connection.close()


def abort(connection: WireConnection) -> None:
    """Close a connection at once."""
    connection.close()
