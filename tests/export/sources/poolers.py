"""PgBouncer before a test's PostgreSQL: the real one, run by the library that is under test elsewhere."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

import procflow as pf
from tools.packages import Program, find_program
from tools.servers import free_port, unprivileged

PORT_ATTEMPTS = 5
START_DEADLINE_S = 30.0


def needed_program(name: str, how: str, *, folders: str = "usr/*bin") -> Program:
    """A program of a package; without it the test is skipped, or fails where CI must have it."""
    program = find_program(name, folders=folders)
    if program is not None:
        return program
    if os.environ.get("PROCFLOW_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{name} is missing; to have it: {how}", pytrace=False)
    pytest.skip(f"{name} is missing; to have it: {how}")


@asynccontextmanager
async def own_folder() -> AsyncIterator[Path]:
    """A folder that a server may use that is not root."""
    folder = Path(tempfile.mkdtemp(prefix="procflow-pooler-"))
    try:
        folder.chmod(0o755)
        _, as_user = unprivileged()
        if "user" in as_user:
            shutil.chown(folder, as_user["user"], as_user["group"])
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def pgbouncer(url: str, *, mode: str, settings: Mapping[str, Any] | None = None) -> AsyncIterator[str]:
    """Give the URL of a PgBouncer before the server of ``url``, on a TCP port of loopback."""
    program = needed_program("pgbouncer", "apt-get install pgbouncer")
    server = urlsplit(url)
    prefix, as_user = unprivileged()
    if as_user:
        prefix = ("setpriv", f"--reuid={as_user['user']}", f"--regid={as_user['group']}", "--clear-groups")
    async with own_folder() as folder:
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
            command = pf.Command(*prefix, program.path, config, env=program.environ, inherit_env=False)
            async with pf.spawn(command, stdout=pf.NULL) as child:
                with anyio.fail_after(START_DEADLINE_S):
                    said = (await child.stderr.wait_for_line(r"process up|already in use|FATAL|ERROR")).text
                if "process up" in said:
                    yield f"postgresql://{server.username}@127.0.0.1:{port}{server.path}"
                    return
                if attempt == PORT_ATTEMPTS or "already in use" not in said:
                    pytest.fail(f"PgBouncer did not start: {said}", pytrace=False)
