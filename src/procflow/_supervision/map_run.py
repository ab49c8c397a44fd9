"""``map_run()``: many commands, a few at a time.

Owns when a command is pulled from its iterator and started, and what a failure means for the others.  Must not know how one is
run: ``run()`` does that.

One task pulls and starts, each command runs in a task of its own, and all of them belong to the block.  They never raise: what
they come to is noted in the lineup, or as the error that ends the iteration.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Final, Literal, Self, TypeAlias, TypedDict, Unpack

import anyio
import anyio.abc
from anyio.lowlevel import checkpoint

from procflow._containment.requests import ContainmentRequest
from procflow._kinds import require_int
from procflow._process.process import Process
from procflow._process.run import Orphans, run
from procflow._process.stdio.plans import NULL, OutputChoice
from procflow._streams.waking import Bell, running
from procflow._supervision.descriptors import ACCOUNT, SHORTAGES, Claim, descriptors_of
from procflow._supervision.lineup import Lineup, MapOrder
from procflow._supervision.repeatable import RepeatableStdin, require_repeatable
from procflow._supervision.values import MapResult, forget_frames
from procflow.command import Command, Pipeline
from procflow.errors import ChildError, DescriptorLimitError, PlatformError, SpawnError
from procflow.policies import Pty, Shutdown

OnError: TypeAlias = Literal["continue", "cancel_rest"]
"""What a command that fails means for the others."""

Commands: TypeAlias = "Iterable[Command | Pipeline] | AsyncIterable[Command | Pipeline]"


class RunOptions(TypedDict, total=False):
    """What ``map_run()`` passes on to ``run()``, for every command alike; the meaning and the defaults are those of ``run()``."""

    stdin: RepeatableStdin
    stdout: OutputChoice | None
    stderr: OutputChoice | None
    merge_stderr: bool
    timeout_s: float | None
    idle_timeout_s: float | None
    check: bool
    check_stdin: bool
    pty: Pty | None
    shutdown: Shutdown | None
    drain_s: float
    orphans: Orphans
    containment: ContainmentRequest


def map_run(
    commands: Commands,
    *,
    max_running: int,
    order: MapOrder = "completed",
    on_error: OnError = "continue",
    max_waiting: int | None = None,
    **options: Unpack[RunOptions],
) -> AbstractAsyncContextManager[MapResults]:
    """Return a block that runs many commands, ``max_running`` at a time, and gives their results to iterate over.

    ``async with map_run(commands, max_running=8) as results:`` and then ``async for done in results:``.  However the block is
    left, afterwards every child has ended, as with ``run()``.  Commands are started from the moment it is entered.

    Memory is bounded for an endless iterator too: at most ``max_running`` commands run, at most ``max_running + max_waiting``
    were begun and their results not taken yet, and at most one more was pulled.  Each result holds what ``run()`` keeps, 1 MiB of
    each output unless ``stdout`` and ``stderr`` say otherwise.  A start waits while the limit of open files has no room for it.

    Args:
        commands: What to run.  A synchronous iterator is asked on the event loop, and must not block.  It is not closed.
        max_running: How many may run at the same time.
        order: Whether results come as they are there (``"completed"``) or in the order of the commands (``"submitted"``).
        on_error: With ``"continue"`` an error of a command is a value like any other.  With ``"cancel_rest"`` the first one
            ends the others: what had finished before is given first, then that one, then the iteration raises its error.
        max_waiting: How many results may wait to be taken while ``max_running`` commands run; by default ``max_running``.
        options: As for ``run()``, the same for every command.  With ``check=False`` an exit other than 0 is no error.

    The iteration, not the block, raises:

    * the error of the command that failed first, with ``on_error="cancel_rest"``, after its result was given;
    * what the iterator of commands raises, or ``TypeError`` for what is no command: with ``"continue"`` after the results of all that
      runs, else at once;
    * ``DescriptorLimitError`` if not even one child fits below the limit of open files.
    """
    require_int("max_running", max_running, lowest=1)
    if max_waiting is None:
        max_waiting = max_running
    require_int("max_waiting", max_waiting, lowest=0)
    if order not in ("completed", "submitted"):
        raise ValueError(f"order must be 'completed' or 'submitted', not {order!r}")
    if on_error not in ("continue", "cancel_rest"):
        raise ValueError(f"on_error must be 'continue' or 'cancel_rest', not {on_error!r}")
    unknown = options.keys() - RunOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"map_run() cannot pass on {', '.join(sorted(map(repr, unknown)))}")
    require_repeatable(options.get("stdin", NULL))
    if not isinstance(commands, (Iterable, AsyncIterable)):
        raise TypeError(f"commands must be an iterable of commands, not {type(commands).__name__}")
    lineup: Lineup[MapResult] = Lineup(max_running=max_running, max_waiting=max_waiting, order=order)
    return _block(MapResults(commands, lineup, on_error, options))


@asynccontextmanager
async def _block(results: MapResults) -> AsyncIterator[MapResults]:
    try:
        async with running("procflow map_run") as tasks:
            results.start(tasks)
            try:
                yield results
            finally:
                results.leave()
    finally:
        results.give_back()


class MapResults:
    """What a ``map_run()`` block gives: an iterator over ``MapResult`` values.

    Several tasks may iterate: each result goes to one of them, and so does an error that ends the iteration.
    """

    def __init__(self, commands: Commands, lineup: Lineup[MapResult], on_error: OnError, options: RunOptions) -> None:
        self._commands = commands
        self._lineup = lineup
        self._on_error: Final = on_error
        self._options: Final = options
        self._error: Exception | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._scopes: set[anyio.CancelScope] = set()
        self._claims: dict[int, Claim] = {}
        self._result_bell = Bell()
        self._room_bell = Bell()
        self._is_ending = False
        self._is_left = False

    def __repr__(self) -> str:
        return f"<MapResults, {self.running_count} running, {self.waiting_count} waiting>"

    @property
    def running_count(self) -> int:
        """How many commands run now."""
        return len(self._claims)

    @property
    def waiting_count(self) -> int:
        """How many results wait to be taken."""
        return self._lineup.waiting

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> MapResult:
        await checkpoint()
        while True:
            if self._is_left:
                raise anyio.ClosedResourceError("the map_run() block was left")
            result = self._lineup.take()
            if result is not None:
                self._room_bell.ring()
                self._result_bell.ring()  # the next one may be in line now, for another task
                return result
            if self._lineup.is_over:
                error, self._error = self._error, None
                if error is not None:
                    raise error
                raise StopAsyncIteration
            await self._result_bell.sleep()

    # --- for the block ----------------------------------------------------------------------------------------------

    def start(self, tasks: anyio.abc.TaskGroup) -> None:
        """Begin to start commands."""
        self._tasks = tasks
        tasks.start_soon(self._feed, name="procflow map_run feeder")

    def leave(self) -> None:
        """Give nothing more."""
        self._is_left = True
        self._result_bell.ring()

    def give_back(self) -> None:
        """Close the claims of tasks that were torn away before they could."""
        for claim in self._claims.values():
            claim.close()
        self._claims.clear()

    # --- the work ---------------------------------------------------------------------------------------------------

    async def _feed(self) -> None:
        with self._owned_scope():
            try:
                await self._start_all()
            except Exception as error:  # noqa: BLE001 (raised by the iteration)
                self._end_with(error)
            self._lineup.close()
            self._result_bell.ring()

    async def _start_all(self) -> None:
        commands = _Pulled(self._commands)
        while True:
            await checkpoint()
            while not self._lineup.has_room:
                if self._lineup.is_closed:
                    return
                await self._room_bell.sleep()
            command = await commands.next()
            if command is None:
                return
            claim = await ACCOUNT.claim(descriptors_of(command))
            if self._lineup.is_closed:  # while this waited
                claim.close()
                return
            # No await from here on: the claim has an owner at any moment.
            number = self._lineup.begin()
            self._claims[number] = claim
            assert self._tasks is not None, "the block was entered"
            self._tasks.start_soon(self._work, number, command, name=f"procflow map_run {command.name}")

    async def _work(self, number: int, command: Command | Pipeline) -> None:
        try:
            with self._owned_scope():
                result = await self._result_of(number, command)
                if result.error is not None and self._on_error == "cancel_rest":
                    if self._lineup.fail(number, result):
                        self._error = result.error
                        self._end_rest()
                else:
                    self._lineup.finish(number, result)
        except Exception as error:  # noqa: BLE001 (raised by the iteration)
            self._end_with(error)
        finally:
            self._lineup.drop(number)
            claim = self._claims.pop(number, None)
            if claim is not None:
                claim.close()
            self._room_bell.ring()
            self._result_bell.ring()

    async def _result_of(self, number: int, command: Command | Pipeline) -> MapResult:
        """Run a command, again and again while there is no descriptor for it."""
        while True:
            ended = ACCOUNT.ended
            try:
                completed = await run(command, **self._options, on_start=partial(self._note_start, number))
            except SpawnError as error:
                if error.errno not in SHORTAGES:
                    forget_frames(error)
                    return MapResult(index=number, command=command, error=error)
                await self._make_room(number, command, ended, error)
            except (ChildError, PlatformError) as error:
                forget_frames(error)
                return MapResult(index=number, command=command, error=error)
            else:
                return MapResult(index=number, command=command, completed=completed)

    def _note_start(self, number: int, _child: Process) -> None:
        self._claims[number].started()

    async def _make_room(self, number: int, command: Command | Pipeline, ended: int, shortage: SpawnError) -> None:
        """Wait for the end of another child: somebody else took the descriptors that this one was promised."""
        self._claims[number].close()
        try:
            await ACCOUNT.wait_end(ended)
            self._claims[number] = await ACCOUNT.claim(descriptors_of(command))
        except DescriptorLimitError as error:
            raise error from shortage

    # --- the end ----------------------------------------------------------------------------------------------------

    def _end_with(self, error: Exception) -> None:
        """Let the iteration end with ``error``, which is the error of no command."""
        if self._error is None and not self._is_ending:
            self._error = error
        if self._on_error == "cancel_rest":
            self._lineup.abandon()
            self._end_rest()
        self._lineup.close()

    def _end_rest(self) -> None:
        self._is_ending = True
        for scope in tuple(self._scopes):
            scope.cancel()
        self._result_bell.ring()

    @contextmanager
    def _owned_scope(self) -> Iterator[anyio.CancelScope]:
        """A scope that ends with the rest."""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            if self._is_ending:
                scope.cancel()
            try:
                yield scope
            finally:
                self._scopes.discard(scope)


class _Pulled:
    """One command after the other, out of either kind of iterable."""

    def __init__(self, commands: Commands) -> None:
        self._async = aiter(commands) if isinstance(commands, AsyncIterable) else None
        self._sync = iter(commands) if not isinstance(commands, AsyncIterable) else iter(())

    async def next(self) -> Command | Pipeline | None:
        """Return the next command, or ``None`` after the last.

        Raises:
            TypeError: If what comes next is no command.
            Exception: Whatever the iterator raises.
        """
        command: object
        if self._async is not None:
            try:
                command = await anext(self._async)
            except StopAsyncIteration:
                return None
        else:
            try:
                command = next(self._sync)
            except StopIteration:
                return None
        if not isinstance(command, (Command, Pipeline)):
            raise TypeError(f"map_run() takes commands, not {type(command).__name__}")
        return command
