"""One fake process: a leader whose pid belongs to nobody, and whose pipes are real.

Owns its descriptors, its exit, and the carrying out of its script.  Must not know which command it stands for.

Problem: what reads the outputs of a process, feeds it and watches its exit is to be the real code, so only the far end is
fake.  Everything that the kernel does at once happens at once here too: a fatal signal ends the process, closes its
pipes and makes its exit visible before ``signal()`` returns.  So nothing is in flight that virtual time could jump over.
As with a real one, its exit is known, and told, only when somebody looks: after the signal that caused it was told.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal as _signal
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, assert_never

import anyio
import anyio.abc
from anyio.lowlevel import checkpoint

from procflow._containment.port import Member
from procflow._process.leader import ExitStatus, LeaderBook
from procflow._process.signalling import send
from procflow.outcome import ResourceUsage
from procflow.testing.scripts import (
    IGNORED_BY_DEFAULT,
    STOPPING,
    CloseOutputs,
    End,
    Expect,
    LeaveBehind,
    Pause,
    Print,
    Reaction,
    Read,
    Script,
    Stay,
    Step,
)

WRITE_BYTES: Final = 4096
"""A pipe that is writable takes this much without blocking (PIPE_BUF, pipe(7))."""

TERMINAL_WRITE_BYTES: Final = 256

Place: TypeAlias = Literal["stdin", "stdout", "stderr"]


@dataclass(eq=False, slots=True, kw_only=True)
class Call:
    """One start that was asked of a ``FakeSpawner``.  Its ``repr`` shows neither arguments nor environment nor input.

    Attributes:
        program: The program as it was given.
        arguments: Everything after the program.
        cwd: Its working directory; ``None``: the host's.
        environment: Its whole environment; ``None``: the host's.
        pid: The number it was given, above every real one; ``None`` if its start failed.
        stdin: What it has read.
        signals: The signals that were sent to it, in order, as far as it was alive.
        exit_code: What it exited with; ``None`` while it runs, and if a signal ended it.
        signal: What ended it, if a signal did.
    """

    program: str
    arguments: tuple[str, ...] = field(repr=False)
    cwd: str | None
    environment: dict[str, str] | None = field(repr=False)
    pid: int | None = None
    stdin: bytearray = field(default_factory=bytearray, repr=False)
    signals: list[int] = field(default_factory=list)
    exit_code: int | None = None
    signal: int | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.pid is not None and self.exit_code is None and self.signal is None


class FakeProcess(LeaderBook):
    """A ``LeaderPort`` whose life is a script; also a member that a leader left behind.

    Args:
        pid: Its number.
        name: What events call it; of one that was left behind nothing is told.
        fds: Its descriptors, which it closes.
        tasks: Runs its script.
        leave_behind: Starts another member of its group.
        complain: Told what was not as the script expects it.
    """

    def __init__(
        self,
        pid: int,
        script: Script,
        call: Call,
        fds: dict[Place, int],
        *,
        name: str,
        tasks: anyio.abc.TaskGroup,
        leave_behind: Callable[[FakeProcess, LeaveBehind], object],
        complain: Callable[[str], object],
    ) -> None:
        super().__init__(pid, name=name)
        self.exit_fd, self._exit_end = os.pipe()
        self._script = script
        self._call = call
        self._fds = fds
        self._tasks = tasks
        self._leave_behind = leave_behind
        self._complain = complain
        self._scope = anyio.CancelScope()
        self._ended: tuple[ExitStatus, float] | None = None  # and when
        self._complete_bytes: int | None = None  # after so much, no more input may come
        self._is_answering = False
        self._continued: anyio.Event | None = None  # while it is stopped
        self._pending: list[int] = []
        self._started_s = anyio.current_time()
        tasks.start_soon(self._run, name=f"fake {os.path.basename(call.program)}")

    def __repr__(self) -> str:
        return f"<FakeProcess {self._call.program!r}, pid {self.pid}, {'running' if self.is_alive else 'ended'}>"

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._ended is None

    @property
    def as_member(self) -> Member:
        """What a look into the process table would show."""
        state = "D" if self._script.is_unkillable else "S" if self._continued is None else "T"
        return Member(pid=self.pid, name=os.path.basename(self._call.program)[:15], state=state)

    # --- what the host may ask --------------------------------------------------------------------------------------

    def observe(self) -> bool:
        """Look whether it has ended."""
        if self.status is None and self._ended is not None:
            status, seen_mono_s = self._ended
            self._note_exit(status, seen_mono_s=seen_mono_s)
        return self.status is not None

    def signal(self, number: int) -> None:
        """Send it a signal, which has had its effect when this returns, unless the script delays it.

        Raises:
            ProcessLookupError: If it has ended.
        """
        if self.observe():
            raise ProcessLookupError(f"{self.pid} has exited")
        send(lambda _pid, sent: self.take(sent), self.pid, number, of=self, to="leader", receiver=self.pid)

    def take(self, number: int) -> None:
        """Be sent a signal, by whatever way; too late is without an effect."""
        if not self.is_alive:
            return
        if number:
            self._call.signals.append(number)
        if not number or self._script.is_unkillable:
            return
        if number == _signal.SIGKILL:
            self.end(End(signal=number))
        elif number in STOPPING and number not in self._script.reactions:
            self._continued = self._continued or anyio.Event()
        elif number == _signal.SIGCONT:
            self._resume()
        elif self._continued is not None:
            self._pending.append(number)
        else:
            self._act(number)

    def reap(self) -> bool:
        """Reap it if it has ended."""
        if self.observe() and not self.is_reaped:
            self.usage = ResourceUsage(user_s=0.0, system_s=0.0, max_rss_bytes=0)
            self._note_reaped(lost=False)
        return self.is_reaped

    def close(self) -> None:
        """Close the descriptor that tells of its exit."""
        fd, self.exit_fd = self.exit_fd, -1
        _close(fd)

    # --- its end ----------------------------------------------------------------------------------------------------

    def end(self, how: End) -> None:
        """End it now; does nothing if it has ended."""
        if not self.is_alive:
            return
        self._ended = ExitStatus(how.exit_code, how.signal), self._mono_s()
        self._call.exit_code, self._call.signal = how.exit_code, how.signal
        if self._complete_bytes is not None and _has_unread(self._fds.get("stdin", -1)):
            self._complain(
                f"{self._call.program}: its input goes on after the {self._complete_bytes} bytes that were expected"
            )
        for place in tuple(self._fds):
            self._close(place)
        fd, self._exit_end = self._exit_end, -1
        _close(fd)
        with contextlib.suppress(RuntimeError):  # by the garbage collector, with no loop left
            self._scope.cancel()

    def _mono_s(self) -> float:
        """Return the moment on ``time.monotonic()``, as if that went as fast as the event loop's clock does."""
        try:
            return self._started_mono_s + anyio.current_time() - self._started_s
        except anyio.NoEventLoopError:
            return time.monotonic()

    def _act(self, number: int) -> None:
        reaction = self._script.reactions.get(number)
        if reaction is None:
            if number not in IGNORED_BY_DEFAULT:
                self.end(End(signal=number))
        elif reaction.end is not None and not self._is_answering:
            self._is_answering = True
            self._scope.cancel()
            self._tasks.start_soon(self._answer, reaction, reaction.end, name=f"fake answer of {self.pid}")

    def _resume(self) -> None:
        if self._continued is not None:
            self._continued.set()
            self._continued = None
        pending, self._pending = self._pending, []
        for number in (*pending, _signal.SIGCONT):
            if self.is_alive:
                self._act(number)

    async def _answer(self, reaction: Reaction, end: End) -> None:
        self._scope = anyio.CancelScope()
        with self._scope, contextlib.suppress(anyio.ClosedResourceError, BrokenPipeError):
            await anyio.sleep(reaction.after_s)
            await self._write("stdout", reaction.printed)
        await self._while_stopped()
        self.end(end)

    # --- its script -------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        if not self.is_alive:
            return
        with self._scope, contextlib.suppress(anyio.ClosedResourceError):
            for step in self._script.steps:
                await self._while_stopped()
                await self._do(step)
                if self._ended is not None:
                    return
            await checkpoint()
            self.end(End(exit_code=0))

    async def _while_stopped(self) -> None:
        while self._continued is not None:
            await self._continued.wait()

    async def _do(self, step: Step) -> None:
        match step:
            case Pause(seconds):
                await anyio.sleep(seconds)
            case Print(data, to):
                await self._print(to, data)
            case CloseOutputs():
                self._close("stdout")
                self._close("stderr")
            case Read(is_echo):
                while data := await self._read(65536):
                    if is_echo:
                        await self._print("stdout", data)
            case Expect():
                await self._expect(step)
            case LeaveBehind():
                self._leave_behind(self, step)
            case Stay():
                await anyio.sleep_forever()
            case End():
                self.end(step)
            case _:
                assert_never(step)

    async def _print(self, to: Place, data: bytes) -> None:
        try:
            await self._write(to, data)
        except BrokenPipeError:
            self._act(_signal.SIGPIPE)

    async def _expect(self, step: Expect) -> None:
        wanted, found = step.data, b""
        while len(found) < len(wanted) and (data := await self._read(len(wanted) - len(found))):
            found += data
        if found != wanted:
            pairs = enumerate(zip(found, wanted, strict=False))
            same = next((index for index, (is_, should) in pairs if is_ != should), len(found))
            what = "ended" if same == len(found) else "differs"
            self._complain(
                f"{self._call.program}: its input {what} after {same} bytes of {len(wanted)} that were expected"
            )
            self.end(End(exit_code=1))
        elif step is self._script.last_reading and not step.allows_more:
            self._complete_bytes = len(self._call.stdin)

    async def _write(self, to: Place, data: bytes) -> None:
        fd = self._fds.get(to, -1)
        piece_bytes = TERMINAL_WRITE_BYTES if fd >= 0 and os.isatty(fd) else WRITE_BYTES
        for start in range(0, len(data), piece_bytes):
            piece = data[start : start + piece_bytes]
            while piece:
                if not await self._wait_ready(to, select.POLLOUT):
                    return
                piece = piece[os.write(self._fds[to], piece) :]

    async def _read(self, max_bytes: int) -> bytes:
        if not await self._wait_ready("stdin", select.POLLIN):
            return b""
        try:
            data = os.read(self._fds["stdin"], max_bytes)
        except OSError:  # a terminal whose other end is gone
            return b""
        self._call.stdin += data
        return data

    async def _wait_ready(self, place: Place, event: int) -> bool:
        """Wait until it can be read or written without blocking; return whether it is still open."""
        while (fd := self._fds.get(place, -1)) >= 0:
            poller = select.poll()
            poller.register(fd, event)
            if poller.poll(0):  # files and devices always are, and no event loop would watch them
                await checkpoint()
            elif event == select.POLLIN:
                await anyio.wait_readable(fd)
            else:
                await anyio.wait_writable(fd)
            await self._while_stopped()
            if self._fds.get(place) == fd and poller.poll(0):
                return True
        return False

    def duplicate_outputs(self) -> dict[Place, int]:
        """Return descriptors for one that is left behind."""
        places: tuple[Place, ...] = ("stdout", "stderr")
        return {place: os.dup(self._fds[place]) for place in places if place in self._fds}

    def _close(self, place: Place) -> None:
        _close(self._fds.pop(place, -1))


def _has_unread(fd: int) -> bool:
    """Whether something can be read; takes nothing, because what is inherited is the host's own."""
    count = bytearray(4)
    with contextlib.suppress(OSError):  # closed, or of a kind that cannot tell
        fcntl.ioctl(fd, termios.FIONREAD, count)
    return any(count)


def _close(fd: int) -> None:
    if fd >= 0:
        with contextlib.suppress(RuntimeError):
            anyio.notify_closing(fd)
        os.close(fd)
