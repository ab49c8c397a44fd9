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
import signal as _signal
import socket
import threading
import time
from typing import Any, Final

import anyio

from procflow._containment.helper import NoHelperError, above_standard, own_pidfd, start_helper
from procflow._containment.nanny.circumstances import read_circumstances
from procflow.errors import PlatformError, SpawnError

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
        self.leaders: set[int] = set()
        """Pids of leaders that it keeps until they are given up."""
        self.is_lost = False
        self.has_let_go = False
        self._is_closed = False

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

    async def wait_hello(self) -> None:
        """Wait until it is there.

        Raises:
            NannyLostError: If it will not be, or not in time.
        """
        deadline_mono_s = time.monotonic() + HELLO_S
        while (words := self._receive()) is None:
            if time.monotonic() >= deadline_mono_s:
                raise NannyLostError(f"no answer in {HELLO_S:g} s")
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
            self._end()  # or the program would run after all, when nobody expects it
            raise NannyLostError(f"the nanny {self.pid} has not answered for {ANSWER_S:g} s")
        words = self._receive()
        assert words is not None, "something was there to be read"
        if words[0] == "started":
            pid = int(words[1])
            self.leaders.add(pid)
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
        self.leaders.discard(pid)
        self._tell("reap", pid)

    async def let_go(self) -> None:
        """Have it kill nobody any more; returns once it has said that it will not.

        Raises:
            NannyLostError: If it is gone: then the tree is gone too, or soon will be; or if it does not answer within a second.
        """
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

    def close(self) -> None:
        """Leave it alone: it ends what is left, unless it was to let go, and then itself.  Idempotent."""
        if not self._is_closed:
            self._tell("close")  # said, because a forked copy of the host may hold the channel open
            self._is_closed = True
            with contextlib.suppress(RuntimeError):
                anyio.notify_closing(self._channel)
            self._channel.close()

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
        self._control_fd = ours.detach()

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
        self._control_fd = -1

    def reap(self) -> bool:
        """Reap it if it has ended; return whether nothing of it is left."""
        if self._leader.observe():
            self._leader.reap()
            self._leader.close()
        return self._leader.is_reaped


class _Templates:
    """The templates of one host: one for each delegated directory, as long as its circumstances are what they were."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._found: dict[str, tuple[tuple[object, ...], _Template]] = {}
        self._given_up: list[_Template] = []

    def get(self, base: str) -> _Template:
        """Return the template, started if there is none.

        Raises:
            NoHelperError: If there can be none here.
            SpawnError: If it cannot be started now.
            OSError: If no descriptor is left for it.
        """
        now = read_circumstances().inherited
        with self._lock:
            self._reap()
            then, template = self._found.get(base, (None, None))
            if template is not None and then != now:  # what it forks is as the host was, not as it is
                self._give_up(base, template)
                template = None
            if template is None:
                template = _Template(base)
                self._found[base] = now, template
            return template

    def forget(self, base: str, template: _Template) -> None:
        """Give up a template that is gone, or does not answer."""
        with self._lock:
            if self._found.get(base, (None, None))[1] is template:
                self._give_up(base, template)

    def all(self) -> list[_Template]:
        """Return all of them, and those that were given up and have nannies yet."""
        with self._lock:
            self._reap()
            return [*(template for _, template in self._found.values()), *self._given_up]

    def _give_up(self, base: str, template: _Template) -> None:
        del self._found[base]
        template.end()
        self._given_up.append(template)

    def _reap(self) -> None:
        self._given_up = [template for template in self._given_up if not template.reap()]


_hosts: Final[dict[int, _Templates]] = {}


def _own_templates() -> _Templates:
    """Return those of this process: others in each copy of it, with a lock that no copy can inherit locked."""
    pid = os.getpid()
    return _hosts.get(pid) or _hosts.setdefault(pid, _Templates())


async def hire_nanny(base: str) -> Nanny:
    """Return a nanny that is ready; started with the first call, which takes 30 to 60 ms.

    Cancelling leaves nothing behind: a nanny whose channel is closed ends itself.

    Args:
        base: The delegated cgroup directory to make cgroups in, or nothing.

    Raises:
        PlatformError: If there can be none here.
        OSError: If no descriptor or process is left for one.
    """
    templates, reason = _own_templates(), ""
    for _ in range(2):  # a template that was killed is noticed by whoever needs it next
        try:
            template = templates.get(base)
        except (NoHelperError, SpawnError) as exc:
            raise PlatformError(f"no nanny can be had: {exc}") from exc
        try:
            nanny = await _send_channel(template)
            try:
                await nanny.wait_hello()
            except BaseException:
                nanny.close()
                raise
        except NannyLostError as exc:
            reason = str(exc)
            templates.forget(base, template)
        else:
            return nanny
    raise PlatformError(f"no nanny can be had: {reason}")


async def _send_channel(template: _Template) -> Nanny:
    deadline_mono_s = time.monotonic() + HELLO_S
    while True:
        try:
            return template.send_channel()
        except BlockingIOError as exc:  # many ask at once
            if time.monotonic() >= deadline_mono_s:
                raise NannyLostError("the template takes nothing") from exc
        except OSError as exc:
            if exc.errno in GONE:
                raise NannyLostError("the template is gone") from exc
            raise
        await anyio.sleep(LAST_POLL_S)


def belongings() -> tuple[frozenset[int], frozenset[int]]:
    """Return the pids and descriptors that are there because this host has templates; they belong to no process of a user."""
    mine = _own_templates().all()
    return frozenset(template.pid for template in mine), frozenset(
        fd for template in mine for fd in template.descriptors
    )
