"""The leader of a tree: a child of ours that only we reap.

Owns the pid, the descriptor that tells of its exit, and the order *observe, then sweep, then reap*: the exit is observed
with ``WNOWAIT``, so the zombie holds pid and group number until ``reap()``.  Must not know policies or loops.

Rejected: asyncio's child watchers (one thread a child, or SIGCHLD, which is process-global), ``waitpid(-1)`` (takes the
children of others), an early reap (the group's number could be given out again before it is signalled).
Known hole: a host that ignores SIGCHLD, or reaps every child it finds, takes the status from us: then it is unknown.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

import anyio

from procflow._observers import emit
from procflow._process.signalling import send
from procflow.observation import Exited, Reaped
from procflow.outcome import ResourceUsage

FORCE_WAIT_THREAD_VARIABLE: Final = "PROCFLOW_NO_PIDFD"
"""Set to anything: exits are noticed by a thread a child, as on platforms without pidfds (Linux before 5.3)."""


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended; both ``None``: unknown."""

    exit_code: int | None
    signal: int | None
    core_dumped: bool = False


UNKNOWN_STATUS: Final = ExitStatus(None, None)


class LeaderPort(Protocol):
    """What the rest of the package may ask of a leader; fakes stand in for it."""

    @property
    def name(self) -> str:
        """What events call it."""
        ...

    @property
    def pid(self) -> int: ...
    @property
    def exit_fd(self) -> int:
        """Readable once the leader has exited."""
        ...

    @property
    def status(self) -> ExitStatus | None: ...
    @property
    def usage(self) -> ResourceUsage | None: ...
    @property
    def exit_seen_mono_s(self) -> float | None: ...
    @property
    def session_begun_mono_s(self) -> float | None:
        """A moment before its fork, if it leads a session of its own since its first instruction; otherwise ``None``."""
        ...

    @property
    def is_reaped(self) -> bool:
        """Whether its number no longer belongs to us."""
        ...

    @property
    def was_lost(self) -> bool:
        """Whether somebody else reaped it."""
        ...

    def held(self) -> AbstractContextManager[object]:
        """Return a block in which no other thread reaps it: its number, or its group's, may be signalled there."""
        ...

    def observe(self) -> bool:
        """Look, without waiting and without reaping, whether it has exited."""
        ...

    def signal(self, number: int) -> None:
        """Signal the leader alone; ``ProcessLookupError`` once it has exited."""
        ...

    def reap(self) -> bool:
        """Reap it if it has exited; return whether it is reaped now."""
        ...

    def close(self) -> None:
        """Close the descriptor; an unreaped leader is handed to ``reap_abandoned()``."""
        ...


class LeaderBook:
    """What is known of a leader, whoever its parent is."""

    def __init__(self, pid: int, *, name: str) -> None:
        self.name: Final = name
        self.pid: Final = pid
        self._started_mono_s = time.monotonic()
        # A detached leader is reaped by whichever thread spawns next, while its handle may still send signals.
        self._lock: Final = threading.RLock()
        self.status: ExitStatus | None = None
        self.usage: ResourceUsage | None = None
        self.exit_seen_mono_s: float | None = None
        self.session_begun_mono_s: float | None = None
        self.is_reaped = False
        self.was_lost = False

    def held(self) -> AbstractContextManager[object]:
        """Return a block in which no other thread reaps it."""
        return self._lock

    def _note_exit(self, status: ExitStatus, *, seen_mono_s: float | None = None) -> None:
        self.status = status
        self.exit_seen_mono_s = seen_s = time.monotonic() if seen_mono_s is None else seen_mono_s
        emit(
            Exited,
            name=self.name,
            pid=self.pid,
            exit_code=status.exit_code,
            signal=status.signal,
            core_dumped=status.core_dumped,
            lived_s=seen_s - self._started_mono_s,
        )

    def _note_reaped(self, *, lost: bool) -> None:
        self.is_reaped = True
        self.was_lost = lost
        emit(Reaped, name=self.name, pid=self.pid, usage=self.usage)


