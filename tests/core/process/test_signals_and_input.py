"""Single signals, standard input of any size, and the races around both."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time

import anyio
import pytest

import procflow as pf
from procflow._process.core import ProcessCore
from procflow._process.leader import ExitStatus, Leader, reap_abandoned
from procflow._process.scope import SpawnScope
from procflow.testing.fake_process import FakeProcess

from .conftest import group_is_gone, python

pytestmark = pytest.mark.anyio

TERM_IGNORER = "trap '' TERM; echo ready; while :; do sleep 60 & wait; done"


async def test_real_time_signals_can_be_sent() -> None:
    """C-64: signals without a name reach the leader and end it; the outcome has their number."""
    number = signal.SIGRTMIN + 1
    async with pf.spawn(pf.Command("sleep", "60")) as child:
        assert child.send_signal(number)
        outcome = await child.wait()
    assert outcome.signal == number
    assert outcome.described == f"was ended by signal {number}"


async def test_signal_zero_asks_who_is_alive() -> None:
    """C-66: 0 sends nothing; it tells whether anybody lives, and zombies do not."""
    async with pf.spawn(pf.shell("sleep 60 & read x; exit 0"), stdin=pf.PIPE, shutdown=pf.Shutdown.now()) as child:
        assert child.send_signal(0)
        await child.stdin.send(b"\n")
        await child.wait()
        assert not child.send_signal(0)
        assert child.send_signal(0, to=pf.Target.GROUP)
        await child.kill()
        assert not child.send_signal(0, to=pf.Target.GROUP)


@pytest.mark.parametrize("number", [-1, 65, 1000])
async def test_signals_that_do_not_exist_are_refused(number: int) -> None:
    """C-64: a wrong number is the caller's mistake and says so."""
    async with pf.spawn(pf.Command("sleep", "60")) as child:
        with pytest.raises(ValueError, match=f"no signal {number}"):
            child.send_signal(number)


@pytest.mark.parametrize("how", ["bytes", "send"])
async def test_large_input_leaves_the_loop_responsive(how: str) -> None:
    """C-7: others get their turn while much input is written, although the child always has room for more."""
    data = b"x" * (64 << 20)
    turns, is_over = 0, False

    async def count() -> None:
        nonlocal turns
        while not is_over:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        if how == "bytes":
            done = await pf.run(pf.Command("wc", "-c"), stdin=data)
            assert done.stdout.text.strip() == str(len(data))
        else:
            async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE, stdout=pf.NULL) as child:
                turns = 0
                await child.stdin.send(data)
        is_over = True
    assert turns > 5


@pytest.mark.parametrize("kind", [bytearray, memoryview, bytes])
async def test_input_may_be_any_kind_of_bytes(kind: type) -> None:
    """C-7: bytearray and memoryview are fed as they were when the call was made."""
    data = bytearray(b"before" * 50_000)
    given = kind(data)
    block = pf.spawn(pf.Command("cat"), stdin=given, stdout=pf.StreamConfig(replay=pf.Replay.all()))
    data[:6] = b"after!"
    if kind is bytearray:
        given[:6] = b"after!"
    async with block as child:
        await child.stdout.wait_ended()
        assert child.stdout.retained() == (b"before" * 50_000, 0)


@pytest.mark.parametrize("what", ["stdout", "stderr"])
async def test_an_output_cannot_be_a_pipe_to_us(what: str) -> None:
    """C-8: PIPE is for standard input; the type admits it, the call refuses it with the cure."""
    with pytest.raises(TypeError, match="StreamConfig"):
        pf.spawn(pf.Command("true"), **{what: pf.PIPE})  # type: ignore[arg-type]  # one of two keywords


async def test_status_of_a_leader_that_exits_between_look_and_reap() -> None:
    """C-62: what wait4 says is kept, also if the exit was never observed before it."""
    for script, status in (("exit 7", ExitStatus(7, None)), ("kill -TERM $$", ExitStatus(None, 15))):
        leader = Leader(subprocess.Popen(["sh", "-c", script], start_new_session=True), name="sh")
        os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
        assert leader.status is None
        assert leader.reap()
        assert leader.status == status
        assert leader.usage is not None
        leader.close()


