"""PgBouncer before a test's PostgreSQL: the real one, run by the library that is under test elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

from tests.export.sources.programs import IN_USE, PORT_ATTEMPTS, START_DEADLINE_S, needed_program, own_folder, started
from tools.servers import free_port


@asynccontextmanager
async def pgbouncer(url: str, *, mode: str, settings: Mapping[str, Any] | None = None) -> AsyncIterator[str]:
    """Give the URL of a PgBouncer before the server of ``url``, on a TCP port of loopback."""
    program = needed_program("pgbouncer", "apt-get install pgbouncer")
    server = urlsplit(url)
    with own_folder() as folder:
        users, config = folder / "users.txt", folder / "pgbouncer.ini"
        users.write_text(f'"{server.username}" "{server.password or ""}"\n')
        for attempt in range(1, PORT_ATTEMPTS + 1):
            port = free_port()
            values = {
                "listen_addr": "127.0.0.1",
                "listen_port": port,
                "unix_socket_dir": "",
                "auth_type": "trust",
                "auth_file": users,
                "pool_mode": mode,
                "default_pool_size": 2,
            } | dict(settings or {})
            lines = [f"{name} = {value}" for name, value in values.items()]
            config.write_text(
                f"[databases]\n* = host={server.hostname} port={server.port}\n[pgbouncer]\n" + "\n".join(lines) + "\n"
            )
            async with started(program, config, ready="process up") as said:
                if said is None:
                    yield f"postgresql://{server.username}@127.0.0.1:{port}{server.path}"
                    return
            if attempt == PORT_ATTEMPTS or IN_USE not in said:
                pytest.fail(f"PgBouncer did not start: {said}", pytrace=False)


async def accepting(port: int) -> None:
    """Wait until a port of loopback takes connections."""
    with anyio.fail_after(START_DEADLINE_S):
        while True:
            try:
                async with await anyio.connect_tcp("127.0.0.1", port):
                    return
            except OSError:
                await anyio.sleep(0.01)


@asynccontextmanager
async def odyssey(url: str, *, mode: str) -> AsyncIterator[str]:
    """Give the URL of an Odyssey before the server of ``url``; no release of Debian has it yet, so it may be missing."""
    program = needed_program("odyssey", "unpack the package of a later Debian", is_optional=True)
    server = urlsplit(url)
    with own_folder() as folder:
        config = folder / "odyssey.conf"
        for attempt in range(1, PORT_ATTEMPTS + 1):
            port = free_port()
            config.write_text(
                f"""
                daemonize no
                log_file "/dev/stderr"
                log_format "%m\\n"
                listen {{ host "127.0.0.1" port {port} }}
                storage "server" {{ type "remote" host "{server.hostname}" port {server.port} }}
                database default {{ user default {{ authentication "none" storage "server" pool "{mode}" pool_size 2 }} }}
                """
            )
            async with started(program, config, ready="listening on 127.0.0.1") as said:
                if said is None:
                    await accepting(port)  # it says so a moment before
                    yield f"postgresql://{server.username}@127.0.0.1:{port}{server.path}"
                    return
            if attempt == PORT_ATTEMPTS or IN_USE not in said:
                pytest.fail(f"Odyssey did not start: {said}", pytrace=False)
