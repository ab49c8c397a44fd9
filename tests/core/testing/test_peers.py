"""One suite over two worlds: processes of the operating system, and scripted ones.

Every test says what both do.  What the fakes promise beyond that is in ``test_fakes.py``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
import pytest

import procflow as pf
from procflow._process.spawn import PopenSpawner, Spawner, SpawnRequest
from procflow.command import revealed_arguments
from procflow.testing import FakeSpawner, Script
from procflow.testing.fake_process import FakeProcess
from tests.core.process.conftest import is_alive
from tests.patience import Growing

pytestmark = pytest.mark.anyio

OUTPUT_BYTES: Final = 300_000

READY_AND_STAY: Final = "echo ready; exec sleep 60"

BEHAVIOURS: Final[dict[str, tuple[tuple[str, ...], Callable[[Script], Script]]]] = {
    "fails": (
        ("sh", "-c", "echo out; echo err >&2; exit 3"),
        lambda s: s.prints("out\n").prints_error("err\n").exits(3),
    ),
    "crashes": (("sh", "-c", "echo out; kill -SEGV $$"), lambda s: s.prints("out\n").dies_by(signal.SIGSEGV)),
    "floods": (("head", "-c", str(OUTPUT_BYTES), "/dev/zero"), lambda s: s.prints(bytes(OUTPUT_BYTES))),
    "echoes": (("cat",), lambda s: s.echoes()),
    "stays": (("sh", "-c", READY_AND_STAY), lambda s: s.prints("ready\n").stays()),
    "ignores": (
        ("sh", "-c", f"trap '' TERM; {READY_AND_STAY}"),
        lambda s: s.ignores(signal.SIGTERM).prints("ready\n").stays(),
    ),
    "answers": (
        ("sh", "-c", "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.02; done"),
        lambda s: s.on_signal(signal.SIGTERM, prints="bye\n", exits=5).prints("ready\n").stays(),
    ),
    "orphans": (("sh", "-c", "sleep 60 & echo out"), lambda s: s.leaves_behind().prints("out\n")),
    "closes": (
        ("sh", "-c", "echo out; exec >&- 2>&-; exec sleep 60"),
        lambda s: s.prints("out\n").closes_outputs().stays(),
    ),
    "succeeds": (("true",), lambda s: s),
    "merges": (
        ("sh", "-c", "echo one; echo two >&2; echo three"),
        lambda s: s.prints("one\n").prints_error("two\n").prints("three\n"),
    ),
    "missing": (("no-such-program-of-procflow",), lambda s: s.fails(errno.ENOENT)),
}


class World(ABC):
    """Where the behaviours come from."""

    @property
    @abstractmethod
    def spawner(self) -> Spawner: ...

    @abstractmethod
    def command(self, behaviour: str) -> pf.Command: ...

    @abstractmethod
    def is_alive(self, pid: int) -> bool: ...

    @abstractmethod
    def kill(self, pid: int) -> None: ...


class Real(World):
    @property
    def spawner(self) -> Spawner:
        return PopenSpawner()

    def command(self, behaviour: str) -> pf.Command:
        return pf.Command(*BEHAVIOURS[behaviour][0], name=behaviour)

    def is_alive(self, pid: int) -> bool:
        return is_alive(pid)

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


class Fake(World):
    def __init__(self) -> None:
        self.fake = FakeSpawner()
        for behaviour, (_, build) in BEHAVIOURS.items():
            build(self.fake.on(behaviour))

    @property
    def spawner(self) -> Spawner:
        return self.fake

    def command(self, behaviour: str) -> pf.Command:
        return pf.Command(behaviour, name=behaviour)

    def is_alive(self, pid: int) -> bool:
        return any(process.is_alive for process in self._named(pid))

    def kill(self, pid: int) -> None:
        for process in self._named(pid):
            process.take(signal.SIGKILL)

    def _named(self, pid: int) -> list[FakeProcess]:
        return [process for members in self.fake._groups.values() for process in members if process.pid == pid]


@pytest.fixture(params=["real", "fake"])
def world_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def world_of(kind: str) -> AsyncIterator[World]:
    if kind == "real":
        yield Real()
        return
    fake = Fake()
    async with fake.fake.installed():
        yield fake


async def until_ready(child: pf.Process) -> None:
    assert child.stdout is not None
    await child.stdout.wait_for_line("ready")


async def test_exit_code_and_outputs(world_kind: str) -> None:
    """C-93: an exit code and both outputs arrive, on the result and on the error."""
    async with world_of(world_kind) as world:
        done = await pf.run(world.command("fails"), check=False)
        with pytest.raises(pf.ExitError) as caught:
            await pf.run(world.command("fails"))

    assert (done.outcome.exit_code, done.outcome.signal, done.outcome.ended_by) == (3, None, pf.EndedBy.ITSELF)
    assert (done.stdout.text, done.stderr.text, done.outcome.output_complete) == ("out\n", "err\n", True)
    assert (caught.value.stdout, caught.value.stderr) == (done.stdout, done.stderr)
    assert done.outcome.usage is not None


async def test_death_by_signal(world_kind: str) -> None:
    """C-93: a child that a signal ended has no exit code, and what it wrote before arrives."""
    async with world_of(world_kind) as world:
        done = await pf.run(world.command("crashes"), check=False)

    assert (done.outcome.exit_code, done.outcome.signal) == (None, signal.SIGSEGV)
    assert done.stdout.text == "out\n"


async def test_all_output_before_the_exit(world_kind: str) -> None:
    """C-93: more than a pipe holds arrives whole."""
    async with world_of(world_kind) as world:
        done = await pf.run(world.command("floods"))

    assert done.stdout.bytes == bytes(OUTPUT_BYTES)
    assert done.stdout.is_complete


async def test_slow_reader_blocks_the_child(world_kind: str) -> None:
    """C-93: a reliable subscriber that does not take keeps the child from going on."""
    async with world_of(world_kind) as world, pf.spawn(world.command("floods")) as child:
        assert child.stdout is not None
        async with child.stdout.subscribe(pf.Reliable(buffer_bytes=4096)) as chunks:
            await chunks.receive()
            assert child.outcome is None
            total_bytes = 0
            async for event in chunks:
                assert isinstance(event, pf.Chunk)
                total_bytes = event.offset + len(event.data)
        assert (await child.wait()).ok

    assert total_bytes == OUTPUT_BYTES


async def test_stdin_is_fed_and_closed(world_kind: str) -> None:
    """C-93: what is fed is read to its end, which ends the child."""
    data = bytes(range(256)) * 1000
    async with world_of(world_kind) as world:
        done = await pf.run(world.command("echoes"), stdin=data)
        async with pf.spawn(world.command("echoes"), stdin=pf.PIPE) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            await child.stdin.send(b"hello\n")
            assert (await child.stdout.wait_for_line("")).text == "hello"
            await child.stdin.aclose()
            outcome = await child.wait()

    assert done.stdout.bytes == data
    assert outcome.ok


async def test_child_that_does_not_read(world_kind: str) -> None:
    """C-93: an input that nobody takes is told, and is no error."""
    async with world_of(world_kind) as world:
        done = await pf.run(world.command("succeeds"), stdin=bytes(1_000_000))

    assert done.outcome.ok
    assert done.outcome.stdin_broken


async def test_terminate_a_child_that_obeys(world_kind: str) -> None:
    """C-93: SIGTERM ends it, in one phase."""
    async with world_of(world_kind) as world, pf.spawn(world.command("stays")) as child:
        await until_ready(child)
        outcome = await child.terminate(pf.Shutdown.sigterm(30))

    assert (outcome.signal, outcome.ended_by) == (signal.SIGTERM, pf.EndedBy.TERMINATE)
    assert [(phase.signal, phase.ended) for phase in outcome.phases[:1]] == [(signal.SIGTERM, True)]


async def test_terminate_a_child_that_ignores(world_kind: str) -> None:
    """C-93: a child that ignores SIGTERM is killed after the phase."""
    async with world_of(world_kind) as world, pf.spawn(world.command("ignores")) as child:
        await until_ready(child)
        outcome = await child.terminate(pf.Shutdown.sigterm(0.05))

    assert outcome.signal == signal.SIGKILL
    assert [(phase.signal, phase.ended) for phase in outcome.phases] == [
        (signal.SIGTERM, False),
        (signal.SIGKILL, True),
    ]
    assert outcome.phases[0].took_s >= 0.04


async def test_terminate_a_child_that_answers(world_kind: str) -> None:
    """C-93: a child that handles SIGTERM says its last words and exits as it likes."""
    async with world_of(world_kind) as world, pf.spawn(world.command("answers")) as child:
        await until_ready(child)
        outcome = await child.terminate(pf.Shutdown.sigterm(30))

    assert outcome.exit_code == 5
    assert outcome.stdout_tail == b"ready\nbye\n"


async def test_stopped_child_ends(world_kind: str) -> None:
    """C-93: a stopped child keeps SIGTERM pending; the SIGCONT of the phase lets it have its effect."""
    async with world_of(world_kind) as world, pf.spawn(world.command("stays")) as child:
        await until_ready(child)
        child.send_signal(signal.SIGSTOP)
        child.send_signal(signal.SIGTERM)
        assert child.outcome is None
        outcome = await child.terminate(pf.Shutdown.sigterm(30))

    assert outcome.signal == signal.SIGTERM


async def test_kill(world_kind: str) -> None:
    """C-93: SIGKILL ends what ignores everything else."""
    async with world_of(world_kind) as world, pf.spawn(world.command("ignores")) as child:
        await until_ready(child)
        outcome = await child.kill()

    assert (outcome.signal, outcome.ended_by) == (signal.SIGKILL, pf.EndedBy.KILL)


async def test_signals_after_the_end_reach_nobody(world_kind: str) -> None:
    """C-93: the end of a child is final for ``send_signal()`` too."""
    async with world_of(world_kind) as world, pf.spawn(world.command("succeeds")) as child:
        await child.wait()
        with contextlib.suppress(ProcessLookupError, pf.UsageError):
            child.send_signal(signal.SIGTERM)

    assert child.outcome is not None
    assert child.outcome.ok


async def test_leaving_the_block_ends_the_child(world_kind: str) -> None:
    """C-93: nothing is alive after the block."""
    async with world_of(world_kind) as world:
        async with pf.spawn(world.command("stays")) as child:
            await until_ready(child)
        assert not world.is_alive(child.pid)

    assert child.outcome is not None
    assert child.outcome.ended_by is pf.EndedBy.SCOPE


async def test_detached_child_lives_on(world_kind: str) -> None:
    """C-93: a detached child is alive after its block."""
    async with world_of(world_kind) as world:
        async with pf.spawn(world.command("stays"), stdout=pf.NULL) as child:
            await child.detach()
        assert world.is_alive(child.pid)
        world.kill(child.pid)


async def test_start_that_fails(world_kind: str) -> None:
    """C-93: a program that is missing is a ``SpawnError`` with its number and its name."""
    async with world_of(world_kind) as world:
        with pytest.raises(pf.SpawnError) as caught:
            await pf.run(world.command("missing"))

    assert caught.value.errno == errno.ENOENT
    assert caught.value.program == os.fsdecode(world.command("missing").program)
    assert os.strerror(errno.ENOENT) in str(caught.value)


async def test_orphan_that_holds_the_pipe(world_kind: str) -> None:
    """C-93: the leader's exit ends ``run()`` although somebody holds its output, who is ended."""
    async with world_of(world_kind) as world:
        done = await pf.run(world.command("orphans"), drain_s=0.05)

    assert done.outcome.ok
    assert (done.stdout.text, done.outcome.output_complete) == ("out\n", False)


