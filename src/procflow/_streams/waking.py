"""The one seam between streams and the event loop.

Owns the bell that tasks sleep on, the way into a loop from a foreign thread, and tasks beside a block.  Must not know streams.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Protocol, cast

import anyio
from anyio import NoEventLoopError
from anyio.abc import TaskGroup
from anyio.lowlevel import RunVar, current_token


class Bell:
    """Wakes every task that sleeps on it; costs one comparison while nobody does.

    There is no memory: a task looks at the state, and sleeps only if there is nothing, with no await in between.  So no
    ring can be missed.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def ring(self) -> None:
        """Wake every task that sleeps now."""
        event = self._event
        if event is not None:
            self._event = None
            event.set()

    async def sleep(self) -> None:
        """Sleep until the next ring."""
        event = self._event
        if event is None:
            event = self._event = anyio.Event()
        await event.wait()


@asynccontextmanager
async def running(name: str, *functions: Callable[[], Coroutine[Any, Any, object]]) -> AsyncIterator[TaskGroup]:
    """Run ``functions`` in tasks called ``name`` beside the block, and cancel them when it is left.  Gives the group of them.

    What the block raises, ``SystemExit`` included, leaves it as it is: the task group, which would wrap it, does not see it.
    """
    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        for function in functions:
            tasks.start_soon(function, name=name)
        try:
            yield tasks
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 (raised again below)
            failure = error
        finally:
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


class _AsyncioLoop(Protocol):
    def call_soon_threadsafe(self, callback: Callable[[], object]) -> object: ...


class _TrioToken(Protocol):
    def run_sync_soon(self, callback: Callable[[], object]) -> object: ...


class LoopDoor:
    """Lets any thread, and any finalizer, run a function on the event loop that was running when this was made."""

    __slots__ = ("_run_soon", "_token")

    def __init__(self) -> None:
        self._token = token = current_token().native_token
        self._run_soon: Callable[[Callable[[], object]], object]
        if hasattr(token, "call_soon_threadsafe"):
            self._run_soon = cast(_AsyncioLoop, token).call_soon_threadsafe
        else:
            self._run_soon = cast(_TrioToken, token).run_sync_soon

    @property
    def is_here(self) -> bool:
        """Whether the caller runs on that loop, and may touch what belongs to it.

        A finalizer that runs between two tasks of the loop counts as foreign.
        """
        try:
            return current_token().native_token is self._token
        except NoEventLoopError:
            return False

    @property
    def is_gone(self) -> bool:
        """Whether that loop will run nothing any more."""
        return not self.run_soon(_nothing)

    def run_soon(self, function: Callable[[], object]) -> bool:
        """Run ``function`` on the loop soon; return false, and do nothing, if the loop is gone.

        It runs in a bare callback, in no task: it may set events and cancel scopes, but anyio does not know there where it is.
        """
        try:
            self._run_soon(function)
        except RuntimeError:  # asyncio: the loop is closed; trio's RunFinishedError is one too
            return False
        return True


def _nothing() -> None:
    return


class ReadyPumps:
    """How many pumps of one event loop have something to read: they share the reads of a turn."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count the caller as ready."""
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    @contextmanager
    def one_less(self) -> Iterator[None]:
        """Do not count the caller while it waits."""
        self.count -= 1
        try:
            yield
        finally:
            self.count += 1


_ready_pumps: Final[RunVar[ReadyPumps]] = RunVar("procflow_ready_pumps")


def ready_pumps() -> ReadyPumps:
    """The counter of the running event loop."""
    try:
        return _ready_pumps.get()
    except LookupError:
        ready = ReadyPumps()
        _ready_pumps.set(ready)
        return ready
