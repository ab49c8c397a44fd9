"""The one seam between streams and the event loop.

Owns the bell that tasks sleep on, what is asked of a loop that calls back, the way into a loop from a foreign thread, tasks
beside a block, and whose a cancellation is.  Must not know streams.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

import anyio
from anyio import NoEventLoopError
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint, current_token

T = TypeVar("T")


class Sleeper(Protocol):
    """A future of asyncio, by what is needed of it."""

    def done(self) -> bool: ...
    def set_result(self, result: None, /) -> None: ...
    def __await__(self) -> Generator[Any, None, None]: ...


class Timer(Protocol):
    """What a callback loop gives for a planned call."""

    def cancel(self) -> object: ...


class CallbackLoop(Protocol):
    """An event loop that calls back by itself: asyncio's and uvloop's, known by what they can do, never by import."""

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> object: ...
    def remove_reader(self, fd: int, /) -> object: ...
    def add_writer(self, fd: int, callback: Callable[[], object], /) -> object: ...
    def remove_writer(self, fd: int, /) -> object: ...
    def call_soon(self, callback: Callable[[], object], /) -> Timer: ...
    def call_later(self, delay_s: float, callback: Callable[[], object], /) -> Timer: ...
    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer: ...
    def create_future(self) -> Sleeper: ...
    def time(self) -> float: ...


def native_loop() -> object:
    """What the running event loop is known by: ``current_token().native_token``, for a quarter of its price on asyncio.

    Raises:
        anyio.NoEventLoopError: If the caller runs in no task.
    """
    try:
        if asyncio.current_task() is not None and not _is_in_trio():
            return asyncio.get_running_loop()
    except RuntimeError:  # no loop of asyncio
        pass
    return current_token().native_token


def _is_in_trio() -> bool:
    """Whether trio runs in this thread, called by a task of asyncio; taken as it is found, not imported."""
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    return lowlevel is not None and bool(lowlevel.in_trio_run())


def callback_loop() -> CallbackLoop | None:
    """The running event loop if it calls back; ``None`` if it runs tasks only, as trio does."""
    token = native_loop()
    return cast(CallbackLoop, token) if hasattr(token, "add_reader") else None


def is_being_cancelled() -> bool:
    """Whether a cancellation that the current task has just caught is one of that task.

    On asyncio code of others can let the cancellation of another task escape (``await cancelled_task``); for anyio that would
    be the end of the whole task group.  On trio nobody can.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:  # trio
        return True
    return task is None or task.cancelling() > 0


class Bell:
    """Wakes every task that sleeps on it; costs one comparison while nobody does.

    There is no memory: a task looks at the state, and sleeps only if there is nothing, with no await in between.  So no
    ring can be missed.  All sleepers belong to one event loop.
    """

    __slots__ = ("_call", "_event", "_loop", "_sleepers")

    def __init__(self) -> None:
        self._loop: CallbackLoop | None = None
        self._sleepers: list[Sleeper] = []  # on a callback loop, where a bare future costs a quarter of an event
        self._event: anyio.Event | None = None  # elsewhere
        self._call: Callable[[], object] | None = None

    @property
    def sleepers(self) -> int:
        """How many tasks a ring would wake; 1 for any number where the loop does not call back."""
        return len(self._sleepers) + (self._event is not None)

    def ring(self) -> None:
        """Wake every task that sleeps now."""
        if self._sleepers:
            sleepers, self._sleepers = self._sleepers, []
            for sleeper in sleepers:
                _wake(sleeper)
        if self._event is not None:
            event, self._event = self._event, None
            event.set()
        if self._call is not None:
            call, self._call = self._call, None
            call()

    def call_next(self, function: Callable[[], object]) -> None:
        """Let the next ring call ``function`` once, in place of a sleeper."""
        self._call = function

    def add(self, sleeper: Sleeper) -> None:
        """Let the next ring wake ``sleeper``."""
        self._sleepers.append(sleeper)

    def discard(self, sleeper: Sleeper) -> None:
        """Wake ``sleeper`` no more."""
        if sleeper in self._sleepers:
            self._sleepers.remove(sleeper)

    async def sleep(self) -> None:
        """Sleep until the next ring."""
        if self._loop is None and self._event is None:
            self._loop = callback_loop()
        if self._loop is not None:
            sleeper = self._loop.create_future()
            self._sleepers.append(sleeper)
            try:
                await sleeper
            except BaseException:
                if sleeper in self._sleepers:
                    self._sleepers.remove(sleeper)
                raise
            return
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()