async def test_orphan_is_found_and_ended_by_the_block(world_kind: str) -> None:
    """C-93: the block ends a member of the group that outlived the leader."""
    async with world_of(world_kind) as world:
        async with pf.spawn(world.command("orphans")) as child:
            assert (await child.wait()).ok
            states = [child.state]
        states.append(child.state)

    assert states == [pf.ProcessState.EXITED, pf.ProcessState.ENDED]


async def test_output_that_ends_before_the_child(world_kind: str) -> None:
    """C-93: closed outputs are an end of file, not an end of the child."""
    async with world_of(world_kind) as world, pf.spawn(world.command("closes")) as child:
        assert child.stdout is not None
        assert [line async for line in child.stdout.lines()] == ["out"]
        assert child.outcome is None


@pytest.mark.parametrize("clock", ["timeout_s", "idle_timeout_s"])
async def test_timeouts(world_kind: str, clock: str) -> None:
    """C-93: a deadline that passes ends the child, and the error has its output."""
    async with world_of(world_kind) as world:
        limit = Growing(0.5)
        while True:
            with pytest.raises(pf.TimedOut) as caught:
                if clock == "timeout_s":
                    await pf.run(world.command("stays"), timeout_s=limit.seconds)
                else:
                    await pf.run(world.command("stays"), idle_timeout_s=limit.seconds)
            if caught.value.stdout.text or not limit.grow():  # else it had no time to say anything
                break

    assert caught.value.stdout.text == "ready\n"
    assert caught.value.outcome.signal == signal.SIGTERM
    assert caught.value.outcome.duration_s >= 0.4


