"""The start of a process: of one command, or of all stages of a pipeline.

Owns the order of things around the forks.  Must not know who asked, nor what becomes of the process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal as _signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final, Literal, TypeAlias

import anyio.abc

from procflow._containment.choice import NO_BACKING, Backing, needs_backing
from procflow._containment.group.container import GroupContainer
from procflow._containment.group.pipeline import PipelineContainer
from procflow._containment.group.session import SessionContainer
from procflow._containment.port import Container
from procflow._containment.requests import ContainmentRequest, named_request
from procflow._observers import emit, observers
from procflow._process.backend import defers_interrupts
from procflow._process.core import ProcessCore
from procflow._process.leader import LeaderPort
from procflow._process.parts import Parts, StageParts
from procflow._process.pipelines.connect import open_stages
from procflow._process.pipelines.pipeline import SHARED_SESSION, PipelineLeader
from procflow._process.recording import RecordedCall, StartRecord
from procflow._process.spawn import GroupChoice, PopenSpawner, Spawner, SpawnRequest
from procflow._process.stdio.ends import Ends, Opening, StdioPlan
from procflow._process.stdio.plans import INHERIT, NULL, OutputChoice, StdinChoice, plan_stdio
from procflow._process.stopping.last_resort import kill_now
from procflow._process.terminals.lending import LENT_SESSION, LentTerminal
from procflow._process.terminals.pty import OnPty, plan_pty
from procflow.command import Command, Pipeline, child_environment, revealed_arguments, stages_of
from procflow.errors import SpawnError, UsageError
from procflow.observation import Spawned
from procflow.policies import Pty, Shutdown, StreamConfig, Target

_DEFAULT_SPAWNER: Final = PopenSpawner()

# Frozen values, which are checked when they are made: once is enough.
_SIGTERM: Final = Shutdown.sigterm()
_HANGUP: Final = Shutdown.hangup()

TerminalChoice: TypeAlias = Literal["isolated", "shared"]
"""Whether a child has nothing to do with the host's terminal, or is lent it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnOptions:
    """Everything about a spawn that is not the command."""

    stdio: StdioPlan
    shutdown: Shutdown = field(default_factory=Shutdown.sigterm)
    containment: ContainmentRequest = "guarded"
    terminal: TerminalChoice = "isolated"
    spawner: Spawner = _DEFAULT_SPAWNER
    container: Container | None = None
    timeout_s: float | None = None
    """What the caller will give it; only told to a record."""

    checks_stdin: bool = False
    """Whether it is an error if the child was not given all of its input."""

    keeps_leader: bool = False
    """Leave an exited leader unreaped until somebody decides about its group."""

    def __post_init__(self) -> None:
        named_request(self.containment)
        if self.terminal not in ("isolated", "shared"):
            raise ValueError(f"terminal must be 'isolated' or 'shared', not {self.terminal!r}")
        if self.terminal == "shared" and self.containment != "best" and needs_backing(self.containment):
            raise UsageError("a strict child cannot be lent the host's terminal, which belongs to the host's session")
        if self.terminal == "shared" and isinstance(self.stdio, OnPty):
            raise UsageError("a child has either a terminal of its own (pty=) or the host's (terminal='shared')")


def plan(
    stdin: StdinChoice,
    stdout: OutputChoice | None,
    stderr: OutputChoice | None,
    *,
    merge_stderr: bool,
    pty: Pty | None,
    terminal: TerminalChoice,
    default: StreamConfig,
) -> StdioPlan:
    """Return the plan for what ``spawn()`` and ``run()`` are asked for; ``None`` stands for ``default``.

    On a terminal nothing to read, the default everywhere else, means the terminal.
    """
    if pty is not None:
        return plan_pty(pty, stdin, stdout, stderr, merge_stderr=merge_stderr, default=default)
    if terminal == "shared" and stdin is NULL:
        stdin = INHERIT
    return plan_stdio(stdin, stdout, stderr, merge_stderr=merge_stderr, default=default)


def default_shutdown(pty: Pty | None) -> Shutdown:
    """Return how a child is stopped if nothing else is asked for."""
    return _SIGTERM if pty is None else _HANGUP


