"""Whether a connection pooler stands between us and the server, and whether one can read through it.

Owns the two questions.  Must not know which pooler it is: PgBouncer, Odyssey and their like all log in to the server
themselves and give their clients numbers of their own to cancel by, where the server gives its process id (``BackendKeyData``).
That holds in every pooling mode.

Behind a pooler the session may be another one after every transaction.  Nothing of ours lives longer (see ``session``), so
session and transaction pooling are both good.  Statement pooling is not: PgBouncer cuts the connection at ``BEGIN``, and a
pooler that did not would read each statement of a chunk with somebody else's settings.
"""

from __future__ import annotations

from typing import Final

import anyio
import asyncpg

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.settings import ReadLimits
from procflow_export.sources.leases import Leases
from procflow_export.sources.postgres import session
from procflow_export.sources.postgres.session import Connection

POOLER_WARNING: Final = (
    "a connection pooler such as PgBouncer or Odyssey stands before PostgreSQL: every setting is made inside of its transaction,"
    " and the pooler's own limits hold for the export as well; let `tuning.max_connections` be no more than its pool has"
)
SESSION_WAIT_S: Final = 10.0
"""How long a pool may take to give a second session before it is taken for one that has none."""


async def is_behind_pooler(connection: Connection, limits: ReadLimits) -> bool:
    """Return whether the way to the server leads through a pooler.

    Raises:
        SourceError: If the pooler does not keep the statements of a transaction together.
    """
    with session.translated(connection):
        backend = await connection.fetchval("SELECT pg_catalog.pg_backend_pid()")
    if not is_pooled(announced=connection.get_server_pid(), backend=backend):
        return False
    if not await _keeps_transactions(connection, limits):
        raise SourceError(
            Code.SOURCE_NOT_SUPPORTED,
            "the connection pooler before PostgreSQL keeps no transaction together (statement pooling):"
            " set pool_mode to transaction or session for this database or user, or connect to the server itself",
        )
    return True


async def require_second_session(connections: Leases[Connection], limits: ReadLimits) -> None:
    """Make sure that a transaction can begin while the caller has one open: it holds a session of the pool.

    Raises:
        SourceError: ``SOURCE_SNAPSHOT_REFUSED`` if none is to be had.
    """
    with anyio.move_on_after(SESSION_WAIT_S) as scope:
        async with connections.lease() as connection:
            await session.begin(connection, limits)
            await session.rollback(connection)
    if scope.cancelled_caught:
        raise SourceError(
            Code.SOURCE_SNAPSHOT_REFUSED,
            f"the connection pooler gave no second session within {SESSION_WAIT_S:g} s, and a snapshot takes one beside its readers",
        )


def is_pooled(*, announced: int, backend: int) -> bool:
    """Return whether a pooler has answered.

    Args:
        announced: The process id that came with the log-in, signed, as the driver gives it.
        backend: The process that runs the statements, as it says itself.
    """
    return announced & 0xFFFF_FFFF != backend & 0xFFFF_FFFF


async def _keeps_transactions(connection: Connection, limits: ReadLimits) -> bool:
    try:
        await session.begin(connection, limits)
        is_read_only = await connection.fetchval("SELECT pg_catalog.current_setting('transaction_read_only')")
        await session.rollback(connection)
    except (SourceError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        if connection.is_closed():
            return False
        raise
    return is_read_only == "on"
