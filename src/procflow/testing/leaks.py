"""``assert_no_leaks()``: what is there after a block that was not there before it.

Owns the comparison of processes, descriptors, threads and tasks.  Must not know how any of them came about, except that it
observes spawns for the numbers of new groups: a group is found again although its leader is gone.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import anyio

from procflow._containment.guard import host as guard
from procflow._containment.guard.watch import WATCH_TASK
from procflow._containment.nanny import template as nanny
from procflow._containment.scan import group_members, read_member
from procflow._observers import observe
from procflow.errors import Portable
from procflow.observation import ProcessEvent, Spawned
from procflow.testing.uvloop_descriptors import Opened, kept_by_uvloop, open_lock, open_spare

SETTLE_S: Final = 5.0
"""How long leaving the block waits for things to end by themselves before it calls them leaks."""

FIRST_POLL_S: Final = 0.001
LAST_POLL_S: Final = 0.05

POOL_THREADS: Final = ("AnyIO worker thread", "Trio thread", "asyncio_", "ThreadPoolExecutor")
"""Beginnings of the names of threads that pools keep for later use."""


class LeakError(Portable, AssertionError):
    """Something outlived the block.

    Attributes:
        leaks: One text for each thing.
    """

    def __init__(self, leaks: Iterable[str]) -> None:
        self.leaks = tuple(leaks)
        super().__init__(f"{len(self.leaks)} leaks:\n" + "\n".join(f"  {leak}" for leak in self.leaks))


@dataclass(frozen=True, slots=True)
class _Inventory:
    children: dict[int, str]
    descriptors: dict[int, str]
    threads: dict[int, str]
    tasks: dict[int, str] = field(default_factory=dict)


class assert_no_leaks(AbstractContextManager["assert_no_leaks"], AbstractAsyncContextManager["assert_no_leaks"]):  # noqa: N801 (reads as the statement it is)
    """A block, ``with`` or ``async with``, that raises ``LeakError`` if it leaves something behind.

    Compared with the moment of entry: children of this process, zombies among them; living members of every group that
    procflow started inside the block; descriptors; threads, except idle ones of pools; with ``async with`` also tasks of
    the running event loop.  The guard of this host, and what it needs, stay: they belong to no process; so do the descriptors that
    uvloop keeps from its first use on.  What is still ending is given ``settle_s``.  If the block raises, its exception goes on
    and nothing is checked.  Processes and descriptors are compared on Linux only.

    Args:
        settle_s: How long to wait for things to end by themselves.
        ignore_threads: Beginnings of names of threads that do not count.
    """

    def __init__(self, *, settle_s: float = SETTLE_S, ignore_threads: Iterable[str] = ()) -> None:
        self._settle_s = settle_s
        self._ignored = (*POOL_THREADS, *ignore_threads)
        self._groups: set[int] = set()
        self._before = _Inventory({}, {}, {})
        self._watch = ExitStack()
        self._uvloop = Opened()

    def __enter__(self) -> Self:
        self._begin(with_tasks=False)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._watch.close()
        if exc is None:
            for pause_s in self._pauses(with_tasks=False):
                time.sleep(pause_s)

    async def __aenter__(self) -> Self:
        await anyio.lowlevel.checkpoint()
        await open_spare()
        self._begin(with_tasks=True)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._watch.close()
        if exc is None:
            for pause_s in self._pauses(with_tasks=True):
                await anyio.sleep(pause_s)

    def _begin(self, *, with_tasks: bool) -> None:
        self._uvloop = open_lock()
        self._before = self._look(with_tasks=with_tasks)
        self._groups.clear()
        self._watch.enter_context(observe(self._note_group))

    def _note_group(self, event: ProcessEvent) -> None:
        if isinstance(event, Spawned):
            self._groups.add(event.pid)

    def _pauses(self, *, with_tasks: bool) -> Iterator[float]:
        """Yield how long to sleep before looking again; ends when nothing has leaked, raises when time is up."""
        deadline = time.monotonic() + self._settle_s
        pause_s = FIRST_POLL_S
        while leaks := list(self._leaks(with_tasks=with_tasks)):
            if time.monotonic() >= deadline:
                raise LeakError(leaks)
            yield pause_s
            pause_s = min(pause_s * 2, LAST_POLL_S)

    def _look(self, *, with_tasks: bool) -> _Inventory:
        return _Inventory(
            _children(),
            _descriptors(),
            self._threads(),
            {task.id: task.name or "?" for task in _tasks()} if with_tasks else {},
        )

    def _leaks(self, *, with_tasks: bool) -> Generator[str]:
        now, before = self._look(with_tasks=with_tasks), self._before
        helper_pids, helper_descriptors = (
            mine | its for mine, its in zip(guard.belongings(), nanny.belongings(), strict=True)
        )
        for pid, text in now.children.items():
            if pid not in before.children and pid not in helper_pids:
                yield f"child process {pid} ({text})"
        for group in tuple(self._groups):  # other threads may be spawning
            for member in group_members(group, newer_than_mono_s=time.monotonic()) or ():
                if member.pid not in now.children:
                    yield f"process of group {group}: {member}"
        opened = {
            fd: target
            for fd, target in now.descriptors.items()
            # A number that was in use before may by now lead elsewhere.
            if before.descriptors.get(fd) != target and fd not in helper_descriptors
        }
        kept = kept_by_uvloop(opened, self._uvloop)
        for fd, target in opened.items():
            if fd not in kept:
                yield f"descriptor {fd} -> {target}"
        for ident, name in now.threads.items():
            if ident not in before.threads:
                yield f"thread {name!r}"
        for ident, name in now.tasks.items():
            if ident not in before.tasks and name != WATCH_TASK:
                yield f"task {name!r}"

    def _threads(self) -> dict[int, str]:
        return {
            thread.ident: thread.name
            for thread in threading.enumerate()
            if thread.ident is not None and not thread.name.startswith(self._ignored)
        }


def _children() -> dict[int, str]:
    """Return the children of this process, zombies included."""
    pids: set[int] = set()
    with contextlib.suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/children", "rb") as file:
                pids.update(int(pid) for pid in file.read().split())
    children: dict[int, str] = {}
    for pid in pids:
        member = read_member(pid)
        children[pid] = "zombie" if member is None else f"{member.name}, state {member.state}"
    return children


def _descriptors() -> dict[int, str]:
    found: dict[int, str] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _tasks() -> list[anyio.TaskInfo]:
    return anyio.get_running_tasks()
