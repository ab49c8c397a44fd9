"""``spawn()``: the block that owns a process.

Owns the order of things around the fork and at the end of the block, whichever way it is left.  Must not know how a
process is stopped or reaped.

Why a class and not ``@asynccontextmanager``: a dropped generator is finalised by the event loop in some other task,
where no scope may be left; a dropped object of ours is noticed, warned about, and its group is killed.
Why the task group never sees the body's exception: it would wrap it in an ``ExceptionGroup``.  Our own tasks never
raise, so the group is left as if the block had ended normally, and the exception goes on as it is.
"""

from __future__ import annotations

import os
import warnings
import weakref
from contextlib import AbstractAsyncContextManager
from enum import Enum
from functools import partial
from types import TracebackType
from typing import Final

import anyio
import anyio.abc
from anyio.lowlevel import checkpoint

from procflow._containment.choice import NO_BACKING, needs_backing, open_backing
from procflow._containment.requests import ContainmentRequest
from procflow._process.backend import defers_interrupts, mark_for_trio
from procflow._process.core import ProcessCore
from procflow._process.parts import make_input_error
from procflow._process.process import Process
from procflow._process.recording import ACTIVE, StartRecord
from procflow._process.stand_in import stood_in
from procflow._process.start import (
    SpawnOptions,
    TerminalChoice,
    default_shutdown,
    plan,
    require_startable,
    start_process,
)
from procflow._process.stdio.plans import NULL, OutputChoice, StdinChoice
from procflow._process.terminals.lending import LENT_SESSION
from procflow._streams.consumers.crew import tell
from procflow._streams.waking import PerLoop, bare_interrupts
from procflow.command import Command, Pipeline, stages_of
from procflow.errors import ProcflowError
from procflow.outcome import EndedBy
from procflow.policies import Pty, Shutdown, StreamConfig

_STREAMED: Final = StreamConfig()

_SPAWN_GATES: Final = PerLoop("spawn_gate", partial(anyio.Lock, fast_acquire=True))


def spawn(
    command: Command | Pipeline,
    *,
    stdin: StdinChoice = NULL,
    stdout: OutputChoice | None = None,
    stderr: OutputChoice | None = None,
    merge_stderr: bool = False,
    check_stdin: bool = False,
    pty: Pty | None = None,
    terminal: TerminalChoice = "isolated",
    shutdown: Shutdown | None = None,
    containment: ContainmentRequest = "guarded",
) -> AbstractAsyncContextManager[Process]:
    """Return a block that owns a running process, or a running pipeline.

    ``async with spawn(command) as child:`` starts it in a session and group of its own.  A pipeline, or what is lent the
    host's terminal, has a group of its own in the session of the host.  However the block is left,
    afterwards nothing of its group is alive, the leader is reaped and every descriptor is closed, within
    ``shutdown.total_s`` + 200 ms, and the longest ``finish_s`` of its consumers.  An exception of the body goes on as it is.

    Args:
        command: What to run.  The first stage of a pipeline reads ``stdin``, the last one writes ``stdout``, and each has a
            ``stderr`` of its own: ``child.stages[0].stderr``.
        stdin: ``NULL`` (the default), ``INHERIT``, ``PIPE`` (then write to ``child.stdin``); bytes or a text (UTF-8) to feed; a path
            (``pathlib.Path``), a file or a descriptor; or a synchronous or asynchronous iterable of bytes.
        stdout: How standard output is streamed, by default ``StreamConfig()``; or ``NULL``, ``INHERIT``, a path
            (``pathlib.Path``), a file or a descriptor: then no byte of it passes through Python.
        stderr: The same for standard error.
        merge_stderr: Whether standard error goes where standard output goes, in the order of the kernel.
        check_stdin: Whether it is an error if the child was not given all of its input, because it stopped reading.
        pty: A terminal of its own for the child: ``child.stdin`` writes to it, ``child.stdout`` is all that comes out of it.
        terminal: With ``"shared"`` the child is lent the host's terminal until it exits, and reads it unless ``stdin`` is given:
            for what asks for a password.  One child at a time; keep the host from reading the terminal meanwhile.
        shutdown: How the block ends what still runs; by default ``Shutdown.sigterm()``, with a pty ``Shutdown.hangup()``.
        containment: How far termination shall reach; ``child.containment`` says how far it does.

    Raises:
        SpawnError: On entry, if the operating system refuses to start it, or to open a file for it.
        PlatformError: On entry, if there is no terminal to lend, or the C library cannot start a child on a pty.
        InputError: On leaving, if what was given as ``stdin`` failed, or with ``check_stdin=True``; as a note if another
            exception propagates.
        TerminationError: On leaving, if something outlived every attempt; as a note if another exception propagates.
        ConsumerError: On leaving, if a consumer failed that nobody has waited for, or was cut; as a note likewise.
    """
    return SpawnScope(
        command,
        SpawnOptions(
            stdio=plan(stdin, stdout, stderr, merge_stderr=merge_stderr, pty=pty, terminal=terminal, default=_STREAMED),
            shutdown=shutdown if shutdown is not None else default_shutdown(pty),
            containment=containment,
            terminal=terminal,
            checks_stdin=check_stdin,
        ),
    )


