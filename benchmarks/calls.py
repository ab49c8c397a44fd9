"""How a command is run to its end with its output captured: by us, and by everybody else.

``run`` is the plain call, ``within`` the one with a deadline, each as the peer's own documentation spells it.  What blocks is a plain
function.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.loops import Watcher

Argv = Sequence[str]
Environ = Mapping[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One way to run commands.

    Attributes:
        run: Takes the command and its environment.
        within: Takes the deadline in seconds too, and keeps its error to itself.
        backend: Where it runs; ``None`` if it blocks.
    """

    run: Callable[[Argv, Environ], Any]
    within: Callable[[Argv, Environ, float], Any]
    backend: str | None = "asyncio"
    watcher: Watcher | None = None


def subprocess_run(argv: Argv, environ: Environ) -> None:
    subprocess.run(argv, env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def subprocess_within(argv: Argv, environ: Environ, limit_s: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(argv, env=environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False)


async def _asyncio_process(argv: Argv, environ: Environ) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(  # noqa: TID251  # a peer
        *argv, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


async def asyncio_run(argv: Argv, environ: Environ) -> None:
    process = await _asyncio_process(argv, environ)
    await process.communicate()


async def asyncio_within(argv: Argv, environ: Environ, limit_s: float) -> None:
    process = await _asyncio_process(argv, environ)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.communicate(), limit_s)


async def asyncio_killed(argv: Argv, environ: Environ, limit_s: float) -> None:
    process = await _asyncio_process(argv, environ)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.communicate(), limit_s)
        return
    process.kill()
    await process.wait()


async def anyio_run(argv: Argv, environ: Environ) -> None:
    import anyio

    await anyio.run_process(argv, env=environ, stdin=subprocess.DEVNULL, check=False)


async def anyio_within(argv: Argv, environ: Environ, limit_s: float) -> None:
    import anyio

    with anyio.move_on_after(limit_s):
        await anyio_run(argv, environ)


async def trio_run(argv: Argv, environ: Environ) -> None:
    import trio

    run_process: Any = trio.run_process
    await run_process(
        argv, env=environ, stdin=subprocess.DEVNULL, capture_stdout=True, capture_stderr=True, check=False
    )


async def trio_within(argv: Argv, environ: Environ, limit_s: float) -> None:
    import trio

    with trio.move_on_after(limit_s):
        await trio_run(argv, environ)


def _shellous_command(argv: Argv, environ: Environ) -> Any:
    import shellous

    command: Any = shellous.sh(*argv).stdin(shellous.sh.DEVNULL).result
    return command if environ is None else command.env(**environ)


async def shellous_run(argv: Argv, environ: Environ) -> None:
    await _shellous_command(argv, environ)


async def shellous_within(argv: Argv, environ: Environ, limit_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(shellous_run(argv, environ), limit_s)


def sh_run(argv: Argv, environ: Environ, **options: Any) -> None:
    import sh

    with contextlib.suppress(sh.TimeoutException), open("/dev/null", "rb") as nothing:
        sh.Command(argv[0])(*argv[1:], _env=None if environ is None else dict(environ), _in=nothing, **options)


def sh_within(argv: Argv, environ: Environ, limit_s: float) -> None:
    sh_run(argv, environ, _timeout=limit_s)


def plumbum_run(argv: Argv, environ: Environ, **options: Any) -> None:
    import plumbum

    command: Any = plumbum.local[argv[0]][tuple(argv[1:])]
    with contextlib.suppress(plumbum.ProcessTimedOut):
        command.run(env=environ, stdin=subprocess.DEVNULL, retcode=None, **options)


def plumbum_within(argv: Argv, environ: Environ, limit_s: float) -> None:
    plumbum_run(argv, environ, timeout=limit_s)


async def ours_run(argv: Argv, environ: Environ) -> None:
    import procflow as pf

    await pf.run(pf.Command(*argv, env=environ))


async def ours_within(argv: Argv, environ: Environ, limit_s: float) -> None:
    import procflow as pf

    with contextlib.suppress(pf.TimedOut):
        await pf.run(pf.Command(*argv, env=environ), timeout_s=limit_s)


CALLS: Final = {
    "subprocess.run": Call(run=subprocess_run, within=subprocess_within, backend=None),
    "asyncio, thread watcher": Call(run=asyncio_run, within=asyncio_within, watcher="thread"),
    "asyncio, pidfd watcher": Call(run=asyncio_run, within=asyncio_within, watcher="pidfd"),
    "uvloop": Call(run=asyncio_run, within=asyncio_within, backend="uvloop"),
    "anyio on asyncio": Call(run=anyio_run, within=anyio_within),
    "anyio on trio": Call(run=anyio_run, within=anyio_within, backend="trio"),
    "trio": Call(run=trio_run, within=trio_within, backend="trio"),
    "shellous": Call(run=shellous_run, within=shellous_within),
    "sh": Call(run=sh_run, within=sh_within, backend=None),
    "plumbum": Call(run=plumbum_run, within=plumbum_within, backend=None),
    "procflow on asyncio": Call(run=ours_run, within=ours_within),
    "procflow on uvloop": Call(run=ours_run, within=ours_within, backend="uvloop"),
    "procflow on trio": Call(run=ours_run, within=ours_within, backend="trio"),
}
"""Everybody."""