def require_startable(command: Command | Pipeline, options: SpawnOptions) -> None:
    """Raise unless ``command`` can be started with ``options``, as far as that can be told beforehand."""
    if not isinstance(command, (Command, Pipeline)):
        raise TypeError(f"a Command is needed, not {type(command).__name__}; a text for a shell goes through shell()")
    if isinstance(options.stdio, OnPty):
        if isinstance(command, Pipeline):
            raise UsageError(
                "the stages of a pipeline cannot share a terminal of their own: pty= is for a single command"
            )
        if command.umask is not None:
            raise UsageError("a umask cannot be set for a child on a pty")


@defers_interrupts
def start_process(
    command: Command | Pipeline,
    options: SpawnOptions,
    tasks: anyio.abc.TaskGroup,
    backing: Backing = NO_BACKING,
    record: StartRecord | None = None,
) -> ProcessCore:
    """Open the pipes, fork, register the handle and start its tasks: all of it synchronous.

    ``backing`` is the container's, or closed.  ``record`` is told of each stage, its caller tells it of a failure.

    Raises:
        SpawnError: If the process, or a stage of it, cannot be started; then nothing is left behind.
        PlatformError: If the host has no terminal to lend.
        UsageError: If the terminal is lent already.
    """
    theirs: list[int] = []  # what only the child keeps
    on_failure: list[Callable[[], object]] = []
    try:
        return _start(command, options, tasks, backing, record, theirs, on_failure)
    except BaseException:
        with ExitStack() as unwinding:
            for step in on_failure:
                unwinding.callback(step)
        raise
    finally:
        _close_each(theirs)


def _start(
    command: Command | Pipeline,
    options: SpawnOptions,
    tasks: anyio.abc.TaskGroup,
    backing: Backing,
    record: StartRecord | None,
    theirs: list[int],
    on_failure: list[Callable[[], object]],
) -> ProcessCore:
    commands = stages_of(command)
    container = options.container or _make_container(options, backing, is_pipeline=len(commands) > 1)
    spawner = backing.spawner(options.spawner)
    on_failure.append(container.close)
    loan = _borrow_terminal(options, on_failure)
    all_ends = _open_ends(commands, options.stdio, theirs, on_failure)
    if record is not None:
        record.require_free_stdout(all_ends[-1])
    stages: list[StageParts] = []
    whole: LeaderPort | None = None
    for stage, ends in zip(commands, all_ends, strict=True):
        call = record.call_of(len(stages)) if record is not None else None
        started_at, started_mono_s = datetime.now(UTC), time.monotonic()
        group = _next_group(whole, options, is_pipeline=len(commands) > 1)
        try:
            leader, leads = _spawn(spawner, _request(stage, ends, _additions(container, call), group))
        except SpawnError as exc:
            if len(commands) > 1:
                exc.note_stage(len(stages) + 1, len(commands))
            raise
        if whole is None:
            whole = leader if len(commands) == 1 else PipelineLeader(leader)
            on_failure.append(partial(_discard, whole, container))
            container.bind(whole)
        elif isinstance(whole, PipelineLeader):
            (whole.lead_on if leads else whole.join)(leader)
            if leads:
                container.bind(whole)
        if call is not None:
            call.spawned(leader.pid)
        if observers:
            emit(Spawned, name=stage.name, pid=leader.pid, containment=container.report)
        if loan is not None and leads:
            loan.hand_over(leader.pid)
        stages.append(
            StageParts(
                name=stage.name,
                leader=leader,
                ends=ends,
                started_at=started_at,
                started_mono_s=started_mono_s,
                call=call,
            )
        )
    assert whole is not None, "there is at least one stage"
    if loan is not None:  # whoever read the terminal before it was handed over was stopped
        with contextlib.suppress(OSError):
            container.signal(_signal.SIGCONT, Target.TREE)
    parts = Parts(
        name=command.name,
        leader=whole,
        stages=tuple(stages),
        container=container,
        checks_stdin=options.checks_stdin,
        loan=loan,
    )
    core = ProcessCore(parts, shutdown=options.shutdown, tasks=tasks, keeps_leader=options.keeps_leader)
    on_failure.append(core.stop_watching)
    core.start_tasks()
    return core


