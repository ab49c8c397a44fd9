"""``FakeSpawner``: what starts scripted processes instead of real ones.

Owns which script a command gets, the groups of what was started, and the place where it is installed.  Must not know how a
script is carried out, nor what procflow does with its processes.

Numbers of fake processes are above every real one, so that a signal by number that went past this would reach nobody.
Known holes: a fake does not look at cwd, umask or ``pass_fds``, starts no program that its script does not name, and has no
session: ``terminal="shared"`` does not work with it.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final

import anyio
import anyio.abc

from procflow._containment.port import Containment, ContainmentLevel, Member
from procflow._containment.requests import ContainmentName, ContainmentRequest, named_request
from procflow._process.leader import LeaderPort
from procflow._process.signalling import send
from procflow._process.spawn import SpawnRequest
from procflow._process.stand_in import STAND_IN
from procflow.errors import Portable, SpawnError, UsageError
from procflow.policies import Target
from procflow.testing.fake_process import Call, FakeProcess, Place
from procflow.testing.scripts import End, LeaveBehind, Script, matches

FIRST_PID: Final = 2**22 + 1
"""The largest number that Linux gives to a process is 2**22 (proc(5), pid_max)."""

_SIGKILL: Final = 9
_LEVELS: Final[Mapping[ContainmentName, ContainmentLevel]] = {
    "group": "group",
    "guarded": "guarded",
    "strict": "strict",
    "best": "strict",
}


class UnscriptedError(Portable, AssertionError):
    """A command was started for which no script is left.

    Attributes:
        program: The program that was to be started.
    """

    def __init__(self, program: str, scripted: Iterable[str]) -> None:
        self.program = program
        known = ", ".join(sorted(set(scripted))) or "nothing"
        super().__init__(f"no script is left for {program}; there is one for: {known}")


class ScriptError(Portable, AssertionError):
    """A fake process was not treated as its script expects.

    Attributes:
        problems: One text for each.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class FakeSpawner:
    """Starts scripted processes; the program under test goes on calling ``run()`` and ``spawn()``.

    ``async with fake.installed():`` puts it in the place of the operating system, for this task and those that it starts in the
    block.  Outputs and input go through real pipes.  Delays are taken from the event loop's clock: with trio's ``MockClock`` an hour takes
    no time, and ``outcome.duration_s`` says an hour all the same; ``started_at`` and ``ended_at`` stay real.

    Attributes:
        calls: Every start that was asked for, in order.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._scripts: list[tuple[tuple[str, ...], Script, int | None]] = []
        self._uses: dict[int, int] = {}
        self._groups: dict[int, list[FakeProcess]] = {}
        self._pids = itertools.count(FIRST_PID)
        self._problems: list[str] = []
        self._tasks: anyio.abc.TaskGroup | None = None

    def __repr__(self) -> str:
        return f"<FakeSpawner, {len(self._scripts)} scripts, {len(self.calls)} calls>"

    def on(self, program: str, *arguments: str, times: int | None = None) -> Script:
        """Return a new script for the commands that begin with these words.

        The oldest script that matches and is not used up is taken.

        Args:
            program: A path, or the last part of one.
            arguments: How the arguments begin.
            times: How many starts it is for; ``None``: all of them.
        """
        script = Script()
        self._scripts.append(((program, *arguments), script, times))
        return script

    def installed(self) -> AbstractAsyncContextManager[FakeSpawner]:
        """Return the block in which it starts everything; leave blocks of processes before this one.

        What still runs at its end is killed.

        Raises:
            UsageError: On entry, if it is installed already.
            ScriptError: On leaving, if a process got another input than its script expects; unless the block raises.
        """
        return _Installation(self)

    # --- the port ---------------------------------------------------------------------------------------------------

    def spawn(self, request: SpawnRequest) -> FakeProcess:
        """Start a process that follows its script.

        Raises:
            SpawnError: If its script says so.
            UnscriptedError: If there is no script for it.
            UsageError: If this is not installed.
        """
        if self._tasks is None:
            raise UsageError("a FakeSpawner starts processes only inside of its installed() block")
        program = os.fsdecode(request.program)
        arguments = tuple(os.fsdecode(word) for word in request.arguments)
        call = Call(
            program=program,
            arguments=arguments,
            cwd=None if request.cwd is None else os.fsdecode(request.cwd),
            environment=None
            if request.environment is None
            else {os.fsdecode(name): os.fsdecode(value) for name, value in request.environment.items()},
        )
        self.calls.append(call)
        script = self._take_script(program, arguments)
        if script.spawn_errno is not None:
            reason = os.strerror(script.spawn_errno)
            raise SpawnError(program=program, reason=reason, cwd=call.cwd, errno=script.spawn_errno)
        call.pid = next(self._pids)
        return self._start(call.pid, script, call, _descriptors_of(request), name=request.name, group=request.group)

    def make_container(self, request: ContainmentRequest) -> FakeContainer:
        """Return a container that reaches the group of one fake process."""
        return FakeContainer(self, request)

    def group(self, number: int) -> list[FakeProcess]:
        """Return everybody who was started in a group, in order."""
        return self._groups.get(number, [])

    # --- inside -----------------------------------------------------------------------------------------------------

    def _take_script(self, program: str, arguments: tuple[str, ...]) -> Script:
        for index, (wanted, script, times) in enumerate(self._scripts):
            used = self._uses.get(index, 0)
            if matches(program, arguments, wanted) and (times is None or used < times):
                self._uses[index] = used + 1
                return script
        raise UnscriptedError(program, (wanted[0] for wanted, _, _ in self._scripts))

    def _start(
        self, pid: int, script: Script, call: Call, fds: dict[Place, int], *, name: str, group: str | int
    ) -> FakeProcess:
        assert self._tasks is not None, "checked by the caller"
        process = FakeProcess(
            pid,
            script,
            call,
            fds,
            name=name,
            tasks=self._tasks,
            leave_behind=self._leave_behind,
            complain=self._problems.append,
        )
        self._groups.setdefault(group if isinstance(group, int) else pid, []).append(process)
        return process

    def _leave_behind(self, process: FakeProcess, step: LeaveBehind) -> None:
        script = Script().ignores(*step.ignored)
        script = script.stays() if step.for_s is None else script.waits(step.for_s)
        number = next(number for number, members in self._groups.items() if process in members)
        call = Call(program="left-behind", arguments=(), cwd=None, environment=None)
        straggler = self._start(
            next(self._pids), script, call, process.duplicate_outputs(), name=call.program, group=number
        )
        straggler.close()  # nobody watches its exit

    def _install(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks

    def _uninstall(self) -> None:
        for members in self._groups.values():
            for process in members:
                process.end(End(signal=_SIGKILL))
        self._tasks = None

    def _take_problems(self) -> list[str]:
        problems = self._problems[:]
        self._problems.clear()
        return problems


class _Installation(AbstractAsyncContextManager["FakeSpawner"]):
    """The block of ``installed()``; a class, so that an exception of its body is not wrapped in a group."""

    def __init__(self, spawner: FakeSpawner) -> None:
        self._spawner = spawner
        self._tasks: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> FakeSpawner:
        if self._spawner._tasks is not None:  # noqa: SLF001 (its own block)
            raise UsageError("the FakeSpawner is installed already")
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._spawner._install(self._tasks)  # noqa: SLF001
        self._token = STAND_IN.set(self._spawner)
        return self._spawner

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        tasks = self._tasks
        assert tasks is not None, "it was entered"
        try:
            STAND_IN.reset(self._token)
        except ValueError:  # left in another context, as fixtures of some test runners are
            STAND_IN.set(None)
        self._spawner._uninstall()  # noqa: SLF001
        tasks.cancel_scope.cancel()
        await tasks.__aexit__(None, None, None)
        problems = self._spawner._take_problems()  # noqa: SLF001
        if problems and exc is None:
            raise ScriptError(problems)


class FakeContainer:
    """A ``Container`` over the group of a fake process; it says that what was asked for is in force."""

    def __init__(self, spawner: FakeSpawner, request: ContainmentRequest) -> None:
        self._spawner = spawner
        self._leader: LeaderPort | None = None
        name, _ = named_request(request)
        self.report: Final = Containment(requested=name, level=_LEVELS[name])

    def environment(self) -> Mapping[str, str]:
        """Nothing."""
        return {}

    def bind(self, leader: LeaderPort) -> None:
        """Take charge of ``leader``."""
        self._leader = leader

    def signal(self, number: int, to: Target) -> None:
        """Send a signal to the leader, or to everybody of its group."""
        leader = self._leader
        if leader is None or leader.is_reaped:
            raise ProcessLookupError("nobody is there")
        if to is Target.LEADER:
            leader.signal(number)
            return
        send(self._signal_group, leader.pid, number, of=leader, to="group", receiver=leader.pid)

    def _signal_group(self, group: int, number: int) -> None:
        for process in tuple(self._spawner.group(group)):
            process.take(number)

    def living(self, reach: Target = Target.TREE) -> tuple[Member, ...]:  # noqa: ARG002 (nobody is out of reach)
        """Return who is alive besides the leader."""
        if self._leader is None:
            return ()
        members = self._spawner.group(self._leader.pid)
        return tuple(process.as_member for process in members if process.is_alive and process.pid != self._leader.pid)

    def before_reap(self) -> None:
        """Nothing to give up."""

    async def let_go(self) -> None:
        """Nothing to give up: nothing acts when the host ends."""

    def close(self) -> None:
        """Nothing is held."""


def _descriptors_of(request: SpawnRequest) -> dict[Place, int]:
    """Return copies of what the process is given; what is inherited is the host's own."""
    fds: dict[Place, int] = {}
    places: tuple[tuple[Place, int | None], ...] = (
        ("stdin", request.stdin),
        ("stdout", request.stdout),
        ("stderr", request.stderr),
    )
    try:
        for number, (place, fd) in enumerate(places):
            if request.terminal is not None:
                fds[place] = os.open(request.terminal, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            elif fd == subprocess.DEVNULL:
                fds[place] = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            elif fd == subprocess.STDOUT:
                fds[place] = os.dup(fds["stdout"])
            else:
                fds[place] = os.dup(number if fd is None else fd)
    except OSError as exc:
        for fd in fds.values():
            os.close(fd)
        raise SpawnError(
            program=os.fsdecode(request.program), reason=exc.strerror or "its descriptors", errno=exc.errno
        ) from exc
    return fds
