"""Servers of a test's own, started by the library that is under test elsewhere: they end with the block, and with this process."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import pytest

import procflow as pf
from tools.packages import Program, find_program
from tools.servers import unprivileged

PORT_ATTEMPTS = 5
IN_USE = "ddress already in use"
START_DEADLINE_S = 60.0


def needed_program(name: str, how: str, *, folders: str = "usr/*bin", is_optional: bool = False) -> Program:
    """A program of a package; without it the test is skipped, or fails where CI must have it."""
    program = find_program(name, folders=folders)
    if program is not None:
        return program
    if os.environ.get("PROCFLOW_REQUIRE_SERVICES") == "1" and not is_optional:
        pytest.fail(f"{name} is missing; to have it: {how}", pytrace=False)
    pytest.skip(f"{name} is missing; to have it: {how}")


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder that a server may use that is not root."""
    folder = Path(tempfile.mkdtemp(prefix="procflow-server-"))
    try:
        folder.chmod(0o755)
        give_away(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def give_away(path: Path) -> None:
    """Let a path be the servers' where they run as another user."""
    _, as_user = unprivileged()
    if "user" in as_user:
        shutil.chown(path, as_user["user"], as_user["group"])


def command(program: Program, *arguments: str | Path) -> pf.Command:
    """How to run a program as anyone but root."""
    prefix, as_user = unprivileged()
    if as_user:
        prefix = ("setpriv", f"--reuid={as_user['user']}", f"--regid={as_user['group']}", "--clear-groups")
    return pf.Command(*prefix, program.path, *arguments, env=program.environ, inherit_env=False, cwd="/")


@asynccontextmanager
async def started(program: Program, *arguments: str | Path, ready: str) -> AsyncIterator[str | None]:
    """Run a server for the length of the block.  Gives nothing once it is ready, or else what it said at its end."""
    async with pf.spawn(command(program, *arguments), stdout=pf.NULL) as child:
        try:
            with anyio.fail_after(START_DEADLINE_S):
                await child.stderr.wait_for_line(ready, peek=True)
        except pf.NotReadyError:
            yield "\n".join([line async for line in child.stderr.lines()])
        else:
            yield None