def _borrow_terminal(options: SpawnOptions, on_failure: list[Callable[[], object]]) -> LentTerminal | None:
    if options.terminal != "shared":
        return None
    loan = LentTerminal()
    on_failure.append(partial(loan.take_back, restores_modes=False))
    return loan


def _open_ends(
    commands: tuple[Command, ...], stdio: StdioPlan, theirs: list[int], on_failure: list[Callable[[], object]]
) -> tuple[Ends, ...]:
    """Open the ends of every stage."""
    openings = [
        Opening(stage.name, os.fsdecode(stage.program), theirs=theirs, on_failure=on_failure) for stage in commands
    ]
    try:
        return open_stages(stdio, openings)
    except OSError as exc:
        reason = f"its pipes cannot be opened: {exc.strerror}"
        raise SpawnError(program=os.fsdecode(commands[0].program), reason=reason, errno=exc.errno) from exc


def _make_container(options: SpawnOptions, backing: Backing, *, is_pipeline: bool) -> Container:
    base = _make_base(options, is_pipeline=is_pipeline, has_nanny=backing.nanny is not None)
    # What a fake has started has no number that anybody could be told.
    return backing.contain(options.containment, base) if isinstance(options.spawner, PopenSpawner) else base


def _make_base(options: SpawnOptions, *, is_pipeline: bool, has_nanny: bool) -> Container:
    """Return what reaches the process and its group, whatever level stands above it."""
    requested, _ = named_request(options.containment)
    if isinstance(options.stdio, OnPty):
        return SessionContainer(requested)
    missing = (LENT_SESSION,) if options.terminal == "shared" else (SHARED_SESSION,)
    if is_pipeline:  # a nanny has a session of her own, in which the host is not
        return PipelineContainer(requested, missing=() if has_nanny else missing)
    if options.terminal == "shared":
        return GroupContainer(requested, missing=missing)
    return GroupContainer(requested)


def _spawn(spawner: Spawner, request: SpawnRequest) -> tuple[LeaderPort, bool]:
    """Start a stage; return also whether it leads a group, because there is none to join or none is left."""
    if isinstance(request.group, str):
        return spawner.spawn(request), True
    try:
        return spawner.spawn(request), False
    except SpawnError as exc:
        if exc.errno != errno.EPERM or _is_group(request.group):
            raise
    return spawner.spawn(replace(request, group="own group")), True


def _is_group(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _next_group(whole: LeaderPort | None, options: SpawnOptions, *, is_pipeline: bool) -> GroupChoice:
    """Return the group of the next stage."""
    if whole is not None:
        return whole.pid
    return "own group" if is_pipeline or options.terminal == "shared" else "own session"


def _additions(container: Container, call: RecordedCall | None) -> Mapping[str, str]:
    """Return the variables that a child gets besides its own."""
    variables = container.environment()
    return variables if call is None else {**call.environment, **variables}


def _request(command: Command, ends: Ends, additions: Mapping[str, str], group: GroupChoice) -> SpawnRequest:
    return SpawnRequest(
        name=command.name,
        program=command.program,
        arguments=revealed_arguments(command),
        cwd=command.cwd,
        environment=child_environment(command, host_environment(), additions),
        umask=command.umask,
        pass_fds=command.pass_fds,
        stdin=ends.stdin.fd,
        stdout=ends.stdout.fd,
        stderr=ends.stderr.fd,
        group=group,
        terminal=ends.terminal.path if ends.terminal is not None else None,
    )


def host_environment() -> Mapping[bytes, bytes]:
    """Return the variables of the host.

    The dictionary behind ``os.environ`` and ``os.environb`` has no public name, and to read a hundred variables through either
    takes a fifth of a spawn.  Where it is not found, they are read that way.
    """
    variables = getattr(os.environb, "_data", None)
    return variables if type(variables) is dict else os.environb


def _close_each(fds: list[int]) -> None:
    """Close ``fds``; one that cannot be closed keeps none of the others open."""
    try:
        while fds:
            os.close(fds.pop())
    finally:
        if fds:
            _close_each(fds)


def _discard(leader: LeaderPort, container: Container) -> None:
    """End a process that nobody was given."""
    kill_now(leader, container)
    leader.close()
