"""Connections to PostgreSQL: logging in, the settings of a transaction, and the meaning of errors.

Owns what every statement can rely on: a read-only transaction, UTC, ISO texts, exact floats, the limits of the
configuration.  Must not know tables or types.

**Locks come before snapshots.**  A snapshot that is older than the lock on a table does not see what a ``TRUNCATE`` or a
rewriting ``ALTER TABLE`` left when it committed in between: the table looks empty.  ``REPEATABLE READ`` takes its only
snapshot when the first statement is parsed, before that statement waits for a lock, and ``COPY`` takes its own before it
looks at its query.  So transactions are ``READ COMMITTED``, where each statement has a snapshot of its own, and ``hold()``
plans a statement before ``COPY`` runs it: the locks of the plan stay until the transaction ends, and the snapshot of the
``COPY`` is younger.  ``LOCK TABLE`` was ruled out: it refuses materialized and foreign tables, and roles whose rights are
on columns.  The hole that is left: tables that only the body of a function names are locked when the function runs.

The settings go into the transaction, not the session (``SET LOCAL``): behind a pooler a session is not ours, and a setting
that outlives the transaction would meet somebody else.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeAlias

import anyio
import asyncpg

from procflow_export.model.codes import Code
from procflow_export.model.errors import ExportError, SourceError
from procflow_export.model.plan import Snapshot
from procflow_export.model.settings import ReadLimits
from procflow_export.sources.connection import ServerAddress, context_for
from procflow_export.sources.tls import NEEDS_CERTIFICATE, WANTS_TLS, tls_missing, tls_refused

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CONNECT_TIMEOUT_S: Final = 15.0
CANCEL_WAITS_S: Final = (0.1, 0.2, 0.4, 0.8, 1.5, 2.0)
"""How long the server may take to end a statement, before it is asked again; then the connection is closed."""
MIN_VERSION: Final = 12
CONNECTION_CHECK_VERSION: Final = 14
TRANSACTION_TIMEOUT_VERSION: Final = 17
IMPORTED_LOCK_WAIT_S: Final = 2
"""How long a reader of a snapshot waits for a lock, at most: see ``in_snapshot()``."""
_SNAPSHOT_NAME: Final = re.compile(r"[0-9A-Fa-f-]{1,64}")
_NO_SUCH_SNAPSHOT: Final = frozenset({"22023", "42704", "55000"})
"""What ``SET TRANSACTION SNAPSHOT`` says of a name that nobody holds: it differs by release and by who looks first."""

_SETTINGS: Final = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
}

# A server that works on a long sort learns within a second that nobody waits for it.  Those that cannot notice refuse the
# setting, and with it the transaction: on Windows, and release 14 everywhere but on Linux.
_CHECK_CONNECTION: Final = (
    "SELECT pg_catalog.set_config('client_connection_check_interval', '1s', TRUE)"
    " WHERE pg_catalog.version() LIKE '%linux%';"
)

_CODES: Final[dict[str, Code]] = {
    "57014": Code.SOURCE_STATEMENT_TIMEOUT,
    "57P01": Code.SOURCE_SHUTTING_DOWN,
    "57P02": Code.SOURCE_SHUTTING_DOWN,
    "57P03": Code.SOURCE_SHUTTING_DOWN,
    "53300": Code.SOURCE_TOO_MANY_CONNECTIONS,
    "40001": Code.SOURCE_DEADLOCK,
    "40P01": Code.SOURCE_DEADLOCK,
    "55P03": Code.SOURCE_LOCKED,
    "42501": Code.SOURCE_DENIED,
    "42P01": Code.SOURCE_NOT_FOUND,
    "42703": Code.SOURCE_NOT_FOUND,
    "3F000": Code.SOURCE_NOT_FOUND,
    "3D000": Code.SOURCE_AUTH_FAILED,
    "25006": Code.SOURCE_QUERY_INVALID,
    "0A000": Code.SOURCE_QUERY_INVALID,
}
_CLASS_CODES: Final[dict[str, Code]] = {
    "08": Code.SOURCE_CONNECTION_LOST,
    "53": Code.SOURCE_OUT_OF_RESOURCES,
    "28": Code.SOURCE_AUTH_FAILED,
    "42": Code.SOURCE_QUERY_INVALID,
    "22": Code.SOURCE_QUERY_INVALID,
}

_PERHAPS_FOR_PLAIN: Final = frozenset({"28000", "08P01"})
"""What PostgreSQL (no entry in pg_hba.conf) and PgBouncer refuse a plain connection with, among others."""


async def connect(address: ServerAddress) -> Connection:
    """Log in.

    Raises:
        SourceError: If the server cannot be reached, refuses, is too old, or cannot prove who it is.
    """
    context = await context_for(address)
    try:
        connection = await asyncpg.connect(
            host=address.host,
            port=address.port,
            user=address.user,
            # An empty text keeps the driver from looking for a password where nobody told it to.
            password="" if address.password is None else address.password.reveal(),
            database=address.database,
            ssl=False if context is None else context,
            timeout=CONNECT_TIMEOUT_S,
            statement_cache_size=0,
        )
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        raise _login_failure(exc, address, is_encrypted=context is not None) from exc
    try:
        require_supported(connection.get_server_version().major)
    except SourceError:
        connection.terminate()
        raise
    return connection


def _login_failure(exc: Exception, address: ServerAddress, *, is_encrypted: bool) -> SourceError:
    refused = next((error for error in (exc, exc.__cause__) if isinstance(error, ssl.SSLError)), None)
    match exc:
        case _ if refused is not None:
            return tls_refused(refused)
        case asyncpg.ConnectionDoesNotExistError():
            error = SourceError(
                Code.SOURCE_CONNECTION_LOST, "the connection to PostgreSQL was closed during the log-in"
            )
            if is_encrypted and address.cert_file is None:
                error.add_note(NEEDS_CERTIFICATE)
            return error
        case asyncpg.PostgresError():
            error = refusal(exc)
            if address.is_plain and exc.sqlstate in _PERHAPS_FOR_PLAIN:
                error.add_note(WANTS_TLS)
            return error
        case asyncpg.InterfaceError():
            return SourceError(Code.SOURCE_AUTH_FAILED, "the driver could not log in to PostgreSQL")
        case _ if type(exc) is ConnectionError and is_encrypted:
            return tls_missing()
        case _:
            place = f"{address.host}:{address.port}"
            return SourceError(Code.SOURCE_UNREACHABLE, f"PostgreSQL at {place} cannot be reached: {_os_reason(exc)}")


def require_supported(major: int) -> None:
    """Refuse a server that is older than what we read from.

    Raises:
        SourceError: If its major version is.
    """
    if major < MIN_VERSION:
        raise SourceError(Code.SOURCE_NOT_SUPPORTED, f"PostgreSQL {major} is too old: {MIN_VERSION} or later is needed")


async def begin(
    connection: Connection, limits: ReadLimits, *, is_read_only: bool = True, snapshot: Snapshot | None = None
) -> None:
    """Begin a transaction with our settings; with a snapshot, one that sees that state and no other.

    Raises:
        SourceError: ``SOURCE_SNAPSHOT_LOST`` if the server no longer has the snapshot.
    """
    mode = "READ ONLY" if is_read_only else "READ WRITE"
    major = connection.get_server_version().major
    settings = dict(_SETTINGS)
    settings["statement_timeout"] = f"{limits.statement_timeout_s}s"
    settings["lock_timeout"] = f"{limits.lock_timeout_s}s"
    opening = f"BEGIN ISOLATION LEVEL READ COMMITTED {mode};"
    if snapshot is not None:
        opening = f"BEGIN ISOLATION LEVEL REPEATABLE READ {mode};SET TRANSACTION SNAPSHOT '{_exported(snapshot)}';"
        settings["lock_timeout"] = f"{min(limits.lock_timeout_s or IMPORTED_LOCK_WAIT_S, IMPORTED_LOCK_WAIT_S)}s"
        settings |= _unhurried(major)
    assignments = "".join(f"SET LOCAL {name} = '{value}';" for name, value in settings.items())
    if major >= CONNECTION_CHECK_VERSION:
        assignments += _CHECK_CONNECTION
    try:
        with translated(connection):
            await connection.execute(opening + assignments)
    except SourceError as exc:
        if snapshot is not None and getattr(exc.__cause__, "sqlstate", None) in _NO_SUCH_SNAPSHOT:
            raise SourceError(Code.SOURCE_SNAPSHOT_LOST, "the snapshot's holder is gone") from exc.__cause__
        raise


async def stay(connection: Connection) -> None:
    """Let the transaction of a holder last: it is idle by design, and as long as the export."""
    settings = _unhurried(connection.get_server_version().major)
    with translated(connection):
        await connection.execute("".join(f"SET LOCAL {name} = '{value}';" for name, value in settings.items()))


async def export_snapshot(connection: Connection) -> Snapshot:
    """Return the state that the transaction sees now, for others to import while it lasts."""
    with translated(connection):
        return Snapshot(name=await connection.fetchval("SELECT pg_catalog.pg_export_snapshot()"))


@contextmanager
def in_snapshot(snapshot: Snapshot | None) -> Iterator[None]:
    """Raise what a lock that is not granted means to a reader of a snapshot: that it is lost.

    The holder's lock is granted, so a reader that waits for the same one waits behind somebody who wants to change the
    table, and that somebody waits for the holder: neither server nor application gets further until the snapshot is given up.
    """
    try:
        yield
    except SourceError as exc:
        if snapshot is None or exc.code is not Code.SOURCE_LOCKED:
            raise
        message = "somebody waits to change what is read under a snapshot"
        raise SourceError(Code.SOURCE_SNAPSHOT_LOST, message) from exc.__cause__


def _exported(snapshot: Snapshot) -> str:
    if not _SNAPSHOT_NAME.fullmatch(snapshot.name):
        raise SourceError(Code.INTERNAL, "not the name of a snapshot that PostgreSQL exports")
    return snapshot.name


def _unhurried(major: int) -> dict[str, str]:
    """Return the settings that keep the server from ending a transaction because it is idle or old."""
    settings = {"idle_in_transaction_session_timeout": "0"}
    if major >= TRANSACTION_TIMEOUT_VERSION:
        settings["transaction_timeout"] = "0"
    return settings


async def hold(connection: Connection, statement: str) -> None:
    """Plan a statement: what it reads is locked against changes of shape, and emptying, until the transaction ends."""
    with translated(connection):
        await connection.execute(f"EXPLAIN {statement}")


def knows_texts(connection: Connection) -> bool:
    """Return whether the server knows the encoding of its texts; in a database with ``SQL_ASCII`` it does not."""
    return bool(connection.get_settings().server_encoding != "SQL_ASCII")


async def send_texts_as_stored(connection: Connection) -> None:
    """Let the server send texts as they are stored where it does not know their encoding; until the transaction ends.

    In a database with the encoding ``SQL_ASCII`` a text may be any bytes.  As a client that speaks UTF-8 we would be refused the
    whole result for one text that is something else, and could not say which.  The decoder checks every text anyway.
    """
    if not knows_texts(connection):
        with translated(connection):
            await connection.execute("SET LOCAL client_encoding = 'SQL_ASCII'")


async def commit(connection: Connection) -> None:
    """End a transaction that only read."""
    with translated(connection):
        await connection.execute("COMMIT")


async def rollback(connection: Connection) -> None:
    """End a transaction and undo what it did."""
    with translated(connection):
        await connection.execute("ROLLBACK")


class translated:  # noqa: N801 (used as a word of the language)
    """Raise errors of the driver as errors of ours."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        return None

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        if exc is not None and not isinstance(exc, ExportError):
            ours = translate(exc, is_closed=self._connection.is_closed())
            if ours is not None:
                raise ours from exc


