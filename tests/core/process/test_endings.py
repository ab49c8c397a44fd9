"""Waiting, stopping and leaving: every ending of a real process."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import time
import warnings

import anyio
import pytest

import procflow as pf
from procflow.testing import LeakError, assert_no_leaks
from tests.patience import FairClock, Growing

from .conftest import ON_ONE_BACKEND, PATIENT_LAST_RESORT, group_is_gone, is_alive, process_state, python

pytestmark = pytest.mark.anyio

MARGIN_S = 2.0
"""Ten times the 200 ms of C-64."""

TERM_IGNORER = "trap '' TERM; echo ready; while :; do sleep 60 & wait; done"


class TestWait:
    async def test_wait_returns_while_a_grandchild_holds_the_pipes(self) -> None:
        """C-60: wait() is not blocked by whoever holds the pipe."""
        async with pf.spawn(pf.shell("sleep 60 & exit 3"), shutdown=pf.Shutdown.now()) as child:
            with anyio.fail_after(10):
                outcome = await child.wait()
            assert outcome.exit_code == 3
            assert outcome.usage is None  # the straggler keeps the leader unreaped
            assert not outcome.output_complete
            states = [child.state]
        states.append(child.state)
        assert states == [pf.ProcessState.EXITED, pf.ProcessState.ENDED]
        assert child.outcome is not None
        assert child.outcome.usage is not None
        assert group_is_gone(child.pid)

    async def test_exit_is_noticed_soon(self, clock: FairClock) -> None:
        """C-60: at most 100 ms (tested: 1 s) between the leader's exit and the return of wait()."""
        async with pf.spawn(
            python("import sys,time; sys.stdin.read(); print(time.monotonic())"), stdin=pf.PIPE
        ) as child:
            await child.stdin.aclose()
            await child.wait()
            returned = time.monotonic()
            said = float((await child.stdout.wait_for_line(r"([\d.]+)")).groups[0] or 0)
        assert clock.since(said, returned) < 1.0

    async def test_many_waiters_again_and_again(self) -> None:
        """C-60: any number of tasks wait, and again after the end; all get the same facts."""
        outcomes: list[pf.Outcome] = []
        async with pf.spawn(pf.shell("read x; exit 7"), stdin=pf.PIPE) as child:

            async def wait() -> None:
                outcomes.append(await child.wait())

            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(wait)
                await child.stdin.send(b"\n")
            outcomes.append(await child.wait())
        outcomes.append(await child.wait())

        assert {(o.exit_code, o.ended_at, o.pid) for o in outcomes} == {(7, outcomes[0].ended_at, child.pid)}
        assert len(outcomes) == 52

    async def test_cancelled_wait_changes_nothing(self) -> None:
        """C-60: a cancelled waiter leaves the process and the other waiters alone."""
        async with pf.spawn(pf.shell("read x; exit 7"), stdin=pf.PIPE) as child:
            stdin = child.stdin
            with anyio.move_on_after(0.01) as scope:
                await child.wait()
            assert scope.cancelled_caught
            assert is_alive(child.pid)
            await stdin.send(b"\n")
            assert (await child.wait()).exit_code == 7

    async def test_outcome_has_the_facts(self) -> None:
        """C-62: code or signal, times on both clocks, usage, who ended it, tails."""
        done = await pf.run(pf.shell("echo out; echo err >&2; exit 5"), check=False)
        outcome = done.outcome

        assert (outcome.exit_code, outcome.signal, outcome.ended_by) == (5, None, pf.EndedBy.ITSELF)
        assert outcome.started_at.tzinfo is not None
        assert outcome.started_at <= outcome.ended_at
        assert 0 < outcome.duration_s < 60
        assert outcome.usage is not None
        assert outcome.usage.max_rss_bytes > 100_000
        assert (outcome.stdout_tail, outcome.stderr_tail) == (b"out\n", b"err\n")
        assert outcome.output_complete
        assert str(outcome) == "sh exited with 5"

    async def test_signal_and_core_flag(self) -> None:
        """C-62: a process that a signal ended has no exit code."""
        done = await pf.run(pf.shell("ulimit -c 0; kill -SEGV $$"), check=False)

        assert (done.outcome.exit_code, done.outcome.signal) == (None, signal.SIGSEGV)
        assert not done.outcome.core_dumped
        assert done.outcome.described == "was ended by SIGSEGV"

    async def test_ignored_sigchld_gives_unknown(self, sigchld_ignored: None) -> None:
        """C-62: with SIGCHLD ignored the kernel throws the status away: unknown, never 0."""
        done = await pf.run(pf.shell("exit 7"), check=False)
        assert done.outcome.is_unknown
        assert not done.outcome.ok

        with pytest.raises(pf.ExitError, match="unknown"):
            await pf.run(pf.Command("true"))

        async with pf.spawn(pf.shell("sleep 60 & echo $!; exit 7"), shutdown=pf.Shutdown.now()) as child:
            straggler = int((await child.stdout.wait_for_line(r"(\d+)")).groups[0] or 0)
            assert (await child.wait()).is_unknown
        assert not is_alive(straggler)

    async def test_foreign_reaping_gives_unknown(self) -> None:
        """C-62: a host that reaps every child it finds makes the status unknown, not wrong."""
        async with pf.spawn(pf.shell("read x; exit 7"), stdin=pf.PIPE) as child:
            os.write(child.stdin._pipe._fd, b"\n")
            os.waitpid(child.pid, 0)
            assert (await child.wait()).is_unknown

    async def test_thread_watches_where_there_is_no_pidfd(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """C-60: without pidfds one thread a child notices the exit; it ends with the child."""
        monkeypatch.setenv("PROCFLOW_NO_PIDFD", "1")
        async with pf.spawn(pf.shell("sleep 60 & exit 3"), shutdown=pf.Shutdown.now()) as child:
            with anyio.fail_after(10):
                assert (await child.wait()).exit_code == 3
        async with pf.spawn(pf.Command("sleep", "60")) as child:
            outcome = await child.terminate()
        assert outcome.signal == signal.SIGTERM
        assert (await pf.run(pf.Command("echo", "x"))).stdout.text == "x\n"


class TestStop:
    async def test_terminate_reports_the_phase_that_worked(
        self, observed: list[pf.ProcessEvent], clock: FairClock
    ) -> None:
        """C-64: SIGTERM ends an obedient tree at once; the outcome names phase, effect and duration (TPT 189, 195)."""
        async with pf.spawn(pf.shell("sleep 60 & sleep 60 & echo ready; wait")) as child:
            await child.stdout.wait_for_line("ready")
            begun = time.monotonic()
            outcome = await child.terminate(pf.Shutdown.sigterm(60))
            assert clock.since(begun) < MARGIN_S
            assert (outcome.signal, outcome.ended_by) == (signal.SIGTERM, pf.EndedBy.TERMINATE)
            assert [(p.signal, p.ended) for p in outcome.phases] == [(signal.SIGTERM, True)]
            assert group_is_gone(child.pid)
            assert await child.terminate() == child.outcome  # twice

    async def test_ignored_signal_escalates(self, observed: list[pf.ProcessEvent], clock: FairClock) -> None:
        """C-64: what ignores SIGTERM is killed after the phase; total <= sum of waits + kill_wait_s + 200 ms."""
        async with pf.spawn(pf.shell(TERM_IGNORER)) as child:
            await child.stdout.wait_for_line("ready")
            begun = time.monotonic()
            outcome = await child.terminate(pf.Shutdown.sigterm(0.2))
            assert time.monotonic() - begun >= 0.2
            assert clock.since(begun) < 0.2 + MARGIN_S
        assert outcome.signal == signal.SIGKILL
        assert [(p.signal, p.ended) for p in outcome.phases] == [(signal.SIGTERM, False), (signal.SIGKILL, True)]

    async def test_leader_that_obeys_does_not_save_its_children(self, observed: list[pf.ProcessEvent]) -> None:
        """C-65: the leader exits in the graceful phase; a child that ignores the signal is still swept, before the reap (TPT D2, N6)."""
        script = (
            "(trap '' TERM; echo $(exec sh -c 'echo $PPID'); while :; do sleep 60; done) & trap 'exit 0' TERM; wait"
        )
        grace = Growing(0.2)
        while True:
            async with pf.spawn(pf.shell(script)) as child:
                deaf = int((await child.stdout.wait_for_line(r"(\d+)")).groups[0] or 0)
                outcome = await child.terminate(pf.Shutdown.sigterm(grace.seconds))
                assert not is_alive(deaf)
                assert group_is_gone(child.pid)
            if outcome.exit_code is not None or not grace.grow():  # else the leader was not run in all that time
                break
        assert outcome.exit_code == 0
        kinds = [
            (type(event), getattr(event, "signal", None)) for event in observed if getattr(event, "pid", 0) == child.pid
        ]
        assert kinds.index((pf.Signalled, signal.SIGKILL)) < kinds.index((pf.Reaped, None))

    async def test_stopped_process_ends_in_the_graceful_phase(self) -> None:
        """C-64: SIGCONT follows a catchable signal, so a stopped child ends without SIGKILL."""
        async with pf.spawn(pf.shell("echo ready; read x"), stdin=pf.PIPE) as child:
            await child.stdout.wait_for_line("ready")
            assert child.send_signal(signal.SIGSTOP)
            with anyio.fail_after(10):
                while process_state(child.pid) != "T":
                    await anyio.lowlevel.checkpoint()
            outcome = await child.terminate(pf.Shutdown.sigterm(60))
        assert outcome.signal == signal.SIGTERM

    async def test_orderly_lets_the_leader_end_its_children(self) -> None:
        """C-64: orderly() signals the leader alone first; what it does about its children is its own affair."""
        # If the child got SIGTERM too, it would be gone, and the leader's kill would complain.
        script = "trap 'echo leader; kill -KILL $p; exit 0' TERM; sleep 60 & p=$!; echo ready; wait"
        async with pf.spawn(pf.shell(script)) as child:
            await child.stdout.wait_for_line("ready")
            outcome = await child.terminate(pf.Shutdown.orderly(60, 60))
        assert outcome.exit_code == 0
        assert (outcome.stdout_tail, outcome.stderr_tail) == (b"ready\nleader\n", b"")

    async def test_protocol_shutdown_comes_first(self) -> None:
        """C-64: an async callable is asked first; if it ends the tree, no signal is needed."""
        async with pf.spawn(pf.shell("read x; exit 9"), stdin=pf.PIPE) as child:
            stdin = child.stdin
            shutdown = pf.Shutdown(first=lambda: stdin.send(b"quit\n"), first_wait_s=60)
            outcome = await child.terminate(shutdown)
        assert outcome.exit_code == 9
        assert [(p.signal, p.ended) for p in outcome.phases] == [(None, True)]

    async def test_failing_protocol_shutdown_is_recorded(self) -> None:
        """C-64: what the callable raises is recorded as an attempt, and the phases follow at once."""

        async def fail() -> None:
            raise ConnectionError("refused")

        async with pf.spawn(pf.Command("sleep", "60")) as child:
            shutdown = pf.Shutdown(phases=pf.Shutdown.sigterm().phases, first=fail, first_wait_s=60)
            outcome = await child.terminate(shutdown)
        assert [(p.signal, p.error) for p in outcome.phases] == [
            (None, "raised ConnectionError"),
            (signal.SIGTERM, None),
        ]

    async def test_everybody_stops_and_waits_at_once(self, observed: list[pf.ProcessEvent]) -> None:
        """C-66: wait, terminate and kill from many tasks, each twice: one stop, everybody gets the outcome (TPT 187, N10)."""
        outcomes: list[pf.Outcome] = []
        async with pf.spawn(pf.shell(TERM_IGNORER), shutdown=pf.Shutdown.sigterm(600)) as child:
            await child.stdout.wait_for_line("ready")

            async def call(method: str) -> None:
                for _ in range(2):
                    outcomes.append(await getattr(child, method)())

            with anyio.fail_after(20):
                async with anyio.create_task_group() as tasks:
                    for _ in range(5):
                        for method in ("wait", "terminate", "kill"):
                            tasks.start_soon(call, method)
        assert {outcome.signal for outcome in outcomes} == {signal.SIGKILL}
        assert len(outcomes) == 30
        assert [type(event) for event in observed].count(pf.Reaped) == 1

    async def test_kill_cuts_a_patient_stop_short(self) -> None:
        """C-66: kill() during terminate(): the stop loses its patience and both return."""
        async with pf.spawn(pf.shell(TERM_IGNORER)) as child:
            await child.stdout.wait_for_line("ready")
            with anyio.fail_after(20):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(child.terminate, pf.Shutdown.sigterm(600))
                    await anyio.wait_all_tasks_blocked()
                    outcome = await child.kill()
        assert outcome.ended_by is pf.EndedBy.KILL

    async def test_cancelled_terminate_goes_on(self) -> None:
        """C-66: a stop belongs to the process, not to the task that asked for it (TPT 190)."""
        async with pf.spawn(pf.shell(TERM_IGNORER)) as child:
            await child.stdout.wait_for_line("ready")
            with anyio.move_on_after(0.05):
                await child.terminate(pf.Shutdown.sigterm(0.2))
            assert child.state is not pf.ProcessState.RUNNING
            with anyio.fail_after(20):
                outcome = await child.wait()
        assert outcome.signal == signal.SIGKILL

    async def test_block_does_not_wait_for_a_more_patient_stop(self, clock: FairClock) -> None:
        """C-67: the block's own policy bounds its end, also when an older stop would wait longer."""
        with anyio.fail_after(60):
            async with pf.spawn(pf.shell(TERM_IGNORER), shutdown=pf.Shutdown.sigterm(0.1)) as child:
                await child.stdout.wait_for_line("ready")
                with anyio.move_on_after(0.05):
                    await child.terminate(pf.Shutdown.sigterm(600))
                begun = time.monotonic()
        assert clock.since(begun) < 5
        assert group_is_gone(child.pid)

    async def test_nothing_is_signalled_after_the_reaping(self, observed: list[pf.ProcessEvent]) -> None:
        """C-66: send_signal() after the end sends nothing and says so (TPT 161, 181, 182, 192, 200)."""
        async with pf.spawn(pf.Command("true")) as child:
            await child.wait()
            assert not child.send_signal(signal.SIGTERM)
            assert not child.send_signal(signal.SIGTERM, to=pf.Target.GROUP)
            assert (await child.kill()).exit_code == 0
            assert (await child.terminate()).ended_by is pf.EndedBy.ITSELF
        assert not child.send_signal(signal.SIGTERM)

    async def test_a_zombie_receives_nothing(self) -> None:
        """C-66: an exited leader that stragglers keep unreaped is nobody to signal; its group still is (TPT 182)."""
        async with pf.spawn(pf.shell("sleep 60 & exit 0"), shutdown=pf.Shutdown.now()) as child:
            await child.wait()
            assert child.state is pf.ProcessState.EXITED
            assert not child.send_signal(signal.SIGTERM)
            assert child.send_signal(signal.SIGTERM, to=pf.Target.GROUP)

    async def test_send_signal_reaches_the_leader(self) -> None:
        """C-64: one signal, no stop."""
        async with pf.spawn(pf.shell("trap 'echo hup; exit 4' HUP; echo ready; while :; do sleep 0.01; done")) as child:
            await child.stdout.wait_for_line("ready")
            assert child.send_signal(signal.SIGHUP)
            outcome = await child.wait()
        assert (outcome.exit_code, outcome.ended_by) == (4, pf.EndedBy.ITSELF)


class TestLeaving:
    @pytest.mark.parametrize("way", ["return", "exception", "cancel", "timeout"])
    @pytest.mark.parametrize("script", ["sleep 60 & sleep 60 & echo ready; wait", TERM_IGNORER])
    async def test_block_is_left(
        self, way: str, script: str, observed: list[pf.ProcessEvent], clock: FairClock
    ) -> None:
        """C-67: however the block is left: leader reaped, no such group, descriptors closed, within the bound (TPT N4)."""

        async def body() -> pf.Process:
            async with pf.spawn(pf.shell(script), shutdown=pf.Shutdown.sigterm(0.3)) as child:
                await child.stdout.wait_for_line("ready")
                seen.append(child)
                begun.append(time.monotonic())
                if way == "exception":
                    raise KeyError("mine")
                if way == "cancel":
                    scope.cancel()
                if way == "timeout":
                    scope.deadline = anyio.current_time() + 0.2
                if way != "return":
                    await anyio.sleep_forever()
            return child

        seen: list[pf.Process] = []
        begun: list[float] = []
        if way == "exception":
            with pytest.raises(KeyError):
                await body()
        elif way == "timeout":
            with pytest.raises(TimeoutError), anyio.fail_after(None) as scope:
                await body()
        else:
            with anyio.CancelScope() as scope:
                await body()

        child = seen[0]
        assert clock.since(begun[0]) < 0.2 + 0.3 + 2.0 + MARGIN_S
        assert child.state is pf.ProcessState.ENDED
        assert group_is_gone(child.pid)
        assert child.pid in [event.pid for event in observed if isinstance(event, pf.Reaped)]
        assert child.outcome is not None
        expected = pf.EndedBy.CANCEL if way in ("cancel", "timeout") else pf.EndedBy.SCOPE
        assert child.outcome.ended_by is expected
        assert [type(event) for event in observed].count(pf.Reaped) == 1

    async def test_survivor_is_reported_not_waited_for(self, immortal: pf.Command, clock: FairClock) -> None:
        """C-64: a process that nothing ends (a D-state stand-in) costs its bound and no more; the error names it (TPT 198, D3)."""
        begun = time.monotonic()
        with pytest.raises(pf.TerminationError) as caught:
            async with pf.spawn(immortal, shutdown=pf.Shutdown.sigterm(0.1, kill_wait_s=0.1)) as child:
                pass

        assert clock.since(begun) < 0.2 + MARGIN_S
        assert len(caught.value.survivors) == 1
        assert str(child.pid) in caught.value.survivors[0]
        assert [attempt.split(":")[0] for attempt in caught.value.attempts] == [
            "SIGTERM to the group",
            "SIGKILL to the tree",
        ]
        assert caught.value.outcome is None

    async def test_survivor_never_replaces_the_bodys_exception(self, immortal: pf.Command) -> None:
        """C-67: while another exception propagates the survivors are notes on it."""
        with pytest.raises(KeyError) as caught:
            async with pf.spawn(immortal, shutdown=pf.Shutdown.now(kill_wait_s=0.05)):
                raise KeyError("mine")

        assert any("survivor" in note for note in caught.value.__notes__)

    async def test_terminate_raises_for_survivors_to_everybody(self, immortal: pf.Command, clock: FairClock) -> None:
        """C-64: every task that asked for the stop gets the error; the block then does not wait all over again (TPT 203)."""
        errors: list[pf.TerminationError] = []
        begun = time.monotonic()

        with pytest.raises(pf.TerminationError):
            async with pf.spawn(immortal, shutdown=pf.Shutdown.now(kill_wait_s=0.3)) as child:

                async def stop() -> None:
                    try:
                        await child.terminate()
                    except pf.TerminationError as error:
                        errors.append(error)

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(stop)
                    tasks.start_soon(stop)

        assert len(errors) == 2
        assert clock.since(begun) < 0.4 + MARGIN_S

    async def test_cat_ends_when_nobody_touched_its_stdin(self) -> None:
        """C-60, C-7: wait() closes a standard input that nobody asked for; one that was asked for stays open (TPT 25, 26, 27)."""
        async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE) as child:
            with anyio.fail_after(10):
                assert (await child.wait()).ok

        async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE) as child:
            stdin = child.stdin
            with anyio.move_on_after(0.05) as scope:
                await child.wait()
            assert scope.cancelled_caught
            await stdin.send(b"still open\n")
            await stdin.aclose()
            await stdin.aclose()
            assert (await child.wait()).stdout_tail in (b"", b"still open\n")
            with pytest.raises(anyio.ClosedResourceError):
                await stdin.send(b"x")

    async def test_detached_child_lives_on(self, caplog: pytest.LogCaptureFixture) -> None:
        """C-68: detach() is the only way to let a child live on; it is logged (TPT 208, D7)."""
        caplog.set_level(logging.DEBUG, logger="procflow.process")
        with assert_no_leaks():
            async with pf.spawn(pf.Command("sleep", "60"), stdout=pf.NULL, stderr=pf.NULL) as child:
                await child.detach()
                with pytest.raises(pf.UsageError):
                    await child.terminate()
            assert child.state is pf.ProcessState.DETACHED
            assert is_alive(child.pid)
            assert any("detached" in record.message for record in caplog.records)
            with pytest.raises(LeakError, match="sleep"), assert_no_leaks_of(child.pid):
                pass
            os.kill(child.pid, signal.SIGKILL)
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            await pf.run(pf.Command("true"))  # the next spawn reaps what was detached

    async def test_logging_is_debug_only(self, caplog: pytest.LogCaptureFixture) -> None:
        """C-92: nothing above DEBUG in normal work, and no argument in any record."""
        caplog.set_level(logging.DEBUG)
        async with pf.spawn(pf.Command("sleep", "61")) as child:
            await child.terminate()
        ours = [record for record in caplog.records if record.name.startswith("procflow")]

        assert {record.name for record in ours} >= {"procflow.process", "procflow.termination"}
        assert all(record.levelno == logging.DEBUG and "61" not in record.getMessage().split() for record in ours)


