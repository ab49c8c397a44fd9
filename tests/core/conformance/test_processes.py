"""What the reference checks of waiting, stopping and letting go, held against ours."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import anyio
import pytest

import procflow as pf
from tests.core.process.conftest import is_alive, process_state
from tests.patience import Growing

pytestmark = pytest.mark.anyio

DEAF = "trap '' TERM INT; echo ready; while :; do sleep 60 & wait; done"
WAIT_S = 20.0


@pytest.mark.parametrize("name", [None, "mine"])
async def test_a_handle_has_its_name(name: str | None) -> None:
    """C-2: given or derived, on the handle, its streams and its outcome (TPT 24)."""
    command = pf.Command("true", name=f"{name}" if name else None)
    async with pf.spawn(command) as child:
        assert child.name == (name or "true")
        assert child.stdout.name.startswith(child.name)
        assert str(await child.wait()).startswith(child.name)


async def test_killing_closes_standard_input() -> None:
    """C-7: after kill() the input is closed (TPT 29)."""
    async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE) as child:
        stdin = child.stdin
        await stdin.send(b"x")
        await child.kill()
        with pytest.raises((anyio.BrokenResourceError, anyio.ClosedResourceError)):
            await stdin.send(b"y")


@pytest.mark.parametrize("timeout_s", [None, 60.0])
async def test_lines_of_a_quick_child(timeout_s: float | None) -> None:
    """C-62: three lines on one output, nothing on the other, success; a deadline changes nothing (TPT 164, 168)."""
    done = await pf.run(pf.shell("echo 1; echo 2; echo 3"), timeout_s=timeout_s)
    assert (done.stdout.lines, done.stderr.lines, done.outcome.ok) == (["1", "2", "3"], [], True)
    assert not done.stdout.truncated


async def test_a_late_reader_has_the_start_up() -> None:
    """C-26: what was said before anybody listened is there (TPT 165)."""
    async with pf.spawn(pf.shell("echo starting; echo up; read x; echo bye"), stdin=pf.PIPE) as child:
        with anyio.fail_after(WAIT_S):
            while child.stdout.produced_bytes < len("starting\nup\n"):
                await anyio.lowlevel.checkpoint()
        lines = child.stdout.lines()
        await child.stdin.send(b"\n")
        assert [line async for line in lines] == ["starting", "up", "bye"]


async def test_raw_output_is_kept_as_it_is() -> None:
    """C-61: no newline is added, no byte changed (TPT 167)."""
    done = await pf.run(pf.shell(r"printf 'a\n\nb\377\0'; printf 'no newline' >&2"))
    assert (done.stdout.bytes, done.stderr.bytes) == (b"a\n\nb\xff\0", b"no newline")


async def test_a_second_wait_has_everything() -> None:
    """C-60: a wait that was given up takes nothing from the next, which has status and output (TPT 172)."""
    config = pf.StreamConfig(replay=pf.Replay.all())
    async with pf.spawn(pf.shell("echo first; read x; echo second"), stdin=pf.PIPE, stdout=config) as child:
        stdin = child.stdin
        with anyio.move_on_after(0.05) as scope:
            async with child.stdout.lines(start="start") as lines:
                async for _ in lines:
                    pass
        assert scope.cancelled_caught
        await stdin.send(b"\n")
        assert (await child.wait()).ok
        assert [line async for line in child.stdout.lines(start="start")] == ["first", "second"]


async def test_a_deaf_child_is_killed_and_has_its_output() -> None:
    """C-63: every polite signal is ignored: killed after its phases, output kept, no success (TPT 175, D1)."""
    phases = [pf.Phase(signal=signal.SIGTERM, wait_s=0.025), pf.Phase(signal=signal.SIGINT, wait_s=0.025)]
    timeout = Growing(0.3)
    while True:
        with pytest.raises(pf.TimedOut) as caught:
            await pf.run(pf.shell(DEAF), timeout_s=timeout.seconds, shutdown=pf.Shutdown(phases=phases))
        if caught.value.stdout.text or not timeout.grow():  # else it had no time to be deaf
            break

    error = caught.value
    assert error.stdout.text == "ready\n"
    assert not error.outcome.ok
    assert [phase.signal for phase in error.outcome.phases] == [signal.SIGTERM, signal.SIGINT, signal.SIGKILL]


@pytest.mark.parametrize("held", [1, 2])
async def test_one_output_that_stays_open_is_waited_for_as_long_as_the_drain(held: int) -> None:
    """C-61: a grandchild holds one of the two: the run ends after its drain, with what both have said (TPT 177, 178)."""
    other = 3 - held
    begun = time.monotonic()
    done = await pf.run(pf.shell(f"echo out; echo err >&2; sleep 60 {other}>/dev/null & exit 0"), drain_s=0.2)

    assert 0.2 <= time.monotonic() - begun < 10
    assert (done.stdout.text, done.stderr.text) == ("out\n", "err\n")
    assert not done.outcome.output_complete


async def test_a_signal_to_one_that_has_just_exited_is_no_failure() -> None:
    """C-66: the child is a zombie that nobody has looked at yet: the signal says that nobody was there (TPT 181, 182, 184)."""
    async with pf.spawn(pf.Command("true")) as child:
        while process_state(child.pid) not in ("Z", None):
            time.sleep(0.001)  # blocks the loop, so that the exit cannot have been noticed
        assert not child.send_signal(signal.SIGINT)
        assert (await child.terminate()).ok


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_child_that_reacts_ends_with_its_own_code(number: signal.Signals) -> None:
    """C-64: it ends soon, its code is its own, and only the one signal was sent before the sweep (TPT 191, 194)."""
    events: list[pf.ProcessEvent] = []

    async with pf.spawn(pf.shell("trap 'exit 1' TERM INT; echo ready; while :; do sleep 0.01; done")) as child:
        await child.stdout.wait_for_line("ready")
        with pf.observe(events.append):
            outcome = await child.terminate(pf.Shutdown(phases=[pf.Phase(signal=number, wait_s=30)]))

    assert (outcome.exit_code, [phase.ended for phase in outcome.phases]) == (1, [True])
    sent = [event.signal for event in events if isinstance(event, pf.Signalled) and not event.after_exit]
    assert sent in ([number], [number, signal.SIGCONT])


async def test_a_phase_that_worked_is_the_last() -> None:
    """C-64: the interrupt ended it, so the terminate signal behind it is never sent (TPT 196)."""
    phases = [pf.Phase(signal=signal.SIGINT, wait_s=30), pf.Phase(signal=signal.SIGTERM, wait_s=30)]
    script = "trap 'exit 3' INT; trap 'exit 4' TERM; echo ready; while :; do sleep 0.01; done"
    async with pf.spawn(pf.shell(script)) as child:
        await child.stdout.wait_for_line("ready")
        outcome = await child.terminate(pf.Shutdown(phases=phases))
    assert outcome.exit_code == 3
    assert [phase.signal for phase in outcome.phases] == [signal.SIGINT]


async def test_killing_reaches_a_grandchild() -> None:
    """C-64: kill() ends what the child has started (TPT 201)."""
    async with pf.spawn(pf.shell("sh -c 'sleep 60 & echo $!; wait' & wait")) as child:
        grandchild = int((await child.stdout.wait_for_line(r"(\d+)")).groups[0] or 0)
        await child.kill()
        assert not is_alive(grandchild)


async def test_a_kill_that_cannot_work_says_so_in_time(immortal: pf.Command) -> None:
    """C-64: kill() of what nothing ends: TerminationError with its attempt, within its bound (TPT 202, D3)."""
    events: list[pf.ProcessEvent] = []
    begun = time.monotonic()
    with pf.observe(events.append), pytest.raises(pf.TerminationError):
        async with pf.spawn(immortal, shutdown=pf.Shutdown.now(kill_wait_s=0.05)) as child:
            with pytest.raises(pf.TerminationError) as caught:
                await child.kill()
            assert [attempt.split(":")[0] for attempt in caught.value.attempts] == ["SIGKILL to the tree"]
            assert child.state is pf.ProcessState.SURVIVED
    assert not [event for event in events if isinstance(event, pf.Exited | pf.Reaped)]
    assert time.monotonic() - begun < 10


async def test_the_state_is_told_and_not_touched() -> None:
    """C-62: running before, ended after; asking changes nothing, and the block still ends the tree (TPT 204, 205)."""
    async with pf.spawn(pf.Command("sleep", "60")) as child:
        assert [child.state for _ in range(3)] == [pf.ProcessState.RUNNING] * 3
        assert child.outcome is None
    assert child.state is pf.ProcessState.ENDED
    assert not is_alive(child.pid)

    async with pf.spawn(pf.shell("sleep 60 & echo $!")) as child:  # its leader has exited, and nobody has waited
        straggler = int((await child.stdout.wait_for_line(r"(\d+)")).groups[0] or 0)
        with anyio.fail_after(WAIT_S):
            while child.state is pf.ProcessState.RUNNING:
                await anyio.sleep(0.001)
    assert not is_alive(straggler)


async def test_a_child_that_was_let_go_has_no_pipes_to_us() -> None:
    """C-68: a detached child sees the end of its input, and an endless writer ends by SIGPIPE (TPT 209, 210)."""
    async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE, stdout=pf.NULL, stderr=pf.NULL) as reader:
        await reader.detach()
    async with pf.spawn(pf.Command("yes"), stderr=pf.NULL) as writer:
        await writer.detach()

    for child, ending in ((reader, 0), (writer, -signal.SIGPIPE)):
        with anyio.fail_after(WAIT_S):
            while is_alive(child.pid):
                await anyio.sleep(0.001)
        with contextlib.suppress(ChildProcessError):
            seen = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            assert seen is not None
            assert seen.si_status == abs(ending)
    await pf.run(pf.Command("true"))  # the next spawn reaps what was detached


async def test_a_block_that_is_left_ends_its_readers() -> None:
    """C-67: readers in other tasks get what was read, then learn that the stream was closed or has ended (TPT D8, N9)."""
    seen: list[str] = []

    async def read(stream: pf.OutputStream) -> None:
        async with stream.lines(start="start") as lines:
            with contextlib.suppress(pf.StreamClosedError):
                async for line in lines:
                    seen.append(line)
        seen.append("left")

    with anyio.fail_after(WAIT_S):
        async with anyio.create_task_group() as tasks:
            config = pf.StreamConfig(replay=pf.Replay.all())
            hello = pf.shell("echo hello; sleep 60")
            async with pf.spawn(hello, stdout=config, shutdown=pf.Shutdown.now()) as child:
                await child.stdout.wait_for_line("hello")
                for _ in range(2):
                    tasks.start_soon(read, child.stdout)
                await anyio.wait_all_tasks_blocked()
    assert seen in (["hello", "hello", "left", "left"], ["hello", "left"] * 2)


def test_a_read_error_says_everything_once() -> None:
    """C-21: the message of the source appears once, and the source is the cause (TPT 217)."""
    error = pf.StreamReadError(stream_name="x stdout", reason="[Errno 5] boom")
    assert str(error).count("boom") == 1
    assert str(error).count("x stdout") == 1
