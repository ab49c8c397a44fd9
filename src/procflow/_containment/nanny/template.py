"""Hiring a nanny: the template processes of this host, which fork them.

Owns the start of a template, when it is given up, and the nanny that waits for the next tree.  Must not know what
is said to a nanny, nor who asks; the program at the other end is ``helpers/nanny.py``.

Problem: an interpreter takes 20 to 40 ms to start, and one that was just forked is slow: each page that it touches for the
first time is copied, 300 of them, which costs more than everything else about a strict start.  So nannies are forked from a
template, and one whose tree has ended is kept for the next tree: the *reserve*.
Nothing of a tree can be left in a nanny without children: she has none of its files, she makes her cgroup anew, and where the
tree has changed herself (``prlimit(2)``, ``renice``) she does not wait for another one.
A template that is gone is found by whoever hires next, and its reserve is not given to anybody: when she is killed, nobody
would end her tree.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from functools import partial
from typing import Final

import anyio

from procflow._containment.helper import NoHelperError, above_standard, own_pidfd, start_helper
from procflow._containment.nanny.channel import GONE, HELLO_S, LAST_POLL_S, Nanny, NannyLostError, rights
from procflow.errors import PlatformError, SpawnError

REST_S: Final = 0.5
"""How long the reserve may take to answer: a fresh nanny is there sooner than one that is stopped, or busy with an ending."""


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
        # Numbers, not objects, which would be warned about when the interpreter ends.
        self._control_fd = ours.detach()
        self._control_lock: Final = threading.Lock()  # a thread of other circumstances may give it up while we ask
        self._reserve: Final[list[int]] = []
        """The channel to the reserve, or nothing; taken and given by any thread."""

    def send_channel(self) -> socket.socket:
        """Return the channel to a nanny that will be there at once, or as soon as the template is.

        Raises:
            OSError: If the template is gone, or was given up.
        """
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            mine.settimeout(0.0)
            with self._control_lock:
                if self._control_fd < 0:
                    raise BrokenPipeError(errno.EPIPE, "it was given up")
                control = socket.SocketType(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, self._control_fd)
                try:
                    control.settimeout(0.0)  # a host may have set another default
                    control.sendmsg([b"channel"], rights([theirs.fileno()]))
                finally:
                    control.detach()
        except BaseException:
            mine.close()
            raise
        finally:
            theirs.close()
        return mine

    def take_reserve(self) -> socket.socket | None:
        """Return the channel to the reserve, if there is one."""
        try:
            channel = socket.socket(fileno=self._reserve.pop())
        except IndexError:
            return None
        channel.settimeout(0.0)  # a host may have set another default
        return channel

    def keep(self, nanny: Nanny) -> bool:
        """Make ``nanny`` the reserve, unless there is one; return which."""
        if not self._reserve:
            self._reserve.append(nanny.rest())
            return True
        return False

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._leader.pid

    @property
    def is_given_up(self) -> bool:
        """Whether it was given up."""
        return self._control_fd < 0

    @property
    def is_gone(self) -> bool:
        """Whether it has ended."""
        return self._leader.observe()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What is open because of it."""
        return self._control_fd, self._leader.exit_fd, *self._reserve

    def end(self) -> None:
        """Give it up: its nannies go on, and it ends with the last of them."""
        with self._control_lock:
            os.close(self._control_fd)
            self._control_fd = -1
        reserve = self.take_reserve()
        if reserve is not None:
            Nanny(reserve).close()

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

    def get(self, base: str, now: tuple[object, ...]) -> _Template:
        """Return the template, started if there is none.

        Raises:
            NoHelperError: If there can be none here.
            SpawnError: If it cannot be started now.
            OSError: If no descriptor is left for it.
        """
        with self._lock:
            self._reap()
            then, template = self._found.get(base, (None, None))
            # What it forks is as the host was, not as it is; or it forks nothing any more.
            if template is not None and (then != now or template.is_gone):
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

    def take_back(self, base: str, template: _Template, nanny: Nanny) -> bool:
        """Keep ``nanny``, if ``template`` has not been given up and has use for her; return whether it is kept.

        May be called by the garbage collector, in the middle of anything: so it does not wait.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            return self._found.get(base, (None, None))[1] is template and template.keep(nanny)
        finally:
            self._lock.release()

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


async def hire_nanny(base: str, inherited: tuple[object, ...]) -> Nanny:
    """Return a nanny that is ready; the first one takes 30 to 60 ms.

    Cancelling leaves nothing behind: a nanny whose channel is closed ends itself.

    Args:
        base: The delegated cgroup directory to make cgroups in, or nothing.
        inherited: What a nanny takes from her template, as it is in the host now.

    Raises:
        PlatformError: If there can be none here.
        OSError: If no descriptor or process is left for one.
    """
    templates, reason, losses = _own_templates(), "", 0
    while losses < 2:  # a template that was killed is noticed by whoever needs it next
        try:
            template = templates.get(base, inherited)
        except (NoHelperError, SpawnError) as exc:
            raise PlatformError(f"no nanny can be had: {exc}") from exc
        try:
            nanny = await _reserve_of(template) or await _greeted(await _send_channel(template))
        except NannyLostError as exc:
            reason = str(exc)
            losses += not template.is_given_up  # by another thread, for circumstances of its own
            templates.forget(base, template)
        else:
            nanny.origin = template
            nanny.take_back = partial(templates.take_back, base, template)
            return nanny
    raise PlatformError(f"no nanny can be had: {reason}")


async def _reserve_of(template: _Template) -> Nanny | None:
    """Return the reserve, if there is one and nothing has happened to her since."""
    channel = template.take_reserve()
    if channel is None:
        return None
    with contextlib.suppress(NannyLostError):
        nanny = await _greeted(channel, REST_S)
        if nanny.look():
            return nanny
        nanny.close()
    return None


async def _greeted(channel: socket.socket, limit_s: float = HELLO_S) -> Nanny:
    nanny = Nanny(channel)
    try:
        await nanny.wait_hello(limit_s)
    except BaseException:
        nanny.close()
        raise
    return nanny


async def _send_channel(template: _Template) -> socket.socket:
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
