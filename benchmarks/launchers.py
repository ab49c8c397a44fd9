"""How a child is started, waited for and stopped: by us, and by everybody else.

Same pipes for all: nothing to read, a pipe for stdout, a pipe for stderr.  Everything else is the peer's default.  sh, plumbum and
``Popen`` block where the others wait: they are measured one child at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

from benchmarks.loops import Watcher, run_on

Argv = Sequence[str]


class Handle:
    """A started child, and what its library offers for it."""

    pid: int

    async def wait(self) -> None:
        """Return when it has exited."""
        raise NotImplementedError

    async def read(self) -> None:
        """Return when it has written a line."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End a child that obeys SIGTERM."""
        self.signal(signal.SIGTERM)
        await self.wait()

    async def stop_within(self, grace_s: float) -> None:
        """Send SIGTERM, and SIGKILL after ``grace_s``; return when it has ended."""
        raise NotImplementedError

    def signal(self, number: int) -> None:
        """Send it a signal."""
        raise NotImplementedError

    async def close(self) -> None:
        """Give back what is still open of an ended child."""

    async def leave(self) -> None:
        """End it as the end of its block does, or else by hand."""
        await self.stop()
        await self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """One way to start children."""

    start: Callable[[Argv], Awaitable[Handle]]
    backend: str = "asyncio"
    watcher: Watcher | None = None
    is_blocking: bool = False

    def run(self, function: Callable[..., Any], *args: object) -> Any:
        """Run an async function where these children are started."""
        return run_on(self.backend, self.watcher, function, *args)


class _Popen(Handle):
    def __init__(self, popen: Any) -> None:
        self._popen = popen
        self.pid = popen.pid

    async def wait(self) -> None:
        self._popen.wait()

    async def read(self) -> None:
        self._popen.stdout.readline()

    async def stop_within(self, grace_s: float) -> None:
        self._popen.terminate()
        try:
            self._popen.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)

    async def close(self) -> None:
        self._popen.stdout.close()
        self._popen.stderr.close()


async def start_popen(argv: Argv) -> Handle:
    return _Popen(
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    )


async def start_plumbum(argv: Argv) -> Handle:
    import plumbum

    return _Popen(plumbum.local[argv[0]][tuple(argv[1:])].popen(stdin=subprocess.DEVNULL))


class _Sh(Handle):
    def __init__(self, command: Any) -> None:
        self._command = command
        self.pid = command.pid

    async def wait(self) -> None:
        import sh

        with contextlib.suppress(sh.ErrorReturnCode):
            self._command.wait()

    def signal(self, number: int) -> None:
        self._command.signal(number)


@functools.cache
def _nothing() -> IO[bytes]:
    """The null device: sh takes files, not the constants of subprocess."""
    return open(os.devnull, "rb")


async def start_sh(argv: Argv) -> Handle:
    import sh

    return _Sh(sh.Command(argv[0])(*argv[1:], _bg=True, _bg_exc=False, _in=_nothing(), _tty_out=False))


class _Asyncio(Handle):
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def wait(self) -> None:
        await self._process.wait()

    async def read(self) -> None:
        assert self._process.stdout is not None
        await self._process.stdout.readline()

    async def stop_within(self, grace_s: float) -> None:
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), grace_s)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)


async def start_asyncio(argv: Argv) -> Handle:
    return _Asyncio(
        await asyncio.create_subprocess_exec(  # noqa: TID251  # a peer
            *argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    )


class _Shellous(Handle):
    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self.pid = runner.pid

    async def wait(self) -> None:
        # Its way to wait for a child that is not read is the end of the block.
        await self._runner.__aexit__(None, None, None)

    def signal(self, number: int) -> None:
        self._runner.send_signal(number)


async def start_shellous(argv: Argv) -> Handle:
    import shellous

    sh = shellous.sh
    runner: Any = shellous.Runner(sh(*argv).stdin(sh.DEVNULL).stdout(sh.CAPTURE).stderr(sh.CAPTURE))
    await runner.__aenter__()
    return _Shellous(runner)


class _Anyio(Handle):
    def __init__(self, process: Any) -> None:
        self._process = process
        self.pid = process.pid

    async def wait(self) -> None:
        await self._process.wait()

    async def read(self) -> None:
        await self._process.stdout.receive()

    async def stop_within(self, grace_s: float) -> None:
        import anyio

        self._process.terminate()
        with anyio.move_on_after(grace_s) as scope:
            await self._process.wait()
        if scope.cancelled_caught:
            self._process.kill()
            await self._process.wait()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def close(self) -> None:
        await self._process.aclose()


async def start_anyio(argv: Argv) -> Handle:
    import anyio

    return _Anyio(await anyio.open_process(argv, stdin=subprocess.DEVNULL))


class _Trio(Handle):
    def __init__(self, process: Any) -> None:
        self._process = process
        self.pid = process.pid

    async def wait(self) -> None:
        await self._process.wait()

    async def read(self) -> None:
        await self._process.stdout.receive_some()

    async def stop_within(self, grace_s: float) -> None:
        import trio

        self._process.terminate()
        with trio.move_on_after(grace_s) as scope:
            await self._process.wait()
        if scope.cancelled_caught:
            self._process.kill()
            await self._process.wait()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def close(self) -> None:
        await self._process.stdout.aclose()
        await self._process.stderr.aclose()


async def start_trio(argv: Argv) -> Handle:
    import trio

    open_process: Any = trio.lowlevel.open_process
    return _Trio(await open_process(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE))


class _Ours(Handle):
    def __init__(self, scope: Any, child: Any) -> None:
        self._scope = scope
        self._child = child
        self.pid = child.pid

    async def wait(self) -> None:
        await self._child.wait()

    async def read(self) -> None:
        await self._child.stdout.wait_for_line("")

    async def stop(self) -> None:
        await self._child.terminate()

    async def stop_within(self, grace_s: float) -> None:
        import procflow as pf

        await self._child.terminate(pf.Shutdown.sigterm(grace_s=grace_s))

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    async def close(self) -> None:
        await self._scope.__aexit__(None, None, None)

    async def leave(self) -> None:
        await self.close()


async def start_ours(argv: Argv) -> Handle:
    import procflow as pf

    scope = pf.spawn(pf.Command(*argv))
    return _Ours(scope, await scope.__aenter__())


OURS: Final = {
    "procflow on asyncio": Launcher(start=start_ours),
    "procflow on uvloop": Launcher(start=start_ours, backend="uvloop"),
    "procflow on trio": Launcher(start=start_ours, backend="trio"),
}

LOOPS: Final = {
    "asyncio, thread watcher": Launcher(start=start_asyncio, watcher="thread"),
    "asyncio, pidfd watcher": Launcher(start=start_asyncio, watcher="pidfd"),
    "uvloop": Launcher(start=start_asyncio, backend="uvloop"),
    "anyio on asyncio": Launcher(start=start_anyio),
    "anyio on trio": Launcher(start=start_anyio, backend="trio"),
    "trio": Launcher(start=start_trio, backend="trio"),
}

LAUNCHERS: Final = {
    "blocking Popen": Launcher(start=start_popen, is_blocking=True),
    **LOOPS,
    "shellous": Launcher(start=start_shellous),
    "sh": Launcher(start=start_sh, is_blocking=True),
    "plumbum": Launcher(start=start_plumbum, is_blocking=True),
    **OURS,
}
"""Everybody."""