class Flag:
    """Is set once and for good, and then wakes every task that waits for that.  What an event does, and made for nothing."""

    __slots__ = ("_bell", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._bell: Bell | None = None

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._is_set

    def set(self) -> None:
        """Set it and wake everybody; idempotent."""
        self._is_set = True
        bell, self._bell = self._bell, None
        if bell is not None:
            bell.ring()

    async def wait(self) -> None:
        """Return once it is set; passes a checkpoint."""
        if self._is_set:
            await checkpoint()
        while not self._is_set:
            if self._bell is None:
                self._bell = Bell()
            await self._bell.sleep()

    async def wait_within(self, limit_s: float) -> None:
        """Return once it is set, or after ``limit_s``; passes a checkpoint.

        On a callback loop a bare timer does it, which costs a tenth of a cancel scope with a deadline.
        """
        loop = callback_loop()
        if loop is None or self._is_set:
            with anyio.move_on_after(limit_s):
                await self.wait()
            return
        if self._bell is None:
            self._bell = Bell()
        bell, sleeper = self._bell, loop.create_future()
        bell.add(sleeper)
        timer = loop.call_later(limit_s, partial(_wake, sleeper))
        try:
            await sleeper
        finally:
            timer.cancel()
            bell.discard(sleeper)


def _wake(sleeper: Sleeper) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


class _EventSleeper:
    """What ``Sleeper`` needs, on a loop without futures."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = anyio.Event()

    def done(self) -> bool:
        return self._event.is_set()

    def set_result(self, _result: None, /) -> None:
        self._event.set()

    def __await__(self) -> Generator[Any, None, None]:
        return self._event.wait().__await__()


async def sleep_on(bells: Iterable[Bell]) -> None:
    """Sleep until one of ``bells`` rings."""
    loop = callback_loop()
    sleeper: Sleeper = loop.create_future() if loop is not None else _EventSleeper()
    for bell in bells:
        bell.add(sleeper)
    try:
        await sleeper
    finally:
        for bell in bells:
            bell.discard(sleeper)


@asynccontextmanager
async def running(name: str, *functions: Callable[[], Coroutine[Any, Any, object]]) -> AsyncIterator[TaskGroup]:
    """Run ``functions`` in tasks called ``name`` beside the block, and cancel them when it is left.  Gives the group of them.

    What the block raises, ``SystemExit`` included, leaves it as it is: the task group, which would wrap it, does not see it.
    So does a Ctrl-C that hits one of the tasks.
    """
    failure: BaseException | None = None
    with bare_interrupts():
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


@contextmanager
def bare_interrupts() -> Iterator[None]:
    """Around a task group: let a Ctrl-C that hit one of its tasks leave as itself, not in a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        interrupt = _first_interrupt(group)
        if interrupt is None:
            raise
        raise interrupt from None


def _first_interrupt(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    # Our tasks never raise: what is no Exception was thrown into them by a signal handler, or by code of the caller.
    for exc in group.exceptions:
        found = _first_interrupt(exc) if isinstance(exc, BaseExceptionGroup) else exc
        if found is not None and not isinstance(found, (Exception, anyio.get_cancelled_exc_class())):
            return found
    return None


class _AsyncioLoop(Protocol):
    def call_soon_threadsafe(self, callback: Callable[[], object]) -> object: ...


class _TrioToken(Protocol):
    def run_sync_soon(self, callback: Callable[[], object]) -> object: ...


class LoopDoor:
    """Lets any thread, and any finalizer, run a function on the event loop that was running when this was made."""

    __slots__ = ("_run_soon", "_token")

    def __init__(self) -> None:
        self._token = token = native_loop()
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
            return native_loop() is self._token
        except NoEventLoopError:
            return False

    @property
    def loop(self) -> CallbackLoop | None:
        """That loop if it calls back, as ``callback_loop()`` has it."""
        return cast(CallbackLoop, self._token) if hasattr(self._token, "add_reader") else None

    @property
    def is_running(self) -> bool:
        """Whether that loop runs now; true on trio, where a loop that does not is gone."""
        return not isinstance(self._token, asyncio.AbstractEventLoop) or self._token.is_running()

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


class PerLoop(Generic[T]):
    """One value for each event loop, made when that loop asks for it first."""

    __slots__ = ("_make", "_values", "name")

    def __init__(self, name: str, make: Callable[[], T]) -> None:
        self.name: Final = name
        self._values: WeakKeyDictionary[object, T] = WeakKeyDictionary()
        self._make = make

    def __repr__(self) -> str:
        return f"<PerLoop {self.name!r}, {len(self._values)} loops>"

    def get(self) -> T:
        """Return the value of the running event loop."""
        return self.of(native_loop())

    def of(self, loop: object) -> T:
        """Return the value of ``loop``, which is the running one as ``native_loop()`` or ``callback_loop()`` gave it."""
        try:
            return self._values[loop]
        except KeyError:
            value = self._values[loop] = self._make()
            return value