@pytest.mark.parametrize("_round", range(20))
def test_reaping_and_signalling_from_many_threads(_round: int) -> None:
    """C-66: a detached leader is reaped once, whoever spawns; nobody takes that for a loss, no signal follows it."""
    leader = Leader(subprocess.Popen(["sleep", "60"], start_new_session=True), name="sleep")
    leader.close()  # detached: from now on any thread may reap it
    begin = threading.Barrier(4)

    def reap() -> None:
        begin.wait()
        while not leader.is_reaped:
            reap_abandoned()

    def kill() -> None:
        begin.wait()
        while not leader.is_reaped:
            with contextlib.suppress(ProcessLookupError):
                leader.signal(signal.SIGKILL)

    threads = [threading.Thread(target=work) for work in (reap, reap, reap, kill)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not leader.was_lost
    assert leader.status == ExitStatus(None, 9)


async def test_block_gives_an_older_stop_its_own_kill_wait(immortal: pf.Command) -> None:
    """C-67: also the wait after SIGKILL of an older, more patient stop is bounded by the block's policy."""
    begun = time.monotonic()
    with pytest.raises(pf.TerminationError):
        async with pf.spawn(immortal, shutdown=pf.Shutdown.now(kill_wait_s=0.1)) as child:
            with anyio.move_on_after(0.02):
                await child.terminate(pf.Shutdown.now(kill_wait_s=600))
    assert time.monotonic() - begun < 10


async def test_stop_while_the_block_closes_after_survivors(immortal: pf.Command) -> None:
    """C-66: a stop that is asked for while a block gives up joins it or is refused; it never waits for ever."""
    answers: list[str] = []

    async def stop_again_and_again(child: pf.Process) -> None:
        while True:
            try:
                await child.terminate(pf.Shutdown.now(kill_wait_s=0.02))
            except pf.TerminationError:
                answers.append("survived")
            except pf.UsageError:
                answers.append("refused")
                return

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            with pytest.raises(pf.TerminationError):
                async with pf.spawn(immortal, shutdown=pf.Shutdown.now(kill_wait_s=0.05)) as child:
                    for _ in range(3):
                        tasks.start_soon(stop_again_and_again, child)
                    await anyio.sleep(0.03)
    assert answers.count("refused") == 3


async def test_announced_exit_that_cannot_be_seen_is_looked_for_in_pauses(
    immortal: pf.Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-60: a tracer may hold an exit back although the descriptor is readable: the watch pauses between its looks."""
    looks = 0

    def observe(process: FakeProcess) -> bool:
        nonlocal looks
        looks += 1
        if process._exit_end >= 0:  # announced from now on, and still not to be seen
            os.close(process._exit_end)
            process._exit_end = -1
        return False

    monkeypatch.setattr(FakeProcess, "observe", observe)
    with pytest.raises(pf.TerminationError):
        async with pf.spawn(immortal, shutdown=pf.Shutdown.now(kill_wait_s=0.05)) as child:
            child.send_signal(0)  # the first look
            await anyio.sleep(0.2)  # how long the watch is watched
    assert 2 < looks < 200


async def test_members_are_dead_when_an_abandoned_block_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-67: the last resort waits for the members of the group too, not for the leader alone."""
    monkeypatch.setattr(
        "procflow._process.stopping.last_resort.KILL_WAIT_S", 10.0
    )  # a busy machine runs what it is to kill late
    for _ in range(5):
        block = pf.spawn(pf.shell("for i in 1 2 3 4; do yes >/dev/null & done; echo ready; wait"))
        assert isinstance(block, SpawnScope)
        async with block as child:
            await child.stdout.wait_for_line("ready")
            core = block.core
            assert isinstance(core, ProcessCore)
            core.abandon(pf.EndedBy.CANCEL)
            assert group_is_gone(child.pid)
            outcome = await child.wait()
        assert (outcome.signal, outcome.ended_by) == (9, pf.EndedBy.CANCEL)
        assert [str(phase).split(":")[0] for phase in outcome.phases] == ["SIGKILL to the tree"]


async def test_inherited_environment_is_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-1: without changes the child has the host's environment as it is at the spawn."""
    monkeypatch.setenv("PROCFLOW_TEST_VALUE", "5")
    done = await pf.run(python("import os; print(os.environ['PROCFLOW_TEST_VALUE'])"))
    assert done.stdout.text == "5\n"