class Leader(LeaderBook):
    """A leader started by ``subprocess.Popen``."""

    def __init__(self, popen: subprocess.Popen[bytes], *, name: str, session_begun_mono_s: float | None = None) -> None:
        super().__init__(popen.pid, name=name)
        self.session_begun_mono_s = session_begun_mono_s
        self.exit_fd = _open_exit_fd(popen.pid)
        # Taken over, as the last step: a Popen object that knows a return code never reaps behind our back, nor warns.
        popen.returncode = 0

    def observe(self) -> bool:
        """Look whether it has exited; reaps nothing."""
        with self._lock:
            if self.status is not None:
                return True
            try:
                found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            except ChildProcessError:
                self._note_exit(UNKNOWN_STATUS)
                self._note_reaped(lost=True)
                return True
            if found is None:
                return False
            if found.si_code == os.CLD_EXITED:
                self._note_exit(ExitStatus(found.si_status, None))
            else:
                self._note_exit(ExitStatus(None, found.si_status, found.si_code == os.CLD_DUMPED))
            return True

    def signal(self, number: int) -> None:
        """Send ``number`` to the leader alone.

        Raises:
            ProcessLookupError: If it has exited.
            PermissionError: If it changed its user.
        """
        with self._lock:
            if self.observe():
                raise ProcessLookupError(f"{self.pid} has exited")
            # By number is safe here: the number is ours until we reap, and nobody does meanwhile.
            send(os.kill, self.pid, number, of=self, to="leader", receiver=self.pid)

    def reap(self) -> bool:
        """Reap it if it has exited, and keep what it used."""
        with self._lock:
            if self.is_reaped:
                return True
            try:
                pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            except ChildProcessError:
                if self.status is None:
                    self._note_exit(UNKNOWN_STATUS)
                self._note_reaped(lost=True)
                return True
            if pid == 0:
                return False
            unit = 1 if sys.platform == "darwin" else 1024
            self.usage = ResourceUsage(
                user_s=usage.ru_utime, system_s=usage.ru_stime, max_rss_bytes=usage.ru_maxrss * unit
            )
            if self.status is None:  # it exited since it was last observed
                code = os.waitstatus_to_exitcode(status)
                known = ExitStatus(code, None) if code >= 0 else ExitStatus(None, -code, os.WCOREDUMP(status))
                self._note_exit(known)
            self._note_reaped(lost=False)
            return True

    def close(self) -> None:
        """Close the exit descriptor; what is not yet reaped is reaped by a later ``reap_abandoned()``."""
        fd, self.exit_fd = self.exit_fd, -1
        if fd >= 0:
            with contextlib.suppress(RuntimeError):
                anyio.notify_closing(fd)
            os.close(fd)
        if not self.is_reaped:
            _abandoned.append(self)


_abandoned: Final[list[Leader]] = []


def reap_abandoned() -> None:
    """Reap leaders whose scope could not wait for them: detached ones, and those that outlived every signal."""
    if _abandoned:
        for leader in tuple(_abandoned):
            if leader.observe() and leader.reap():
                with contextlib.suppress(ValueError):  # another thread was here first
                    _abandoned.remove(leader)


def _open_exit_fd(pid: int) -> int:
    if hasattr(os, "pidfd_open") and FORCE_WAIT_THREAD_VARIABLE not in os.environ:
        with contextlib.suppress(OSError):  # too old a kernel, a sandbox, or no descriptor left
            return os.pidfd_open(pid)
    receive_end, send_end = os.pipe()
    thread = threading.Thread(target=_wait_in_thread, args=(pid, send_end), name=f"procflow-wait-{pid}", daemon=True)
    try:
        thread.start()
    except BaseException:
        os.close(receive_end)
        os.close(send_end)
        raise
    return receive_end


def _wait_in_thread(pid: int, send_end: int) -> None:
    """Make the other end of ``send_end`` readable (end of file) when ``pid`` has exited."""
    try:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    finally:
        os.close(send_end)