def translate(exc: BaseException, *, is_closed: bool) -> SourceError | None:
    """Return the error of ours for one of the driver's, or ``None`` for anything else.

    The driver has one class for its refusals, ``InterfaceError``: only on a closed connection does it mean that there is no
    longer one, and that the same statement may succeed later.
    """
    if isinstance(exc, asyncpg.PostgresError):
        return refusal(exc)
    if isinstance(exc, asyncpg.InterfaceError) and not is_closed:
        return SourceError(Code.SOURCE_FAILED, "the PostgreSQL driver refused the statement")
    # What a server says of its own accord, its last words, makes the driver lose its place (``InternalClientError``).
    if isinstance(exc, asyncpg.InterfaceError | asyncpg.InternalClientError | OSError):
        return SourceError(Code.SOURCE_CONNECTION_LOST, "the connection to PostgreSQL was lost")
    return None


def refusal(exc: asyncpg.PostgresError) -> SourceError:
    """Return the error of ours for one that the server sent.

    The message is the server's primary message; its detail, which may quote rows, is left out.
    """
    state = str(exc.sqlstate or "")
    code = _CODES.get(state) or _CLASS_CODES.get(state[:2], Code.SOURCE_FAILED)
    message = str(getattr(exc, "message", None) or type(exc).__name__)
    return SourceError(code, f"PostgreSQL refused ({state}): {message}")


