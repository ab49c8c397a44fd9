"""Connections to MySQL and MariaDB: logging in, the session's settings, and the meaning of errors.

Owns what every statement can rely on: a read-only session in UTC with utf8mb4 results and the limits of the configuration; behind
a proxy, a transaction with all of that.  Must not know tables or types.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial, reduce
from typing import Final, TypeAlias

import pymysql.err

from procflow_export.model.codes import Code
from procflow_export.model.errors import ExportError, SourceError
from procflow_export.model.settings import ReadLimits
from procflow_export.sources.connection import ServerAddress, context_for
from procflow_export.sources.mysql.server import Server, require_supported, server_of
from procflow_export.sources.mysql.wire import WireConnection
from procflow_export.sources.tls import WANTS_TLS, tls_refused

Connector: TypeAlias = Callable[[], Awaitable[WireConnection]]
CONNECT_TIMEOUT_S: Final = 15.0
TIME_ZONE: Final = "+00:00"
IDLE_TIMEOUT_S: Final = 7 * 24 * 3600
"""How long a reader of a snapshot may have nothing to read."""
NET_WRITE_TIMEOUT_S: Final = 600
"""How long the server waits for a reader that is busy: a full buffer is normal here."""

_EVERY_ROW: Final = 2**64 - 1
_ANY_DATE: Final = "ALLOW_INVALID_DATES"
_REFUSED_MODES: Final = ("NO_ZERO_IN_DATE", "NO_ZERO_DATE", "TRADITIONAL", "PAD_CHAR_TO_FULL_LENGTH")
_EXACT_MODE: Final = reduce(
    lambda modes, refused: f"REPLACE({modes}, '{refused}', '{_ANY_DATE}')", _REFUSED_MODES, "@@session.sql_mode"
)
"""The server's ``sql_mode``, which says how queries are to be read, without what pads texts, and what makes a date that never
was no bound, so that no row lies behind it."""
_ISOLATION: Final = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
"""Not whatever the server has: under READ UNCOMMITTED rows are seen that never were, and under READ COMMITTED a consistent
snapshot is silently none."""

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
    3159: Code.SOURCE_TLS_FAILED,
    1044: Code.SOURCE_AUTH_FAILED,
    1045: Code.SOURCE_AUTH_FAILED,
    1049: Code.SOURCE_AUTH_FAILED,
    1698: Code.SOURCE_AUTH_FAILED,
    2059: Code.SOURCE_AUTH_FAILED,
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
_PERHAPS_FOR_PLAIN: Final = frozenset({1045, 3159})
"""What a plain connection is refused with, among others."""

_NOT_PREPARED: Final = frozenset({1047, 1235, 1295, 1461})
"""Unknown command, not supported (by a proxy), not as a prepared statement, too many of them."""


async def connect(address: ServerAddress, limits: ReadLimits) -> WireConnection:
    """Log in and set up the session.

    Raises:
        SourceError: If the server cannot be reached, refuses, is too old, or cannot prove who it is.
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
                connection.server = await _ask_server(connection)
                require_supported(connection.server)
                if connection.server.proxy is None:
                    for statement in (*_settings(connection.server, limits), _ISOLATION):
                        await connection.query(statement)
    except TimeoutError as exc:
        connection.close()
        message = f"MySQL at {address.host}:{address.port} cannot be reached: no answer within {CONNECT_TIMEOUT_S:g} s"
        raise SourceError(Code.SOURCE_UNREACHABLE, message) from exc
    except BaseException:
        connection.close()
        raise
    return connection


@asynccontextmanager
async def own_settings(connection: WireConnection, limits: ReadLimits) -> AsyncIterator[None]:
    """Make sure that the statements of the block meet our settings.

    A session that is ours has them.  Behind a proxy it may be another server's session at every statement, except in a
    transaction: then the block is one, which begins with the settings.  After an error the connection must not be used again.

    Raises:
        SourceError: If the settings do not even hold in a transaction.
    """
    if connection.server.proxy is None:
        yield
        return
    with translated():
        await connection.query("START TRANSACTION READ ONLY")
        for statement in _settings(connection.server, limits):
            await connection.query(statement)
        ((time_zone,),) = await _answer(connection, "SELECT @@session.time_zone")
    if time_zone != TIME_ZONE:
        raise SourceError(
            Code.SOURCE_NOT_SUPPORTED,
            f"{connection.server.proxy} before {connection.server.product} does not keep the statements of a transaction in one"
            " session: connect to the server itself",
        )
    yield
    if connection.is_idle:
        with translated():
            await connection.query("COMMIT")


