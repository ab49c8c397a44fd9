"""The host's side of one nanny: the channel to it.

Owns what is said to a nanny.  Must not know policies, streams, who asks, or where nannies come from; the program at the other
end, and the protocol, are in ``helpers/nanny.py``.

Problem: only the parent of a process that is a child subreaper hears of every orphan below it, and the host must not be one:
it would get the orphans of everybody, and of all trees at once.  So each tree has a nanny of its own.
Rejected: one nanny for all trees (an orphan with an emptied environment belongs to nobody any more), PDEATHSIG (reaches the child
alone, and fires when a thread ends), a PID namespace (needs privileges, and an init in it).
"""

from __future__ import annotations

import array
import contextlib
import errno
import marshal
import os
import select
import signal as _signal
import socket
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import anyio

HELLO_S: Final = 10.0
"""How long a nanny may take to answer for the first time, the start of the template included."""

HELLO_LOOK_S: Final = 0.1
"""How often it is looked at the clock meanwhile: the real one, since an interpreter does not start in virtual time."""

ANSWER_S: Final = 5.0
"""How long a nanny may take to start a program; the thread waits for it."""

GONE_S: Final = 1.0
"""How long a nanny may take to say that she lets go."""

FIRST_POLL_S: Final = 0.0005
LAST_POLL_S: Final = 0.02

MOST_DESCRIPTORS: Final = 240
"""How many a child can be given: what the kernel passes through a socket at once, less our own."""

PACKET_BYTES: Final = 65536

FIELDS_BYTES: Final = 32768
"""What of a start fits into a packet; what is longer goes as a file."""

GONE: Final = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN})
"""What a channel answers when nobody is at its other end."""


class NannyLostError(Exception):
    """A nanny does not answer; never leaves this package."""


class StepError(OSError):
    """A nanny could not start a child."""

    step: str = ""
    """What could not be done, as it follows on "it cannot"."""


class Origin(Protocol):
    """What a nanny was forked from, and what ends her tree if she is killed."""

    @property
    def is_gone(self) -> bool:
        """Whether it has ended."""
        ...