async def copy_out(
    connection: Connection, statement: str, put: Callable[[bytes], Awaitable[None]], options: Mapping[str, str]
) -> None:
    """Hand the bytes of a COPY to ``put``, whole rows each time; where ``put`` fails or is cancelled, close the connection.

    After that asyncpg 0.32 reads on, and the second bytes that come meet no one who waits for them: an ``AttributeError``
    out of a callback.  The server notices that nobody takes its bytes.
    """
    is_taken = True

    async def hand_over(data: bytes) -> None:
        nonlocal is_taken
        is_taken = False
        await put(data)
        is_taken = True

    try:
        await connection.copy_from_query(statement, output=hand_over, **options)
    finally:
        if not is_taken:
            abort(connection)


async def cancel(connection: Connection, ended: anyio.Event) -> None:
    """End what runs on a connection; returns when ``ended`` is set, which whoever waits for the statement does.

    The driver's own way is to cancel who waits.  During a COPY asyncpg 0.32 reads on then, takes the first bytes for the
    answer to its request, and the next ones meet no one who waits for them: an ``AttributeError`` out of a callback.  So who
    waits goes on waiting, for the error with which the server ends the statement.

    The server is asked again and again, because a request that comes between two statements is lost.  The connection must not
    be used after that: the last request may still be on its way.
    """
    loop = asyncio.get_running_loop()
    for wait_s in CANCEL_WAITS_S:
        if ended.is_set() or connection.is_closed():
            break
        connection._cancel_current_command(loop.create_future())  # noqa: SLF001 (there is no other way in)
        with anyio.move_on_after(wait_s):
            await ended.wait()
    if not ended.is_set():
        abort(connection)
        await ended.wait()


def is_idle(connection: Connection) -> bool:
    """Return whether a connection is open and in no transaction."""
    return not connection.is_closed() and not connection.is_in_transaction()


async def close(connection: Connection) -> None:
    """Close a connection; a statement that still runs is cancelled on the server first."""
    try:
        await connection.close()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        connection.terminate()


def abort(connection: Connection) -> None:
    """Close a connection at once."""
    connection.terminate()


def _os_reason(exc: BaseException) -> str:
    if isinstance(exc, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT_S:g} s"
    if str(exc).startswith("Multiple exceptions"):  # one for each address of the name, see loop.create_connection()
        return "none of its addresses takes the connection"
    return getattr(exc, "strerror", None) or type(exc).__name__
