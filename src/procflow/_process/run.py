"""``run()``: one process from its start to a collected result.

Owns deadlines, the drain and what happens to orphans.  Must not know how a process is stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import anyio

from procflow._containment.requests import ContainmentRequest
from procflow._process.core import ProcessCore
from procflow._process.parts import captured, make_input_error
from procflow._process.process import Process
from procflow._process.scope import SpawnScope
from procflow._process.start import SpawnOptions, TerminalChoice, default_shutdown, plan
from procflow._process.state import ProcessState
from procflow._process.stdio.plans import NULL, OutputChoice, StdinChoice
from procflow._streams.waking import Flag
from procflow.command import Command, Pipeline
from procflow.errors import EndedError, ExitError, InputError, TerminationError, TimedOut
from procflow.events import StreamEnding
from procflow.outcome import Completed, EndedBy, Outcome
from procflow.policies import MIB, Pty, Replay, Shutdown, StreamConfig

KEPT_BYTES: Final = 1 * MIB
DRAIN_S: Final = 0.5

IDLE_SAMPLING: Final = 0.05
"""The share of ``idle_timeout_s`` after which the outputs are looked at again."""

FIRST_POLL_S: Final = 0.001
LAST_POLL_S: Final = 0.02

_Clock: TypeAlias = Literal["wall", "idle"]
_CAUSES: Final[Mapping[_Clock, EndedBy]] = {"wall": EndedBy.TIMEOUT, "idle": EndedBy.IDLE_TIMEOUT}

Orphans: TypeAlias = Literal["kill", "leave", "wait"]
"""What ``run()`` does with members of the group that outlive the leader and the drain."""


def kept_output(max_bytes: int = KEPT_BYTES) -> StreamConfig:
    """Return the configuration with which ``run()`` keeps the newest ``max_bytes`` of an output."""
    return StreamConfig(replay=Replay.last_bytes(max_bytes))


_KEPT: Final = kept_output()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    timeout_s: float | None
    idle_timeout_s: float | None
    drain_s: float
    orphans: Orphans

    def __post_init__(self) -> None:
        for name, value in (("timeout_s", self.timeout_s), ("idle_timeout_s", self.idle_timeout_s)):
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive, not {value}")
        if self.drain_s < 0:
            raise ValueError(f"drain_s must not be negative, not {self.drain_s}")
        if self.orphans not in ("kill", "leave", "wait"):
            raise ValueError(f"orphans must be 'kill', 'leave' or 'wait', not {self.orphans!r}")


async def run(
    command: Command | Pipeline,
    *,
    stdin: StdinChoice = NULL,
    stdout: OutputChoice | None = None,
    stderr: OutputChoice | None = None,
    merge_stderr: bool = False,
    timeout_s: float | None = None,
    idle_timeout_s: float | None = None,
    check: bool = True,
    check_stdin: bool = False,
    pty: Pty | None = None,
    terminal: TerminalChoice = "isolated",
    shutdown: Shutdown | None = None,
    drain_s: float = DRAIN_S,
    orphans: Orphans = "kill",
    containment: ContainmentRequest = "guarded",
    on_start: Callable[[Process], object] | None = None,
) -> Completed:
    """Run ``command`` to its end and return its outcome with the newest 1 MiB of each output.

    Returns at most ``drain_s`` + 200 ms after the leader's exit, unless ``orphans="wait"``, although others may still
    hold its pipes; then ``outcome.output_complete`` is false.  A cancellation ends the whole tree before it propagates.

    Args:
        command: What to run: a command, or a pipeline, whose leader are all of its stages.  With ``check=True`` it fails if a
            stage fails, except for SIGPIPE in a stage whose reader had enough.
        stdin: ``NULL`` (the default), ``INHERIT``; bytes or a text (UTF-8) to feed; a path (``pathlib.Path``), a file or a descriptor; or
            a synchronous or asynchronous iterable of bytes.  ``PIPE`` is closed at once.
        stdout: Another ``StreamConfig`` keeps more or less (its replay is what is kept); or ``NULL``, ``INHERIT``, a path
            (``pathlib.Path``), a file or a descriptor: then no byte of it passes through Python.
        stderr: The same for standard error.
        merge_stderr: Whether standard error goes where standard output goes, in the order of the kernel.
        timeout_s: The most that it may take up to the leader's exit.
        idle_timeout_s: The longest silence of its outputs; noticed at most 5 % later.
        check: Whether an exit other than 0 raises.
        check_stdin: Whether it is an error if the child was not given all of its input, because it stopped reading.
        pty: A terminal of its own for the child; ``stdout`` is all that comes out of it.
        terminal: With ``"shared"`` the child is lent the host's terminal, as with ``spawn()``.
        shutdown: How the tree is ended when a deadline passes or the call is cancelled; by default ``Shutdown.sigterm()``,
            with a pty ``Shutdown.hangup()``.
        drain_s: How long to wait for the end of the outputs once the leader has exited.
        orphans: What happens after the drain to members of the group that outlived the leader: ``"kill"``, ``"leave"``
            (they lose the pipes), or ``"wait"`` for their end, within the deadlines.
        containment: How far termination shall reach.
        on_start: Called once with the running process, right after it was started.  What it raises ends the process and goes on.

    Raises:
        SpawnError: If it cannot be started, or a file cannot be opened for it.
        InputError: If what was given as ``stdin`` failed: then the tree was stopped; or with ``check_stdin=True``.
        ExitError: With ``check=True``, if it did not exit with 0.  Carries the outcome and the output.
        TimedOut: If a deadline passed; the tree was ended first.  Carries the outcome and all output so far.
        TerminationError: If something outlived every attempt to end it.
    """
    stdio = plan(stdin, stdout, stderr, merge_stderr=merge_stderr, pty=pty, terminal=terminal, default=_KEPT)
    if idle_timeout_s is not None and not stdio.is_streamed:
        raise ValueError("idle_timeout_s needs an output that is a stream: without one everything looks silent")
    limits = _Limits(timeout_s=timeout_s, idle_timeout_s=idle_timeout_s, drain_s=drain_s, orphans=orphans)
    shutdown = shutdown if shutdown is not None else default_shutdown(pty)
    scope = SpawnScope(
        command,
        SpawnOptions(
            stdio=stdio,
            shutdown=shutdown,
            containment=containment,
            terminal=terminal,
            timeout_s=timeout_s,
            checks_stdin=check_stdin,
            keeps_leader=True,
        ),
    )
    return await run_scope(scope, limits, check=check, on_start=on_start)


async def run_scope(
    scope: SpawnScope, limits: _Limits, *, check: bool, on_start: Callable[[Process], object] | None = None
) -> Completed:
    """Enter ``scope``, see its process through to the end, and return or raise what ``run()`` promises."""
    clock: _Clock | None = None
    failure: TerminationError | None = None
    core: ProcessCore | None = None
    try:
        async with scope as process:
            core = scope.core
            assert core is not None, "an entered scope has a process"
            core.awaited_by = "run()"
            if on_start is not None:
                on_start(process)
            if core.parts.feeder is None:
                core.close_stdin()
            clock = await _see_through(core, limits)
            if clock is not None:
                await core.stop(core.shutdown, _CAUSES[clock])
    except TerminationError as exc:
        failure = exc
    except InputError:
        pass  # made again below, with the outputs
    outcome = core.outcome if core is not None else None
    if core is None or outcome is None:
        assert failure is not None, "only a leader that cannot be ended has no outcome"
        raise failure
    done = _collect(core, outcome)
    error = _error_of(core, done, clock, limits, check=check)
    if failure is not None:
        raise failure from error
    if error is not None:
        raise error
    return done


def _collect(core: ProcessCore, outcome: Outcome) -> Completed:
    stages = tuple(
        Completed(outcome=ending, stdout=captured(stage.ends.stdout.stream), stderr=captured(stage.ends.stderr.stream))
        for stage, ending in zip(core.parts.stages, outcome.stages, strict=False)
    )
    stderr = stages[outcome.decided_by].stderr if outcome.decided_by is not None else captured(core.parts.stderr)
    return Completed(outcome=outcome, stdout=captured(core.parts.stdout), stderr=stderr, stages=stages)


def _error_of(
    core: ProcessCore, done: Completed, clock: _Clock | None, limits: _Limits, *, check: bool
) -> EndedError | None:
    """Return what is to be raised instead of returning ``done``."""
    outcome, stdout, stderr = done.outcome, done.stdout, done.stderr
    input_error = make_input_error(core.parts, outcome, stdout=stdout, stderr=stderr)
    error: EndedError | None = input_error
    if outcome.ended_by is EndedBy.INPUT:
        pass
    elif clock is not None:
        limit_s = limits.timeout_s if clock == "wall" else limits.idle_timeout_s
        error = TimedOut(
            _timeout_text(outcome, clock, limit_s or 0.0),
            clock=clock,
            timeout_s=limit_s or 0.0,
            outcome=outcome,
            stdout=stdout,
            stderr=stderr,
        )
    elif check and not outcome.ok:
        error = ExitError(str(outcome), outcome=outcome, stdout=stdout, stderr=stderr)
    if error is not None:
        error.stages = done.stages
        if input_error is not None and error is not input_error:
            error.add_note(str(input_error))
    return error


async def _see_through(core: ProcessCore, limits: _Limits) -> _Clock | None:
    """Wait for the exit, the drain and the orphans; return the clock that ran out before that."""
    watch = _DeadlineWatch(core, limits)
    clock = await watch.wait_until(lambda: core.has_exited, core.exited)
    if clock is not None:
        return clock
    if core.state is ProcessState.STOPPING:  # its input has failed
        await core.stop(core.shutdown, EndedBy.INPUT)
        return None
    if limits.orphans == "wait":
        clock = await watch.wait_until(lambda: _is_over(core), None)
        if clock is not None:
            return clock
    elif any(stream.ending is None for stream in core.streams):
        with anyio.move_on_after(limits.drain_s):
            for stream in core.streams:
                await stream.wait_ended()
    if any(stream.ending is not StreamEnding.EOF for stream in core.streams):
        core.note_cut_output()
    if limits.orphans == "leave":
        await core.let_go()
    else:
        core.sweep()
    return None


def _is_over(core: ProcessCore) -> bool:
    return all(stream.ending is not None for stream in core.streams) and not core.has_living_members()


class _DeadlineWatch:
    """Waits for one thing while two clocks run: the wall's, and the time since the last output."""

    def __init__(self, core: ProcessCore, limits: _Limits) -> None:
        self._core = core
        self._limits = limits
        self._produced = 0
        self._started_s = core.started_s
        self._active_s = self._started_s

    async def wait_until(self, is_done: Callable[[], bool], event: Flag | None) -> _Clock | None:
        """Return ``None`` once ``is_done()``, or the clock that ran out; looks when ``event`` is set, or else by polling."""
        tick_s = FIRST_POLL_S
        while not is_done():
            clock, left_s = self._next_deadline(anyio.current_time())
            if left_s <= 0:
                return clock
            if event is None:
                await anyio.sleep(min(left_s, tick_s))
                tick_s = min(tick_s * 2, LAST_POLL_S)
            elif left_s == math.inf:
                await event.wait()
            else:
                with anyio.move_on_after(left_s):
                    await event.wait()
        return None

    def _next_deadline(self, now: float) -> tuple[_Clock | None, float]:
        left: list[tuple[float, _Clock | None]] = [(math.inf, None)]
        if self._limits.timeout_s is not None:
            left.append((self._started_s + self._limits.timeout_s - now, "wall"))
        idle_s = self._limits.idle_timeout_s
        if idle_s is not None:
            produced = sum(stream.produced_bytes for stream in self._core.streams)
            if produced != self._produced:
                self._produced, self._active_s = produced, now
            idle_left_s = self._active_s + idle_s - now
            left.append((idle_left_s if idle_left_s <= 0 else min(idle_left_s, idle_s * IDLE_SAMPLING), "idle"))
        left_s, clock = min(left, key=lambda pair: pair[0])
        return clock, left_s


def _timeout_text(outcome: Outcome, clock: _Clock, limit_s: float) -> str:
    text = f"{outcome.name} {'took longer than' if clock == 'wall' else 'wrote nothing for'} {limit_s:g} s"
    if outcome.ended_by is EndedBy.ITSELF:  # and was outlived by what it had started, or won a race by a hair
        return f"{text}, although its leader {outcome.described}"
    return f"{text} and was stopped: it {outcome.described}"
