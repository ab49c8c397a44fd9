"""Starting one process: the spawner port and the spawner that uses ``subprocess.Popen``.

Owns the way from a request to a leader.  Must not know streams, policies or loops.

Problem: a fork of a large host blocks its loop (46 ms for each resident GB).  ``Popen`` uses ``vfork`` for a new session or group,
``cwd``, ``umask``, ``pass_fds`` and ``close_fds``; it falls back to fork for ``preexec_fn``, ``user``, ``group`` and
``extra_groups``, so none of these is ever passed.  Rejected: uvloop's spawn (forks), asyncio's transports (``wait()`` waits
for the pipes), ``posix_spawn`` (knows no cwd and cannot close descriptors).
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, assert_never

from procflow._process.leader import Leader, LeaderPort, reap_abandoned
from procflow._process.near_name import near_program
from procflow.errors import SpawnError

GroupChoice: TypeAlias = Literal["own session", "own group"] | int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnRequest:
    """Everything a spawner needs.  Descriptors belong to the caller.

    ``None`` means inherited, for descriptors and for the environment.

    Attributes:
        name: What events call the process.
        group: Whether it leads a session of its own, or a group of its own in the session of the host, or joins the group of
            that number there, whose leader must be a child of the host that was not reaped.
        terminal: Path of a terminal that all three descriptors lead to and that becomes its controlling terminal, for which
            it must lead a session.
    """

    name: str
    program: str | bytes
    arguments: tuple[str | bytes, ...] = field(repr=False)
    cwd: str | bytes | None
    environment: Mapping[bytes, bytes] | None = field(repr=False)
    umask: int | None
    pass_fds: tuple[int, ...]
    stdin: int | None
    stdout: int | None
    stderr: int | None
    group: GroupChoice = "own session"
    terminal: str | None = None


class Spawner(Protocol):
    """What starts processes: the operating system, or a fake."""

    def spawn(self, request: SpawnRequest) -> LeaderPort:
        """Start a process in the session and group that it asks for; synchronous and atomic.

        Raises:
            SpawnError: If it cannot be started; then nothing is left behind.
        """
        ...


class PopenSpawner:
    """Starts real processes."""

    def spawn(self, request: SpawnRequest) -> Leader:
        """Start a process on CPython's vfork path."""
        reap_abandoned()
        # Made apart from its start: a handler that raises in the middle of it must not take the only reference along.
        popen = subprocess.Popen.__new__(subprocess.Popen)
        begun_mono_s = time.monotonic() if request.group == "own session" else None
        try:
            _start(popen, request)
            return Leader(popen, name=request.name, session_begun_mono_s=begun_mono_s)
        except _CannotStart as exc:
            popen.returncode = 0  # it was reaped, if not by us
            raise spawn_error(request, exc.error) from exc.error
        except BaseException as exc:  # nobody would watch it: it must not run
            _end(popen, request)
            if isinstance(exc, (OSError, RuntimeError)):
                raise SpawnError(
                    program=os.fsdecode(request.program),
                    reason=f"its exit cannot be watched: {exc}",
                    errno=exc.errno if isinstance(exc, OSError) else None,
                ) from exc
            raise


class _CannotStart(Exception):  # noqa: N818 (never leaves this module)
    """``Popen`` has failed, and has reaped what it forked."""

    def __init__(self, error: OSError) -> None:
        self.error = error


def _start(popen: subprocess.Popen[bytes], request: SpawnRequest) -> None:
    try:
        if request.terminal is not None:
            from procflow._process.terminals.on_terminal import start_on_terminal  # needs ctypes

            popen.pid = start_on_terminal(
                request.terminal,
                (request.program, *request.arguments),
                cwd=request.cwd,
                environment=request.environment,
                pass_fds=request.pass_fds,
            )
            return
        popen.__init__(  # type: ignore[misc]  # started here
            [request.program, *request.arguments],
            bufsize=0,
            close_fds=True,
            start_new_session=request.group == "own session",
            process_group=_process_group(request.group),
            stdin=request.stdin,
            stdout=request.stdout,
            stderr=request.stderr,
            cwd=request.cwd,
            env=request.environment,
            umask=-1 if request.umask is None else request.umask,
            pass_fds=request.pass_fds,
        )
    except OSError as exc:
        raise _CannotStart(exc) from exc


def _process_group(choice: GroupChoice) -> int | None:
    """Return what ``Popen`` takes for ``choice``: 0 makes a group, ``None`` leaves it to the session."""
    match choice:
        case "own session":
            return None
        case "own group":
            return 0
        case int():
            return choice
    assert_never(choice)


def _end(popen: subprocess.Popen[bytes], request: SpawnRequest) -> None:
    """Kill and reap what a torn start has left."""
    if popen.returncode is not None:
        return
    pid: int | None = getattr(popen, "pid", None)
    if pid is None:
        pid = _child_with_pipes_of(request)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        popen.returncode = 0


def _child_with_pipes_of(request: SpawnRequest) -> int | None:
    """Return the child of this thread that holds an end of the pipes that were made for it.

    A signal handler that raises right after the fork leaves no other trace of its number.  Known hole: a child without
    any pipe of ours is not found.
    """
    ends = enumerate((request.stdin, request.stdout, request.stderr))
    pipes = {number: os.fstat(fd) for number, fd in ends if fd is not None and fd >= 0}
    with contextlib.suppress(OSError), open(f"/proc/self/task/{threading.get_native_id()}/children", "rb") as file:
        for pid in reversed(file.read().split()):
            for number, pipe in pipes.items():
                with contextlib.suppress(OSError):
                    if os.path.samestat(os.stat(f"/proc/{int(pid)}/fd/{number}"), pipe):
                        return int(pid)
    return None


def spawn_error(request: SpawnRequest, exc: OSError) -> SpawnError:
    """Return the error that says why the system refused ``request``, with what may have been meant."""
    program = os.fsdecode(request.program)
    cwd = None if request.cwd is None else os.fsdecode(request.cwd)
    reason = exc.strerror or type(exc).__name__
    suggestion = None
    if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES) and cwd is not None and not os.path.isdir(cwd):
        reason = f"the working directory cannot be used: {reason}"
    elif exc.errno == errno.EBADF and (closed := _closed_descriptor(request)) is not None:
        reason = f"{closed} is not open"
    elif exc.errno == errno.ENOENT and "/" not in program:
        environment = os.environb if request.environment is None else request.environment
        suggestion = near_program(program, os.fsdecode(environment.get(b"PATH", os.fsencode(os.defpath))))
    elif exc.errno == errno.ENOENT and os.path.exists(program):
        reason = f"{reason} (the interpreter that its first line names, or its loader)"
    return SpawnError(program=program, reason=reason, cwd=cwd, suggestion=suggestion, errno=exc.errno)


def _closed_descriptor(request: SpawnRequest) -> str | None:
    """Return which of the descriptors that the child was to be given is none, in words."""
    standard = zip(("stdin", "stdout", "stderr"), (request.stdin, request.stdout, request.stderr), strict=True)
    for what, fd in (*standard, *(("pass_fds", fd) for fd in request.pass_fds)):
        if fd is not None and fd >= 0:
            try:
                os.fstat(fd)
            except OSError:
                return f"descriptor {fd} ({what})"
    return None
