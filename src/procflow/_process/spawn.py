"""Starting one process: the spawner port and the spawner that uses ``subprocess.Popen``.

Owns the way from a request to a leader.  Must not know streams, policies or loops.

Problem: a fork of a large host blocks its loop (46 ms for each resident GB).  ``Popen`` uses ``vfork`` for a new session,
``cwd``, ``umask``, ``pass_fds`` and ``close_fds``; it falls back to fork for ``preexec_fn``, ``user``, ``group`` and
``extra_groups``, so none of these is ever passed.  Rejected: uvloop's spawn (forks), asyncio's transports (``wait()`` waits
for the pipes), ``posix_spawn`` (knows no cwd and cannot close descriptors).
"""

from __future__ import annotations

import difflib
import errno
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from procflow._process import trace
from procflow._process.leader import Leader, LeaderPort, reap_abandoned
from procflow.errors import SpawnError

NEAR_ENOUGH: Final = 0.75
"""How alike (``difflib`` ratio) a name on PATH must be to be suggested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnRequest:
    """Everything a spawner needs.  Descriptors belong to the caller; ``None`` means inherited."""

    program: str | bytes
    arguments: tuple[str | bytes, ...]
    cwd: str | bytes | None
    environment: Mapping[str, str]
    umask: int | None
    pass_fds: tuple[int, ...]
    stdin: int | None
    stdout: int | None
    stderr: int | None


class Spawner(Protocol):
    """What starts processes: the operating system, or a fake."""

    def spawn(self, request: SpawnRequest) -> LeaderPort:
        """Start a process in a session and group of its own; synchronous and atomic.

        Raises:
            SpawnError: If it cannot be started; then nothing is left behind.
        """
        ...


class PopenSpawner:
    """Starts real processes."""

    def spawn(self, request: SpawnRequest) -> Leader:
        """Start a process on CPython's vfork path."""
        reap_abandoned()
        try:
            popen = subprocess.Popen(
                [request.program, *request.arguments],
                bufsize=0,
                close_fds=True,
                start_new_session=True,
                stdin=request.stdin,
                stdout=request.stdout,
                stderr=request.stderr,
                cwd=request.cwd,
                env=request.environment,
                umask=-1 if request.umask is None else request.umask,
                pass_fds=request.pass_fds,
            )
        except OSError as exc:
            raise _spawn_error(request, exc) from exc
        trace.emit("spawned", popen.pid)
        try:
            return Leader(popen)
        except BaseException as exc:  # no descriptor or thread left for its exit: it must not run unwatched
            popen.kill()
            popen.wait()
            if isinstance(exc, (OSError, RuntimeError)):
                raise SpawnError(
                    program=os.fsdecode(request.program),
                    reason=f"its exit cannot be watched: {exc}",
                    errno=exc.errno if isinstance(exc, OSError) else None,
                ) from exc
            raise


def _spawn_error(request: SpawnRequest, exc: OSError) -> SpawnError:
    program = os.fsdecode(request.program)
    cwd = None if request.cwd is None else os.fsdecode(request.cwd)
    reason = exc.strerror or type(exc).__name__
    suggestion = None
    if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES) and cwd is not None and not os.path.isdir(cwd):
        reason = f"the working directory cannot be used: {reason}"
    elif exc.errno == errno.ENOENT and "/" not in program:
        suggestion = _near_name(program, request.environment.get("PATH", os.defpath))
    elif exc.errno == errno.ENOENT and os.path.exists(program):
        reason = f"{reason} (the interpreter that its first line names, or its loader)"
    return SpawnError(program=program, reason=reason, cwd=cwd, suggestion=suggestion, errno=exc.errno)


def _near_name(program: str, path: str) -> str | None:
    names: set[str] = set()
    for folder in path.split(os.pathsep):
        try:
            names.update(os.listdir(folder or os.curdir))
        except OSError:
            continue
    near = difflib.get_close_matches(program, names, n=3, cutoff=NEAR_ENOUGH)
    folders = [folder for folder in path.split(os.pathsep) if folder]
    return next((name for name in near if any(os.access(os.path.join(f, name), os.X_OK) for f in folders)), None)
