"""The host's own terminal, lent to a child: for what asks a person (ssh, sudo).

Owns who is in the foreground of the terminal, and the way back.  Must not know how a process is started or watched.

A program that asks for a password opens ``/dev/tty`` and reads it.  It can, if it is in a session that has a terminal and
its group is the terminal's foreground group; every other group is stopped by the attempt.  So the child gets a group in
the session of the host, that group is made the foreground group, and the host's is made it again when the child has
exited.  To do that from the background raises SIGTTOU, which is masked in the calling thread for the moment of the call.

What cannot be done: a host that is ended by SIGKILL gives nothing back; its shell takes the terminal then, as after every
job.  A child between its first step and the call that makes it the foreground group may have been stopped for reading too
early, so everybody is continued after the call.
"""

from __future__ import annotations

import contextlib
import os
import signal as _signal
import termios
import threading
from collections.abc import Iterator
from typing import Final

from procflow._process.leader import LeaderPort
from procflow.errors import PlatformError, UsageError

TERMINAL_PATH: Final = "/dev/tty"

LENT_SESSION: Final = "a session of its own: it was lent the terminal, which belongs to the host's session"

TERMINAL_STOPS: Final = frozenset({_signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU})
"""What a terminal stops processes with.  SIGSTOP is left alone: somebody meant it."""


class LentTerminal:
    """The controlling terminal of the host, for one child at a time."""

    _lock: Final = threading.Lock()

    def __init__(self) -> None:
        """Reserve the terminal.

        Raises:
            PlatformError: If there is none, or this process is in its background.
            UsageError: If another child has it.
        """
        if not self._lock.acquire(blocking=False):
            raise UsageError("another child has the terminal: terminal='shared' is for one at a time")
        self._fd = -1
        try:
            self._fd = _open_terminal()
            self._group = os.tcgetpgrp(self._fd)
            if self._group != os.getpgrp():
                raise PlatformError(
                    "terminal='shared' needs to be in the foreground of the terminal, and this process was put into its background"
                )
            self._modes = termios.tcgetattr(self._fd)
        except BaseException:
            self._release()
            raise

    def __repr__(self) -> str:
        return f"<LentTerminal, {'given back' if self._fd < 0 else 'lent'}>"

    def hand_over(self, group: int) -> None:
        """Make ``group`` the foreground group.  Continue it afterwards."""
        with contextlib.suppress(OSError, termios.error):  # the terminal was hung up, or the child is gone already
            os.tcsetpgrp(self._fd, group)

    def take_back(self, *, restores_modes: bool) -> None:
        """Make the host's group the foreground group again; idempotent.

        With ``restores_modes`` also undo what a child that could not clean up has left, such as an echo that is off.
        """
        if self._fd < 0:
            return
        try:
            with _background_writes_allowed():
                # Each by itself: a terminal that was hung up refuses both.
                with contextlib.suppress(OSError, termios.error):
                    os.tcsetpgrp(self._fd, self._group)
                if restores_modes:
                    with contextlib.suppress(OSError, termios.error):
                        termios.tcsetattr(self._fd, termios.TCSANOW, self._modes)
        finally:
            self._release()

    def _release(self) -> None:
        fd, self._fd = self._fd, -1
        try:
            if fd >= 0:
                os.close(fd)
        finally:
            self._lock.release()


def was_stopped_by_terminal(leader: LeaderPort) -> bool:
    """Whether a child is stopped because of a key (Ctrl-Z), or for using its terminal too early."""
    with leader.held():
        if leader.is_reaped:
            return False
        try:
            found = os.waitid(os.P_PID, leader.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
    return found is not None and found.si_status in TERMINAL_STOPS


def _open_terminal() -> int:
    try:
        return os.open(TERMINAL_PATH, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as exc:
        raise PlatformError("terminal='shared' needs a terminal, and this process has none") from exc


@contextlib.contextmanager
def _background_writes_allowed() -> Iterator[None]:
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGTTOU})
    try:
        yield
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
