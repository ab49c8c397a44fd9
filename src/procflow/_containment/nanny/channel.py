"""The host's side of its nannies: one template process, and a channel to each nanny.

Owns the start of the template and what is said to a nanny.  Must not know policies, streams, or who asks; the program at the
other end, and the protocol, are in ``helpers/nanny.py``.

Problem: only the parent of a process that is a child subreaper hears of every orphan below it, and the host must not be one:
it would get the orphans of everybody, and of all trees at once.  So each tree has a nanny of its own.  An interpreter takes
20 to 40 ms to start, so nannies are forked from a template, and one is always forked in advance.
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
import socket
import threading
from typing import Any, Final

import anyio

from procflow._containment.helper import NoHelperError, above_standard, own_pidfd, start_helper
from procflow.errors import PlatformError, SpawnError

HELLO_S: Final = 10.0
"""How long a nanny may take to answer for the first time, the start of the template included."""

ANSWER_S: Final = 10.0
"""How long a nanny may take to start a program."""

PACKET_BYTES: Final = 65536

GONE: Final = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN})
"""What a channel answers when nobody is at its other end."""


class NannyLostError(Exception):
    """A nanny does not answer; never leaves this package."""


class StepError(OSError):
    """A nanny could not start a child."""

    step: str = ""
    """What could not be done, as it follows on "it cannot"."""


class Nanny:
    """The channel to one nanny.  Sending is synchronous and never waits; any thread may do it."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self.pid = 0
        self.cgroup = ""
        """Path of the cgroup of its tree, if it has one."""
        self.held: set[int] = set()
        """Pids of leaders that it keeps until they are given up."""
        self.is_lost = False

    def __repr__(self) -> str:
        return f"<Nanny {self.pid}, {'lost' if self.is_lost else f'{len(self.held)} leaders'}>"

    def look(self) -> bool:
        """Look whether it is still there; reads nothing."""
        if not self.is_lost:
            try:
                self.is_lost = not self._channel.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                pass
            except OSError as exc:
                self.is_lost = exc.errno in GONE  # closed by us otherwise
        return not self.is_lost

    async def wait_hello(self) -> None:
        """Wait until it is there.

        Raises:
            NannyLostError: If it will not be.
        """
        while True:
            words = self._receive()
            if words is not None:
                _, self.pid, self.cgroup = words
                return
            await anyio.wait_readable(self._channel)

    def spawn(self, fields: dict[str, object], fds: list[int]) -> int:
        """Have it start a child; return its pid.  Blocks the thread for the start, as a start of our own would.

        Args:
            fields: What to start.
            fds: The working directory, the writing end of the report pipe, and what the child gets.

        Raises:
            OSError: If the child cannot be started; ``step`` says at what that failed.
            NannyLostError: If the nanny is gone.
        """
        payload = os.memfd_create("procflow-spawn", os.MFD_CLOEXEC)
        try:
            with open(payload, "wb", closefd=False) as file:
                file.write(marshal.dumps(fields))
            self._send("spawn", fds=[payload, *fds])
        finally:
            os.close(payload)
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        if not poller.poll(ANSWER_S * 1000):
            self.is_lost = True
            raise NannyLostError(f"the nanny {self.pid} has not answered for {ANSWER_S:g} s")
        words = self._receive()
        assert words is not None, "something was there to be read"
        if words[0] == "started":
            pid = int(words[1])
            self.held.add(pid)
            return pid
        _, number, step = words
        error = StepError(number, os.strerror(number))
        error.step = step
        raise error

    def kill(self) -> None:
        """Have it kill the whole tree; does not wait for that."""
        self._tell("kill")

    def reap(self, pid: int) -> None:
        """Have it reap an exited leader."""
        self.held.discard(pid)
        self._tell("reap", pid)

    async def let_go(self) -> None:
        """Have it kill nobody any more; returns once it has said that it will not.

        Raises:
            NannyLostError: If it is gone: then the tree is gone too, or soon will be.
        """
        self._send("let go")
        while self._receive() is None:
            await anyio.wait_readable(self._channel)

    def close(self) -> None:
        """Leave it alone: it ends what is left, unless it was to let go, and then itself."""
        with contextlib.suppress(anyio.NoEventLoopError):
            anyio.notify_closing(self._channel)
        self._channel.close()

    def _tell(self, *words: Any) -> None:
        with contextlib.suppress(NannyLostError, OSError):  # gone, or closed by us
            self._send(*words)

    def _send(self, *words: Any, fds: list[int] | None = None) -> None:
        try:
            self._channel.sendmsg([marshal.dumps(words)], _rights(fds or []))
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


