"""One account of this process's descriptors, so that a fan-out waits instead of failing with EMFILE.

Owns who may start a child now, and who is told when that may have changed.  Must not know what is started.

Problem: a start takes several descriptors at once (both ends of every pipe) and its child then keeps fewer; the limit belongs to
the process, and all loops, threads and libraries in it draw on it.  So a start *claims* what it may take before it is made;
once it is made, the claim counts no more, because what it really took is among the descriptors that are open, and those are
counted by the kernel.  Only claims are counted here, nothing twice.
Rejected: counting our own descriptors only (others open some too), a semaphore of a fixed size (the same), raising the soft
limit (it is the host's), trying and catching EMFILE (whoever runs in another thread at that moment would fail).
Known hole: somebody who takes the last descriptors between the look and the start makes it fail all the same.  Then the claim is
made again when a child of ours has ended.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import anyio

from procflow._streams.waking import LoopDoor
from procflow.errors import DescriptorLimitError

if TYPE_CHECKING:
    from procflow.command import Command, Pipeline

MARGIN_SHARE: Final = 8
MAX_MARGIN: Final = 32
"""An eighth of the limit, at most 32, is left to the rest of the program."""

OUTPUT_DESCRIPTORS: Final = 6
"""Both ends of three pipes, of each stage."""
START_DESCRIPTORS: Final = 4
"""Of each stage: what tells of its exit, the null device, and the pipe over which it reports that it cannot be executed."""

LOOK_AGAIN_S: Final = 0.1
"""How long a wait lasts before it looks by itself: others close descriptors without telling."""

SAMPLE_S: Final = 0.05
"""How long a count serves while less than half of the limit is in use."""

SHORTAGES: Final = (errno.EMFILE, errno.ENFILE)


def descriptors_of(command: Command | Pipeline) -> int:
    """Return the most descriptors that starting ``command`` may take at once."""
    stages = getattr(command, "stages", ())
    return (len(stages) or 1) * (OUTPUT_DESCRIPTORS + START_DESCRIPTORS)


class Claim:
    """What one child takes of the account, from before its start until after its end; made by ``Account.claim()``."""

    __slots__ = ("_account", "_has_started", "_is_open", "_pending")

    def __init__(self, account: Account, needed: int) -> None:
        self._account = account
        self._pending = needed
        self._is_open = True
        self._has_started = False

    def started(self) -> None:
        """Note that the child was started: what it took is now among what is open."""
        pending, self._pending = self._pending, 0
        self._has_started = True
        self._account.settle(pending, is_over=False, has_freed=False)

    def close(self) -> None:
        """Note that the child has ended, or was not started, and that its descriptors are closed; idempotent."""
        if self._is_open:
            self._is_open = False
            pending, self._pending = self._pending, 0
            self._account.settle(pending, is_over=True, has_freed=self._has_started)


class Account:
    """The descriptors of this process; for any number of threads and event loops at once.

    Nobody is served before anybody else: whoever looks first after something has ended starts first.
    """

    def __init__(
        self, count_open: Callable[[], int | None] | None = None, soft_limit: Callable[[], int | None] | None = None
    ) -> None:
        self._count_open = count_open or count_open_descriptors
        self._soft_limit = soft_limit or soft_descriptor_limit
        self._lock = threading.Lock()
        self._pending = 0
        self._claims = 0
        self._ended = 0
        self._waiting: dict[int, tuple[LoopDoor, anyio.Event]] = {}
        self._next_waiter = 0
        self._sample: tuple[float, int | None] = (float("-inf"), 0)
        self._host_pid = os.getpid()

    def __repr__(self) -> str:
        return f"<Account, {self._claims} claims, {self._pending} descriptors pending, {len(self._waiting)} waiting>"

    @property
    def claims(self) -> int:
        """How many children there are, or are being started."""
        return self._claims

    @property
    def ended(self) -> int:
        """How many children have ended so far."""
        return self._ended

    async def claim(self, needed: int) -> Claim:
        """Return a claim on ``needed`` descriptors; wait while they are not there.

        Raises:
            DescriptorLimitError: If they are not there, and nobody holds a claim whose end would free any.
        """
        while True:
            with self._waiter() as event:
                with self._lock:
                    claim = self._try_claim(needed)
                if claim is not None:
                    return claim
                await self._wait(event)

    async def wait_end(self, ended: int) -> None:
        """Return once a child has ended since ``self.ended`` was ``ended``.

        Raises:
            DescriptorLimitError: If there is no other child whose end could be waited for.
        """
        while True:
            with self._waiter() as event:
                with self._lock:
                    if self._ended != ended:
                        return
                    if not self._claims:
                        raise self._refusal(0)
                await self._wait(event)

    def settle(self, pending: int, *, is_over: bool, has_freed: bool) -> None:
        """Book what became of a claim, and let everybody who waits look again; from any thread."""
        with self._lock:
            self._pending -= pending
            self._sample = (float("-inf"), 0)
            self._claims -= is_over
            self._ended += has_freed
            waiting = tuple(self._waiting.values())
        for door, event in waiting:
            door.run_soon(event.set)  # a loop that is gone has nobody who waits

    def _try_claim(self, needed: int) -> Claim | None:
        if os.getpid() != self._host_pid:  # a copy of the host has none of its children
            self._host_pid, self._pending, self._claims = os.getpid(), 0, 0
        limit = self._soft_limit()
        if limit is not None:
            open_now = self._open_now(limit)
            margin = _margin(limit)
            if open_now is not None and open_now + self._pending + needed + margin > limit:
                if not self._claims:
                    raise self._refusal(needed + margin)
                return None
        self._pending += needed
        self._claims += 1
        return Claim(self, needed)

    def _open_now(self, limit: int) -> int | None:
        now = time.monotonic()
        taken_at, count = self._sample
        if count is None or count + self._pending > limit // 2 or now - taken_at > SAMPLE_S:
            count = self._count_open()
            self._sample = (now, count)
        return count

    def _refusal(self, needed: int) -> DescriptorLimitError:
        return DescriptorLimitError(needed=needed, limit=self._soft_limit() or 0, open_now=self._count_open())

    @contextlib.contextmanager
    def _waiter(self) -> Iterator[anyio.Event]:
        event = anyio.Event()
        with self._lock:
            number = self._next_waiter
            self._next_waiter += 1
            self._waiting[number] = (LoopDoor(), event)
        try:
            yield event
        finally:
            with self._lock:
                del self._waiting[number]

    @staticmethod
    async def _wait(event: anyio.Event) -> None:
        with anyio.move_on_after(LOOK_AGAIN_S):
            await event.wait()


def _margin(limit: int) -> int:
    return min(MAX_MARGIN, limit // MARGIN_SHARE)


def count_open_descriptors() -> int | None:
    """Return how many descriptors this process has open; ``None`` if the system does not say."""
    for directory in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            size = os.stat(directory).st_size if directory.startswith("/proc") else 0
            # Since Linux 6.2 the size of that directory is their number, whatever it is; before, it was 0.
            return size or len(os.listdir(directory)) - 1
    return None


def soft_descriptor_limit() -> int | None:
    """Return the soft limit of open files; ``None`` if there is none."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


ACCOUNT: Final = Account()
"""That of this process."""
