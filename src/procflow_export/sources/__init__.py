"""Databases as sources of Arrow batches: one port, one folder for each database.

Owns the choice of the implementation.  A driver is imported when its database is opened, not before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import assert_never

from procflow_export.model.settings import SourceConfig, SourceType
from procflow_export.sources.connection import server_address, sqlite_path
from procflow_export.sources.port import ChunkRequest, ReadStatistics, Source, TableProfile

__all__ = ("ChunkRequest", "ReadStatistics", "Source", "TableProfile", "open_source")


@asynccontextmanager
async def open_source(config: SourceConfig, *, environ: Mapping[str, str]) -> AsyncIterator[Source]:
    """Open the database that a configuration names; leaving the block closes every connection.

    Connections are made when they are first needed, so a wrong address shows at the first call.

    Args:
        config: Where the database is, and its limits.
        environ: The environment that ``url_env``, ``password_env`` and what nothing else says are read from.

    Raises:
        SourceError: If the configuration does not say where the database is, or a secret's reference leads nowhere.
    """
    limits = config.tuning.limits()
    match config.type:
        case SourceType.POSTGRES:
            from procflow_export.sources.postgres.source import open_postgres

            async with open_postgres(server_address(config, environ), limits) as postgres:
                yield postgres
        case SourceType.MYSQL:
            from procflow_export.sources.mysql.source import open_mysql

            async with open_mysql(server_address(config, environ), limits) as mysql:
                yield mysql
        case SourceType.SQLITE:
            from procflow_export.sources.sqlite.source import SqliteSource

            sqlite = SqliteSource(sqlite_path(config, environ), lock_timeout_s=limits.lock_timeout_s)
            try:
                yield sqlite
            finally:
                await sqlite.aclose()
        case _:
            assert_never(config.type)