def _rights(fds: list[int]) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []


class _Template:
    """The template process of this host, for one delegated cgroup directory (or none)."""

    def __init__(self, base: str) -> None:
        with contextlib.ExitStack() as on_failure, contextlib.ExitStack() as always:
            host = own_pidfd()  # first: where there is none there are no sockets of packets either
            always.callback(os.close, host)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            on_failure.callback(ours.close)
            with theirs:
                control = above_standard(theirs.fileno())
            always.callback(os.close, control)
            ours.settimeout(0.0)
            fds = (host, control)
            self._leader: Final = start_helper("nanny.py", (*fds, base), pass_fds=fds)
            on_failure.pop_all()
        # A number, not an object, which would be warned about when the interpreter ends.
        self._control_fd: Final = ours.detach()

    def send_channel(self) -> Nanny:
        """Return the channel to a nanny that will be there at once, or as soon as the template is.

        Raises:
            OSError: If the template is gone.
        """
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            mine.settimeout(0.0)
            control = socket.SocketType(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, self._control_fd)
            try:
                control.sendmsg([b"channel"], _rights([theirs.fileno()]))
            finally:
                control.detach()
        except BaseException:
            mine.close()
            raise
        finally:
            theirs.close()
        return Nanny(mine)

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._leader.pid

    @property
    def descriptors(self) -> tuple[int, int]:
        """What is open because of it."""
        return self._control_fd, self._leader.exit_fd

    def end(self) -> None:
        """Give it up: its nannies go on, and it ends with the last of them."""
        os.close(self._control_fd)
        self._leader.reap()
        self._leader.close()


_templates: Final[dict[tuple[int, str], _Template]] = {}
"""By the pid of the host, because a forked copy of it must have its own, and the delegated directory."""

_lock: Final = threading.Lock()


async def hire_nanny(base: str) -> Nanny:
    """Return a nanny that is ready; started with the first call, which takes 30 to 60 ms.

    Cancelling leaves nothing behind: a nanny whose channel is closed ends itself.

    Args:
        base: The delegated cgroup directory to make cgroups in, or nothing.

    Raises:
        PlatformError: If there can be none here.
    """
    reason = ""
    for _ in range(2):  # a template that was killed is noticed by whoever needs it next
        template: _Template | None = None
        try:
            template = _template_for(base)
            nanny = template.send_channel()
        except (NoHelperError, SpawnError, OSError) as exc:
            reason = str(exc)
            _forget(base, template)
            continue
        try:
            with anyio.fail_after(HELLO_S):
                await nanny.wait_hello()
        except (NannyLostError, TimeoutError) as exc:
            nanny.close()
            reason = str(exc) or f"no answer in {HELLO_S:g} s"
            _forget(base, template)
        except BaseException:
            nanny.close()
            raise
        else:
            return nanny
    raise PlatformError(f"no nanny can be had: {reason}")


def _template_for(base: str) -> _Template:
    key = os.getpid(), base
    with _lock:
        if key not in _templates:
            _templates[key] = _Template(base)
        return _templates[key]


def _forget(base: str, template: _Template | None) -> None:
    key = os.getpid(), base
    with _lock:
        if template is not None and _templates.get(key) is template:
            del _templates[key]
            template.end()


def belongings() -> tuple[frozenset[int], frozenset[int]]:
    """Return the pids and descriptors that are there because this host has templates; they belong to no process of a user."""
    with _lock:
        mine = [template for (pid, _), template in _templates.items() if pid == os.getpid()]
    pids = frozenset(template.pid for template in mine)
    return pids, frozenset(fd for template in mine for fd in template.descriptors)