async def test_merged_outputs_keep_their_order(world_kind: str) -> None:
    """C-93: with ``merge_stderr`` both outputs are one."""
    async with world_of(world_kind) as world:
        done = await pf.run(world.command("merges"), merge_stderr=True)

    assert done.stdout.lines == ["one", "two", "three"]


async def test_pipeline(world_kind: str) -> None:
    """C-93: stages are connected by pipes, and each has its outcome."""
    async with world_of(world_kind) as world:
        done = await pf.run(world.command("fails") | world.command("echoes"), check=False)

    assert done.stdout.text == "out\n"
    assert [stage.outcome.exit_code for stage in done.stages] == [3, 0]
    assert done.stages[0].stderr.text == "err\n"


async def test_pipeline_is_stopped_as_one(world_kind: str) -> None:
    """C-93: one signal reaches every stage."""
    async with world_of(world_kind) as world:
        async with pf.spawn(world.command("stays") | world.command("echoes")) as child:
            await until_ready(child)
            outcome = await child.terminate(pf.Shutdown.sigterm(30))

    assert outcome.stages[0].signal == signal.SIGTERM
    assert child.state is pf.ProcessState.ENDED


async def test_output_to_a_file(world_kind: str, tmp_path: os.PathLike[str]) -> None:
    """C-93: an output that is no stream goes where it was sent."""
    path = anyio.Path(tmp_path) / "out"
    async with world_of(world_kind) as world:
        with open(path, "wb") as file:
            await pf.run(world.command("floods"), stdout=file)

    assert (await path.read_bytes()) == bytes(OUTPUT_BYTES)