class _Place(Enum):
    """Where a block was left, if not in its own task; the value says so in a warning."""

    OTHER_TASK = "was left in another task than it was entered in"
    NOWHERE = "was thrown away with its event loop"
    DROPPED = "was dropped without being left"


class SpawnScope(AbstractAsyncContextManager[Process]):
    """The block around one process; may be entered once."""

    def __init__(self, command: Command | Pipeline, options: SpawnOptions) -> None:
        require_startable(command, options)
        self._command = command
        self._options = options
        self._tasks: anyio.abc.TaskGroup | None = None
        self.core: ProcessCore | None = None
        self._entered_in: int = 0
        self._escape: weakref.finalize[[ProcessCore], SpawnScope] | None = None
        mark_for_trio()

    @defers_interrupts
    async def __aenter__(self) -> Process:
        if self._tasks is not None:
            raise RuntimeError("a spawn() block can be entered once")
        record = self._begin_record()
        try:
            return Process(await self._start(record))
        except BaseException as exc:
            if record is not None:
                record.failed(exc)
            raise

    def _begin_record(self) -> StartRecord | None:
        recording = ACTIVE.get()
        if recording is None:
            return None
        options = self._options
        return StartRecord(
            recording,
            stages_of(self._command),
            timeout_s=options.timeout_s,
            is_streamed=options.stdio.is_streamed,
        )

    async def _start(self, record: StartRecord | None) -> ProcessCore:
        options, backing = stood_in(self._options), NO_BACKING
        if needs_backing(options.containment):
            obstacle = LENT_SESSION if options.terminal == "shared" else ""
            program = os.fsdecode(stages_of(self._command)[0].program)
            backing = await open_backing(options.containment, program=program, obstacle=obstacle)
        try:
            # One spawn a turn of the loop, at most: a burst of them must not stall everything else.
            async with _SPAWN_GATES.get():
                await checkpoint()
                self._tasks = anyio.create_task_group()
                await self._tasks.__aenter__()
                # C-3: no await from here to the return, so no cancellation can fall between the fork and the handle.
                try:
                    core = start_process(self._command, options, self._tasks, backing, record)
                except BaseException:
                    await _leave(self._tasks)
                    raise
                self.core = core
                self._entered_in = anyio.get_current_task().id
                self._escape = weakref.finalize(self, _escaped, core)
        except BaseException:
            backing.close()
            raise
        return core

    @defers_interrupts
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        core, tasks, escape = self.core, self._tasks, self._escape
        if core is None or tasks is None or escape is None:
            raise RuntimeError("the spawn() block was not entered")
        foreign = self._foreign_place()
        if foreign is not None:
            escape.detach()
            _give_up(core, foreign, from_outside=foreign is _Place.NOWHERE)
            return
        error: ProcflowError | None = None
        is_cancelled = exc is not None and isinstance(exc, anyio.get_cancelled_exc_class())
        cause = EndedBy.CANCEL if is_cancelled else EndedBy.SCOPE
        try:
            if core.is_at_rest:
                error = await core.close(cause)
            else:
                with anyio.CancelScope(shield=True):
                    error = await core.close(cause)
        except BaseException:  # interrupted by force: a second Ctrl-C, or asyncio cancelling the task once more
            core.abandon(cause)
            raise
        finally:
            escape.detach()
            await _leave(tasks)
        input_error = make_input_error(core.parts, core.outcome) if core.parts.stdin is not None else None
        if error is None:
            error = input_error
        elif error.__cause__ is None:
            error.__cause__ = input_error
        tell([*([error] if error is not None else []), *core.crew.unseen()], exc)

    def _foreign_place(self) -> _Place | None:
        """Where the block is being left, if not in its own task: nothing may be awaited there."""
        try:
            is_own = anyio.get_current_task().id == self._entered_in
        except anyio.NoEventLoopError:
            return _Place.NOWHERE
        return None if is_own else _Place.OTHER_TASK


async def _leave(tasks: anyio.abc.TaskGroup) -> None:
    """Leave the task group; a Ctrl-C that hit one of its tasks leaves as itself, not in a group."""
    with bare_interrupts():
        await tasks.__aexit__(None, None, None)


@defers_interrupts
def _escaped(core: ProcessCore) -> None:
    _give_up(core, _Place.DROPPED, from_outside=True)


def _give_up(core: ProcessCore, place: _Place, *, from_outside: bool) -> None:
    """Kill what nobody will wait for, then warn: in this order, because a warning may be made an exception."""
    is_harmless, text = core.is_out_of_reach, f"the spawn() block of {core!r} {place.value}"
    core.abandon(from_outside=from_outside)
    if not is_harmless:
        warnings.warn(
            f"{text}, and its group was killed; leave the block where it was entered, or call detach()",
            ResourceWarning,
            stacklevel=3,
        )