def assert_no_leaks_of(pid: int) -> assert_no_leaks:
    """Return a leak check to which ``pid`` looks new."""
    check = assert_no_leaks(settle_s=0.0)
    begin = check._begin

    def begin_without(*, with_tasks: bool) -> None:
        begin(with_tasks=with_tasks)
        check._before.children.pop(pid)

    check._begin = begin_without  # type: ignore[method-assign]
    return check


@ON_ONE_BACKEND
class TestEscape:
    async def test_dropped_block_kills_and_warns(self) -> None:
        """C-68: a block object that is dropped without being left: ResourceWarning, and the group is killed (TPT 214, N5)."""
        # In a process of its own: the block's cancel scopes stay open in the task that entered it.
        script = """
import asyncio, gc, os, signal, sys, warnings
import procflow as pf
async def main():
    block = pf.spawn(pf.shell("sleep 60 & echo ready; wait"))
    child = await block.__aenter__()
    await child.stdout.wait_for_line("ready")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del block
        gc.collect()
    assert [w.category for w in caught] == [ResourceWarning], caught
    try:
        os.killpg(child.pid, 0)
    except ProcessLookupError:
        pass
    assert os.path.exists("/proc/%d/status" % child.pid) is False
    print("gone")
    sys.stdout.flush()
    os._exit(0)
asyncio.run(main())
"""
        await self.check(script)

    async def test_loop_that_is_torn_down_kills_and_warns(self) -> None:
        """C-68: the loop stops in the middle of a block: its group is killed when the coroutine is thrown away."""
        script = """
import asyncio, gc, os, sys, warnings
import procflow as pf
pids = []
async def main():
    async with pf.spawn(pf.Command("sleep", "60")) as child:
        pids.append(child.pid)
        loop.stop()
        await asyncio.sleep(60)
loop = asyncio.new_event_loop()
task = loop.create_task(main())
task.add_done_callback(lambda _: loop.stop())  # it failed
loop.run_forever()
loop.close()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    del task, main
    gc.collect()
import subprocess
if not any(w.category is ResourceWarning and "spawn" in str(w.message) for w in caught):
    import atexit
    atexit._run_exitfuncs()
assert not os.path.exists("/proc/%d/status" % pids[0])
print("gone")
sys.stdout.flush()
os._exit(0)
"""
        await self.check(script)

    async def test_interpreter_exit_kills(self) -> None:
        """C-68: what still runs when the interpreter ends is killed."""
        script = """
import asyncio
import procflow as pf
async def main():
    async with pf.spawn(pf.Command("sleep", "60")) as child:
        print(child.pid, flush=True)
        loop.stop()
        await asyncio.sleep(60)
loop = asyncio.new_event_loop()
task = loop.create_task(main())
task.add_done_callback(lambda _: loop.stop())  # it failed
loop.run_forever()
"""
        done = await pf.run(self.host(script), timeout_s=60, check=False)
        pid = int(done.stdout.lines[0])
        with anyio.fail_after(10):  # it was killed: when it ends is the kernel's affair
            while is_alive(pid):
                await anyio.sleep(0.001)

    async def check(self, script: str) -> None:
        done = await pf.run(self.host(script), timeout_s=60, check=False)
        assert done.stdout.text == "gone\n", done.stderr.text

    @staticmethod
    def host(script: str) -> pf.Command:
        env = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "default"}
        return pf.Command(sys.executable, "-c", PATIENT_LAST_RESORT + script, env=env, name="host")


