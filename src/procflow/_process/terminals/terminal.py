"""The terminal of a child, seen from the host: its window, its modes, its input.

Owns what can be done to a terminal besides reading it.  Must not know how a process is started on it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
import termios
import tty
from typing import Final

import anyio

from procflow._process.stdio.stdin import InputPipe
from procflow._streams.reading.source import FdSource
from procflow.policies import Pty, require_window_side

IUTF8: Final = 0o40000
"""Linux: a key that erases, erases a whole character.  Python has no name for it."""

IFLAG: Final = 0
LFLAG: Final = 3
CC: Final = 6
"""Places in what ``tcgetattr()`` returns."""

FIRST_END_LOOK_S: Final = 0.02
LAST_END_LOOK_S: Final = 0.2
"""How often it is looked whether an end of input was lost."""

END_REPEATS: Final = 5
"""How often an end of input is repeated that may have been lost once."""

_LINE_ENDS: Final = b"\r\n"
_DISABLED: Final = b"\0"


class Terminal:
    """Our side of the terminal of one child, as far as it is neither read nor written."""

    def __init__(self, source: FdSource, child_side: int) -> None:
        """Take over ``child_side``; ``source`` owns the other one."""
        self._source = source
        self._end_repeats = 0  # how many there may still be
        self._child_side = child_side
        self.path: Final = os.ttyname(child_side)
        """What the child opens."""

    def __repr__(self) -> str:
        return f"<Terminal {self.path}>"

    def release(self) -> None:
        """Let the output end when nobody else has the child's side open; idempotent."""
        fd, self._child_side = self._child_side, -1
        if fd >= 0:
            os.close(fd)

    def resize(self, rows: int, cols: int) -> None:
        """Change the window; whoever is in the foreground gets SIGWINCH.  Nothing happens once the output has ended."""
        for name, side in (("rows", rows), ("cols", cols)):
            require_window_side(name, side)
        if self._source.fileno() >= 0:
            set_window(self._source.fileno(), rows, cols)

    def set_echo(self, *, on: bool) -> None:
        """Let the terminal repeat what is written to it, or not.  Nothing happens once the output has ended."""
        fd = self._source.fileno()
        if fd >= 0:
            with contextlib.suppress(termios.error):  # hung up meanwhile
                _set_echo(fd, on=on)

    async def repeat_end(self, pipe: TerminalInput) -> None:
        """Write the end-of-file character of ``pipe`` again where it was lost, until the child has exited.

        Problem: a terminal turns the character into an end when it arrives, in the mode of that moment.  A program that edits
        lines itself (readline) leaves that mode for its prompt and comes back to it for its work, and what arrived before a
        change is an ordinary NUL after it.  So once the program reads keys again, and has read everything, it gets one more,
        and a few after that, because the kernel passes on what is written some time later, maybe after one more change.
        """
        await pipe.ended.wait()
        self._end_repeats = END_REPEATS
        tick_s = FIRST_END_LOOK_S
        while self._child_side >= 0 and self._source.fileno() >= 0:
            with contextlib.suppress(OSError, termios.error):  # hung up, or full
                self._repeat_lost_end(self._source.fileno())
            await anyio.sleep(tick_s)
            tick_s = min(tick_s * 2, LAST_END_LOOK_S)

    def _repeat_lost_end(self, fd: int) -> None:
        modes = termios.tcgetattr(fd)
        if modes[LFLAG] & termios.ICANON:
            self._end_repeats = END_REPEATS
        elif self._end_repeats and _unread_bytes(self._child_side) == 0 and modes[CC][termios.VEOF] != _DISABLED:
            self._end_repeats -= 1
            os.write(fd, modes[CC][termios.VEOF])


class TerminalInput(InputPipe):
    """What the child reads from its terminal.

    A terminal cannot be closed for its reader alone.  Closing writes its end-of-file character (Ctrl-D): twice after an
    unfinished line, which the first one only hands over.  It never waits, so nothing is written if the child leaves so
    much unread that the terminal takes no more.  A terminal that was made raw has no such character.
    """

    def __init__(self, fd: int, *, is_raw: bool) -> None:
        super().__init__(fd)
        self._has_end = not is_raw
        self._is_mid_line = False
        self.ended: Final = anyio.Event()
        """Set when our end was closed."""

    def write_nowait(self, view: memoryview) -> int:
        """Write what fits now and return how much that was; raises like ``write_all()``."""
        try:
            written = super().write_nowait(view)
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            self.note_cut()
            raise anyio.BrokenResourceError from exc
        if written:
            self._is_mid_line = view[written - 1] not in _LINE_ENDS
        elif self._is_hung_up():
            # Full and gone: Linux reports EAGAIN here, not EIO, and that for ever.
            self.note_cut()
            raise anyio.BrokenResourceError
        return written

    def _is_hung_up(self) -> bool:
        poller = select.poll()
        poller.register(self._fd, 0)
        return bool(poller.poll(0))  # hang-ups and errors are always told

    def close(self) -> None:
        """Write the end-of-file character, then close our end."""
        if not self.is_closed and self._has_end:
            with contextlib.suppress(OSError, termios.error):  # hung up, or full
                self._write_end()
            with contextlib.suppress(RuntimeError):  # the loop is gone
                self.ended.set()
        super().close()

    def _write_end(self) -> None:
        modes = termios.tcgetattr(self._fd)
        end = modes[CC][termios.VEOF]
        if end != _DISABLED:
            is_canonical = bool(modes[LFLAG] & termios.ICANON)
            os.write(self._fd, end * 2 if is_canonical and self._is_mid_line else end)


def _unread_bytes(child_side: int) -> int:
    count = struct.unpack("i", fcntl.ioctl(child_side, termios.FIONREAD, bytes(4)))[0]
    return int(count)


def set_window(fd: int, rows: int, cols: int) -> None:
    """Set the size of the window of the terminal behind ``fd``."""
    with contextlib.suppress(OSError):  # hung up meanwhile
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def set_modes(fd: int, pty: Pty) -> None:
    """Set the modes that ``pty`` asks for."""
    if pty.raw:
        tty.setraw(fd, termios.TCSANOW)
    else:
        modes = termios.tcgetattr(fd)
        modes[IFLAG] |= IUTF8
        termios.tcsetattr(fd, termios.TCSANOW, modes)
        _set_echo(fd, on=pty.echo)


def _set_echo(fd: int, *, on: bool) -> None:
    modes = termios.tcgetattr(fd)
    modes[LFLAG] = modes[LFLAG] | termios.ECHO if on else modes[LFLAG] & ~termios.ECHO
    termios.tcsetattr(fd, termios.TCSANOW, modes)