def snapshot_settings(server: Server) -> str:
    """Return what a connection needs that will read one state for as long as an export lasts."""
    idle = f"SET SESSION wait_timeout = {IDLE_TIMEOUT_S}"
    if server.is_mariadb:
        idle += ", SESSION idle_transaction_timeout = 0, SESSION idle_readonly_transaction_timeout = 0"
    return idle


async def _ask_server(connection: WireConnection) -> Server:
    # In one statement: a proxy answers some of these itself when they stand alone.
    ((number, version, _),) = await _answer(connection, "SELECT CONNECTION_ID(), VERSION(), @@version_comment")
    ask = partial(
        server_of,
        greeting=str(connection.server_version),
        greeting_number=connection.thread_id(),
        version=version or "",
        connection_number=int(number or 0),
    )
    server = ask()
    if server.proxy is not None:
        ((comment,),) = await _answer(connection, "select @@version_comment limit 1")
        server = ask(comment=comment or "")
    return server


async def _answer(connection: WireConnection, statement: str) -> list[tuple[str | None, ...]]:
    async with connection.cursor() as cursor:
        await cursor.execute(statement)
        return list(await cursor.fetchall())


def _settings(server: Server, limits: ReadLimits) -> list[str]:
    values: dict[str, str | int] = {
        "time_zone": f"'{TIME_ZONE}'",
        "net_write_timeout": NET_WRITE_TIMEOUT_S,
        "sql_select_limit": _EVERY_ROW,
        "sql_mode": f"CONCAT_WS(',', '{_ANY_DATE}', NULLIF({_EXACT_MODE}, ''))",
    }
    if limits.statement_timeout_s:
        # MySQL counts milliseconds and only SELECT, MariaDB counts seconds; neither knows the other's name.
        if server.is_mariadb:
            values["max_statement_time"] = limits.statement_timeout_s
        else:
            values["max_execution_time"] = limits.statement_timeout_s * 1000
    if limits.lock_timeout_s:
        values |= {"lock_wait_timeout": limits.lock_timeout_s, "innodb_lock_wait_timeout": limits.lock_timeout_s}
    # Without a collation: texts of a query then have the one that a literal of a parameter has, and can be mixed with it.
    return ["SET NAMES utf8mb4", f"SET {', '.join(f'SESSION {name} = {value}' for name, value in values.items())}"]


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
            return tls_refused(root)
        case pymysql.err.MySQLError():
            number = root.args[0] if root.args and isinstance(root.args[0], int) else 0
            code = _CODES.get(number, Code.SOURCE_FAILED)
            if code is Code.SOURCE_UNREACHABLE and address is not None:
                return SourceError(code, f"MySQL at {address.host}:{address.port} cannot be reached")
            message = root.args[1] if len(root.args) > 1 else type(root).__name__
            error = SourceError(code, f"MySQL refused ({number}): {message}")
            if number in _PERHAPS_FOR_PLAIN and address is not None and address.is_plain:
                error.add_note(WANTS_TLS)
            return error
        case OSError():
            return SourceError(Code.SOURCE_CONNECTION_LOST, "the connection to MySQL was lost")
        case _:
            return None


def refuses_to_prepare(exc: pymysql.err.MySQLError) -> bool:
    """Return whether the server refused to prepare a statement that it may run otherwise; the connection stays usable."""
    return bool(exc.args) and exc.args[0] in _NOT_PREPARED


async def close(connection: WireConnection) -> None:
    """Close a connection in order if it is idle; the server is told."""
    try:
        if connection.is_idle:
            await connection.quit()
    except (pymysql.err.MySQLError, OSError):
        connection.close()


def abort(connection: WireConnection) -> None:
    """Close a connection at once."""
    connection.close()
