"""Starting a child of a nanny: the leader that a nanny holds for us, and the spawner.

Owns what a nanny is asked to start, and what it tells of the exit.  Must not know how far the reach goes, nor who asks.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import signal as _signal
from collections.abc import Iterator
from typing import Final

import anyio

from procflow._containment.nanny.attributes import attributes_of, cgroup_limits
from procflow._containment.nanny.channel import MOST_DESCRIPTORS, Nanny, NannyLostError, StepError
from procflow._containment.nanny.circumstances import Circumstances
from procflow._containment.requests import Strict
from procflow._process.leader import UNKNOWN_STATUS, ExitStatus, LeaderBook
from procflow._process.signalling import send
from procflow._process.spawn import SpawnRequest, spawn_error
from procflow.errors import SpawnError
from procflow.outcome import ResourceUsage

REPORT_BYTES: Final = 4096

_GROUPS: Final[dict[str, int | None]] = {"own session": None, "own group": 0}
"""What a nanny takes for a choice that is no number."""


class NannyLeader(LeaderBook):
    """A ``LeaderPort`` on a child of a nanny."""

    def __init__(self, pid: int, report_fd: int, nanny: Nanny, *, name: str) -> None:
        super().__init__(pid, name=name)
        self.exit_fd = report_fd
        self._pidfd = os.pidfd_open(pid)  # the nanny reaps nobody that we have not given up
        self._nanny = nanny

    def observe(self) -> bool:
        """Look whether the nanny has told of its exit."""
        with self._lock:
            if self.status is not None:
                if not (self.is_reaped or self._nanny.look()):  # the zombie that held its number is hers no more
                    self._note_reaped(lost=True)
                return True
            if self.exit_fd < 0:
                return False
            try:
                report = os.read(self.exit_fd, REPORT_BYTES)
            except BlockingIOError:
                return False
            if report:
                code, number, core, *usage = marshal.loads(report)
                if None not in usage:
                    user_s, system_s, max_rss_bytes = usage
                    self.usage = ResourceUsage(user_s=user_s, system_s=system_s, max_rss_bytes=max_rss_bytes)
                self._note_exit(ExitStatus(code, number, core))
                return True
            # The nanny is gone, and its children are being killed by the template.
            if not _is_readable(self._pidfd):
                return False
            self._note_exit(UNKNOWN_STATUS)
            self._note_reaped(lost=True)
            return True

    def signal(self, number: int) -> None:
        """Send ``number`` to the leader alone.

        Raises:
            ProcessLookupError: If it has exited.
            PermissionError: If it changed its user.
        """
        with self._lock:
            if self.observe() or self._pidfd < 0:
                raise ProcessLookupError(f"{self.pid} has exited")
            send(_signal.pidfd_send_signal, self._pidfd, number, of=self, to="leader", receiver=self.pid)

    def reap(self) -> bool:
        """Give it up if it has exited."""
        with self._lock:
            if not self.is_reaped and self.observe():
                self._note_reaped(lost=False)  # before the nanny hears of it
                self._nanny.reap(self.pid)
            return self.is_reaped

    def close(self) -> None:
        """Close the descriptors; whatever was not reaped is the nanny's business."""
        fd, self.exit_fd = self.exit_fd, -1
        pidfd, self._pidfd = self._pidfd, -1
        if fd >= 0:
            with contextlib.suppress(RuntimeError):
                anyio.notify_closing(fd)
            os.close(fd)
            os.close(pidfd)


class NannySpawner:
    """A ``Spawner`` whose children are those of one nanny."""

    def __init__(self, nanny: Nanny, wanted: Strict, here: Circumstances) -> None:
        self._nanny = nanny
        self._wanted = wanted
        self._here = here

    def spawn(self, request: SpawnRequest) -> NannyLeader:
        """Have the nanny start a process.

        Raises:
            SpawnError: If it cannot be started.
        """
        given = _descriptors(request)
        if len(given) > MOST_DESCRIPTORS:
            reason = f"a nanny can give it {MOST_DESCRIPTORS} descriptors at most, not {len(given)}"
            raise SpawnError(program=os.fsdecode(request.program), reason=reason)
        try:
            return self._spawn(request, given)
        except StepError as exc:
            raise self._refusal(request, exc) from exc
        except OSError as exc:
            raise spawn_error(request, exc) from exc
        except NannyLostError as exc:
            raise SpawnError(program=os.fsdecode(request.program), reason=str(exc)) from exc

    def _spawn(self, request: SpawnRequest, given: dict[int, int]) -> NannyLeader:
        with contextlib.ExitStack() as on_failure:
            report_fd, write_end = os.pipe()
            on_failure.callback(os.close, report_fd)
            try:
                os.set_blocking(report_fd, False)
                with _folder() as here:
                    pid = self._nanny.spawn(self._fields(request, list(given)), [here, write_end, *given.values()])
            finally:
                os.close(write_end)
            leader = NannyLeader(pid, report_fd, self._nanny, name=request.name)
            on_failure.pop_all()
            return leader

    def _fields(self, request: SpawnRequest, numbers: list[int]) -> dict[str, object]:
        environment = os.environb if request.environment is None else request.environment
        return {
            "program": os.fsencode(request.program),
            "arguments": [os.fsencode(argument) for argument in request.arguments],
            "environment": {os.fsencode(name): os.fsencode(text) for name, text in environment.items()},
            "cwd": None if request.cwd is None else os.fsencode(request.cwd),
            "umask": int(request.umask) if request.umask is not None else self._here.umask,
            # A group in the session of the nanny, which is as good as one of its own: the host is not in it.
            "mask": list(self._here.blocked),
            "group": int(request.group) if isinstance(request.group, int) else _GROUPS[request.group],
            "terminal": request.terminal,
            "numbers": numbers,
            "attributes": attributes_of(self._wanted),
            "cgroup": cgroup_limits(self._wanted),
        }

    def _refusal(self, request: SpawnRequest, exc: StepError) -> SpawnError:
        if exc.step in ("be started", "enter its working directory"):
            return spawn_error(request, exc)
        return SpawnError(
            program=os.fsdecode(request.program), reason=f"it cannot {exc.step}: {exc.strerror}", errno=exc.errno
        )


def _descriptors(request: SpawnRequest) -> dict[int, int]:
    """Return what the child gets under which number; what is left out is the null device, as the nanny's own is."""
    given = {int(fd): int(fd) for fd in request.pass_fds}
    if request.terminal is None:
        for number, fd in enumerate((request.stdin, request.stdout, request.stderr)):
            if fd is None or fd >= 0:
                given[number] = number if fd is None else fd
    return given


@contextlib.contextmanager
def _folder() -> Iterator[int]:
    fd = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _is_readable(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))