async def test_pty(world_kind: str) -> None:
    """C-93: on a terminal of its own all output is one, and its end is an end of file."""
    async with world_of(world_kind) as world:
        done = await pf.run(world.command("merges"), pty=pf.Pty())

    assert done.stdout.lines == ["one", "two", "three"]
    assert done.stdout.is_complete


async def test_cancellation_ends_the_child(world_kind: str) -> None:
    """C-93: a cancelled ``run()`` leaves nobody alive."""
    async with world_of(world_kind) as world:
        with anyio.move_on_after(0.2) as scope:
            await pf.run(world.command("ignores"), shutdown=pf.Shutdown.now())

    assert scope.cancelled_caught


# --- the port itself ------------------------------------------------------------------------------------------------


async def test_leader_port(world_kind: str) -> None:
    """C-93: observe, signal, reap and close mean the same for a leader of either kind."""
    async with world_of(world_kind) as world:
        command = world.command("ignores")
        request = SpawnRequest(
            name="x",
            program=command.program,
            arguments=revealed_arguments(command),
            cwd=None,
            environment=None,
            umask=None,
            pass_fds=(),
            stdin=-3,
            stdout=-3,
            stderr=-3,
        )
        leader = world.spawner.spawn(request)
        assert (leader.name, leader.status, leader.exit_seen_mono_s, leader.usage) == ("x", None, None, None)
        assert not leader.observe()
        assert not leader.reap()
        with leader.held():
            leader.signal(signal.SIGKILL)
        with anyio.fail_after(30):
            while not leader.observe():
                await anyio.wait_readable(leader.exit_fd)

        assert leader.status is not None
        assert leader.status.signal == signal.SIGKILL
        assert leader.exit_seen_mono_s is not None
        with pytest.raises(ProcessLookupError):
            leader.signal(signal.SIGTERM)
        assert leader.reap()
        assert leader.reap()
        assert leader.is_reaped
        assert not leader.was_lost
        assert leader.usage is not None
        leader.close()
        leader.close()
