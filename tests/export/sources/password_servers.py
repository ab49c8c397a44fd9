"""A PostgreSQL that asks for passwords: the servers that tests share trust everybody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio.from_thread
import pytest

import procflow as pf
from tests.export.sources.programs import command, own_folder, started
from tests.export.sources.tls_servers import on_free_port
from tools.packages import Program
from tools.servers import ServerUnavailableError, binaries

SETTINGS = ("listen_addresses=127.0.0.1", "fsync=off", "full_page_writes=off", "client_connection_check_interval=1s")


@asynccontextmanager
async def _postgres_with_passwords(folder: Path) -> AsyncIterator[str]:
    programs = binaries("postgres")
    initdb, postgres = Program(programs / "initdb"), Program(programs / "postgres")
    data = folder / "data"
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8"]
    await pf.run(command(initdb, "-D", data, *options))
    # The administrator comes by the socket; everybody else needs a password, and the first letter of a name chooses how it is
    # checked.
    (data / "pg_hba.conf").write_text(
        "local all postgres trust\n"
        "host all /^m 127.0.0.1/32 md5\nhost all /^c 127.0.0.1/32 password\nhost all all 127.0.0.1/32 scram-sha-256\n"
    )
    settings = [word for setting in SETTINGS for word in ("-c", setting)]
    async with on_free_port(
        lambda port: started(
            postgres, "-D", data, "-k", folder, "-p", str(port), *settings, ready="ready to accept connections"
        )
    ) as port:
        yield f"postgresql://postgres@/postgres?host={folder}&port={port}"


@contextmanager
def postgres_with_passwords() -> Iterator[str]:
    """Give the administrator's URL, by a socket, of a server that lives as long as the block, in a loop of its own."""
    try:
        binaries("postgres")
    except ServerUnavailableError as exc:
        pytest.skip(str(exc))
    with (
        own_folder() as folder,
        anyio.from_thread.start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(_postgres_with_passwords(folder)) as url,
    ):
        yield url