def test_asyncio_run_cancels_everything_natively() -> None:
    """C-67: asyncio.run() that ends under a background task cancels every task at once; the block still leaves nothing."""

    async def background() -> None:
        async with pf.spawn(pf.shell(TERM_IGNORER), shutdown=pf.Shutdown.sigterm(0.1)) as child:
            await child.stdout.wait_for_line("ready")
            pids.append(child.pid)
            ready.set()
            await asyncio.sleep(60)

    async def main() -> None:
        kept.append(asyncio.create_task(background()))  # noqa: TID251 (a task without an owner is the point)
        await ready.wait()

    pids: list[int] = []
    ready = asyncio.Event()
    kept: list[asyncio.Task[None]] = []
    with assert_no_leaks():
        asyncio.run(main())
    assert group_is_gone(pids[0])


@pytest.mark.parametrize("delay_s", [0.0, 0.001, 0.02, 0.15])
def test_second_native_cancel_kills_at_once(delay_s: float, patient_last_resort: None, clock: FairClock) -> None:
    """C-67: asyncio code that cancels the block's task once more during the tear-down gets SIGKILL, not a leak."""

    async def background() -> None:
        async with pf.spawn(pf.shell(TERM_IGNORER), shutdown=pf.Shutdown.sigterm(60)) as child:
            await child.stdout.wait_for_line("ready")
            pids.append(child.pid)
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(background())  # noqa: TID251 (native cancellation is the point)
        while not pids:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(delay_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    pids: list[int] = []
    begun = time.monotonic()
    with assert_no_leaks():
        asyncio.run(main())
    assert clock.since(begun) < 10
    assert group_is_gone(pids[0])


async def test_asyncio_timeout_does_the_same(anyio_backend_name: str) -> None:
    """C-63: asyncio.timeout() around a block ends the tree before it raises."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio only")
    pids = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as timeout:
            async with pf.spawn(pf.shell("sleep 60 & wait")) as child:
                pids.append(child.pid)
                timeout.reschedule(asyncio.get_running_loop().time() + 0.2)
                await asyncio.sleep(60)
    assert group_is_gone(pids[0])


async def test_async_generator_may_own_a_block() -> None:
    """C-67: a generator that is closed inside its block leaves nothing, although it is left by GeneratorExit."""

    async def lines() -> object:
        async with pf.spawn(pf.shell("while echo line; do :; done")) as child:
            pids.append(child.pid)
            async for line in child.stdout.lines():
                yield line

    pids: list[int] = []
    generator = lines()
    async for _ in generator:  # type: ignore[attr-defined]
        break
    await generator.aclose()  # type: ignore[attr-defined]
    assert group_is_gone(pids[0])


def test_forked_copy_of_the_host_kills_nothing() -> None:
    """C-68: a fork of the host that exits does not end the host's children."""

    async def main() -> None:
        async with pf.spawn(pf.Command("sleep", "60")) as child:
            helper = subprocess.run([sys.executable, "-c", "print('other program')"], capture_output=True, check=True)
            assert helper.stdout
            pid = os.fork()
            if pid == 0:
                import weakref

                weakref.finalize._exitfunc()  # type: ignore[attr-defined]
                os._exit(0)
            os.waitpid(pid, 0)
            assert is_alive(child.pid)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        anyio.run(main)
    gc.collect()


async def test_leaving_the_block_closes_standard_input() -> None:
    """C-7, C-67: a child that ignores SIGTERM but ends with its input ends when the block is left."""
    async with pf.spawn(pf.shell("trap '' TERM; echo ready; cat; exit 6"), stdin=pf.PIPE) as child:
        await child.stdout.wait_for_line("ready")
        await child.stdin.send(b"kept open\n")
    assert child.outcome is not None
    assert child.outcome.exit_code == 6
    assert child.outcome.stdout_tail == b"ready\nkept open\n"