class Nanny:
    """The channel to one nanny.  Sending is synchronous and never waits; any thread may do it."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self.pid = 0
        self.cgroup = ""
        """Path of the cgroup of its tree, if it has one."""
        self.leaders: set[int] = set()
        """Pids of leaders that it keeps until they are given up."""
        self.given_up: set[int] = set()
        """Pids of leaders that were given up, whose zombies it may not have reaped yet."""
        self.take_back: Callable[[Nanny], bool] | None = None
        """Called when its tree has ended; returns whether it takes the nanny over, for the next tree, with ``rest()``."""
        self.origin: Origin | None = None
        self.is_lost = False
        self.was_to_let_go = False
        self.has_let_go = False
        self._is_closed = False
        self._owes_answer = False  # to a start that nobody waits for any more
        self._host_pid: Final = os.getpid()

    def __repr__(self) -> str:
        return f"<Nanny {self.pid}, {'lost' if self.is_lost else f'{len(self.leaders)} leaders'}>"

    def look(self) -> bool:
        """Look whether it is there for us; reads nothing.  After ``close()`` its number is not ours to know."""
        if not (self.is_lost or self._is_closed):
            try:
                self.is_lost = not self._channel.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                pass
            except OSError:
                self.is_lost = True
        return not (self.is_lost or self._is_closed)

    async def wait_hello(self, limit_s: float = HELLO_S) -> None:
        """Wait until it is there.

        Args:
            limit_s: How long it may take.

        Raises:
            NannyLostError: If it will not be, or not in time.
        """
        deadline_mono_s = time.monotonic() + limit_s
        while (words := self._receive()) is None:
            if time.monotonic() >= deadline_mono_s:
                raise NannyLostError(f"no answer in {limit_s:g} s")
            with anyio.move_on_after(HELLO_LOOK_S):
                await anyio.wait_readable(self._channel)
        _, self.pid, self.cgroup = words

    def spawn(self, fields: dict[str, object], fds: list[int]) -> int:
        """Have it start a child; return its pid.  Blocks the thread for the start, as a start of our own would.

        Args:
            fields: What to start.
            fds: The working directory, the writing end of the report pipe, and what the child gets.

        Raises:
            OSError: If the child cannot be started; ``step`` says at what that failed.
            NannyLostError: If the nanny is gone.
        """
        payload = marshal.dumps(fields)
        self._owes_answer = True
        if len(payload) <= FIELDS_BYTES:
            self._send("spawn", payload, fds=fds)
        else:
            self._send_file(payload, fds)
        return self._wait_started()

    def kill(self) -> None:
        """Have it kill the whole tree; does not wait for that."""
        self._tell("kill")

    def reap(self, pid: int) -> None:
        """Have it reap an exited leader."""
        self.leaders.discard(pid)
        self.given_up.add(pid)
        self._tell("reap", pid)

    async def let_go(self) -> None:
        """Have it kill nobody any more; returns once it has said that it will not.

        Raises:
            NannyLostError: If it is gone: then the tree is gone too, or soon will be; or if it does not answer within a second.
        """
        self.was_to_let_go = True
        self._send("let go")
        # Polled: of two who ask, either may read the answer, and a descriptor has one waiter.
        deadline_mono_s = time.monotonic() + GONE_S
        pause_s = FIRST_POLL_S
        while not (self.has_let_go or self._receive() is not None):
            if time.monotonic() >= deadline_mono_s:
                raise NannyLostError(f"the nanny {self.pid} has not answered for {GONE_S:g} s")
            await anyio.sleep(pause_s)
            pause_s = min(pause_s * 2, LAST_POLL_S)
        self.has_let_go = True

    def rest(self) -> int:
        """Have it wait for the next tree, if nothing is left of this one; return the channel, on which it says hello again."""
        self._tell("rest")
        return self._channel.detach()

    def close(self) -> None:
        """Leave it alone: it ends what is left, unless it was to let go, and then itself.  Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        with contextlib.suppress(RuntimeError):
            anyio.notify_closing(self._channel)
        if os.getpid() != self._host_pid:  # a copy of the host: she is not its nanny
            self._channel.close()
            return
        is_free = not (self.leaders or self.is_lost or self.was_to_let_go or self._owes_answer)
        if not (is_free and self.take_back is not None and self.take_back(self)):
            self._tell("close")  # said, because a forked copy of the host may hold the channel open
            self._channel.close()

    def _send_file(self, payload: bytes, fds: list[int]) -> None:
        fd = os.memfd_create("procflow-spawn", os.MFD_CLOEXEC)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(payload)
            self._send("spawn", None, fds=[fd, *fds])
        finally:
            os.close(fd)

    def _wait_started(self) -> int:
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        if not poller.poll(ANSWER_S * 1000):
            self._end()  # or the program would run after all, when nobody expects it
            raise NannyLostError(f"the nanny {self.pid} has not answered for {ANSWER_S:g} s")
        words = self._receive()
        assert words is not None, "something was there to be read"
        self._owes_answer = False
        if words[0] == "started":
            pid = int(words[1])
            self.leaders.add(pid)
            return pid
        _, number, step = words
        error = StepError(number, os.strerror(number))
        error.step = step
        raise error

    def _end(self) -> None:
        """Kill it, if its number is its own: while the channel is open it lives, or was not reaped."""
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(self.pid)
            try:
                if self.look():
                    _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
            finally:
                os.close(pidfd)
        self.is_lost = True

    def _tell(self, *words: Any) -> None:
        with contextlib.suppress(NannyLostError, OSError):  # gone, or closed by us
            self._send(*words)

    def _send(self, *words: Any, fds: list[int] | None = None) -> None:
        try:
            self._channel.sendmsg([marshal.dumps(words)], rights(fds or []))
        except OSError as exc:
            if exc.errno not in GONE:  # a descriptor that is none, or too many of them
                raise
            self.is_lost = True
            raise NannyLostError(f"the nanny {self.pid} is gone: {exc.strerror}") from exc

    def _receive(self) -> tuple[Any, ...] | None:
        try:
            data = self._channel.recv(PACKET_BYTES)
        except BlockingIOError:
            return None
        except OSError as exc:
            self.is_lost = True
            raise NannyLostError(f"the nanny {self.pid} is gone: {exc.strerror}") from exc
        if not data:
            self.is_lost = True
            raise NannyLostError(f"the nanny {self.pid} is gone")
        words: tuple[Any, ...] = marshal.loads(data)
        return words


def rights(fds: list[int]) -> list[tuple[int, int, array.array[int]]]:
    """Return what ``sendmsg()`` needs to pass ``fds`` on."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
