"""What the event loops have each in their own way: sleeping, tasks that belong together, an event, the watcher of children.

A trial is not to import a loop that it does not run on, so nothing here does before it is asked to.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, Protocol

from benchmarks.harness import run_async

Watcher = Literal["thread", "pidfd"]


class Event(Protocol):
    """What asyncio's and trio's events have in common."""

    def set(self) -> object: ...

    async def wait(self) -> object: ...


def loop_sleep(backend: str) -> Callable[[float], Awaitable[None]]:
    """Return the loop's own sleep."""
    if backend == "trio":
        import trio

        return trio.sleep
    return asyncio.sleep


def make_event(backend: str) -> Event:
    """Return an event of the loop's own."""
    if backend == "trio":
        import trio

        return trio.Event()
    return asyncio.Event()


async def together(backend: str, jobs: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Run every job in a task of its own, and wait for all of them."""
    if backend == "trio":
        import trio

        async with trio.open_nursery() as nursery:
            for job in jobs:
                nursery.start_soon(job)
        return

    async def run(job: Callable[[], Awaitable[object]]) -> None:
        await job()

    async with asyncio.TaskGroup() as tasks:
        for job in jobs:
            tasks.create_task(run(job))


async def cancelled_after(backend: str, delay_s: float, job: Callable[[], Awaitable[object]]) -> None:
    """Run ``job`` and cancel it from outside after ``delay_s``, as the loop cancels a task; wait until it has ended."""
    if backend == "trio":
        import trio

        with trio.move_on_after(delay_s):
            await job()
        return

    async def run() -> None:
        await job()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(run())
        await asyncio.sleep(delay_s)
        task.cancel()


def task_count(backend: str) -> int:
    """Return how many tasks the loop has."""
    if backend == "trio":
        import trio

        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


def run_on(backend: str, watcher: Watcher | None, function: Callable[..., Any], *args: object) -> Any:
    """Run an async function, under asyncio with the named watcher of children.

    Raises:
        RuntimeError: If this Python leaves no choice of watchers.
    """
    if watcher is not None:
        _choose_watcher(watcher)
    return run_async(backend, function, *args)


def _choose_watcher(watcher: Watcher) -> None:
    name = {"thread": "ThreadedChildWatcher", "pidfd": "PidfdChildWatcher"}[watcher]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        choose, make = getattr(asyncio, "set_child_watcher", None), getattr(asyncio, name, None)
    if choose is None or make is None:
        raise RuntimeError("this Python chooses asyncio's watcher of children by itself")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        choose(make())
