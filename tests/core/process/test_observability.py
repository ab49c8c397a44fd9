"""The events of processes and streams: which, in which order, and to whom."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import anyio
import anyio.to_thread
import pytest

import procflow as pf
from procflow._observers import emit, observers
from procflow._process.leader import Leader, reap_abandoned
from procflow._process.scope import SpawnScope

from .conftest import is_alive, require_order

TERM_IGNORER = "trap '' TERM; echo ready; while :; do sleep 60 & wait; done"
SECRET = "hunter2-do-not-tell"


@pytest.fixture(autouse=True)
def _no_observer_is_left() -> Iterator[None]:
    before = list(observers)
    yield
    assert observers == before


def about(events: list[pf.ProcessEvent], pid: int) -> list[pf.ProcessEvent]:
    """The events of one process; the guard of this host may tell something at any moment."""
    return [event for event in events if getattr(event, "pid", None) == pid]


def told(events: list[pf.ProcessEvent], pid: int) -> list[str | tuple[str, str, str]]:
    """What was told about one process, in short: the class, and of signals whom and which."""
    short: list[str | tuple[str, str, str]] = []
    for event in about(events, pid):
        if isinstance(event, pf.Signalled):
            short.append(
                (signal.Signals(event.signal).name, event.to, "after exit" if event.after_exit else "before exit")
            )
        else:
            short.append(type(event).__name__)
    return short


SWEEP = ("SIGKILL", "group", "after exit")


class TestOrder:
    pytestmark = pytest.mark.anyio

    async def test_a_run_that_exits(self, observed: list[pf.ProcessEvent]) -> None:
        """C-92: started, exited, swept, reaped: in this order, with what the outcome says."""
        done = await pf.run(pf.Command("sh", "-c", "exit 3", name="three"), check=False)

        assert told(observed, done.outcome.pid) == ["Spawned", "Exited", SWEEP, "Reaped"]
        spawned, exited, _, reaped = about(observed, done.outcome.pid)
        assert isinstance(spawned, pf.Spawned)
        assert isinstance(exited, pf.Exited)
        assert isinstance(reaped, pf.Reaped)
        assert {spawned.name, exited.name, reaped.name} == {"three"}
        assert spawned.containment is not None
        assert str(spawned) == f"three: started as pid {spawned.pid} (containment: {spawned.containment.level})"
        assert (exited.exit_code, exited.signal, exited.core_dumped) == (3, None, False)
        assert exited.lived_s == pytest.approx(done.outcome.duration_s, abs=0.5)
        assert reaped.usage == done.outcome.usage

    async def test_moments_follow_each_other_on_both_clocks(self, observed: list[pf.ProcessEvent]) -> None:
        """C-92: every event says when it was told: monotonic, and as an aware instant."""
        before = datetime.now(UTC)

        done = await pf.run(pf.Command("true"))

        events = about(observed, done.outcome.pid)
        moments = [event.mono_s for event in events]
        assert moments == sorted(moments)
        assert all(before - timedelta(seconds=1) <= event.at <= datetime.now(UTC) for event in events)
        assert all(event.at.tzinfo is UTC for event in events)

    async def test_a_stop_with_escalation(self, observed: list[pf.ProcessEvent]) -> None:
        """C-92, C-66: each signal of a stop, the step that was not enough, and nothing after the reaping."""
        async with pf.spawn(pf.shell(TERM_IGNORER)) as child:
            await child.stdout.wait_for_line("ready")
            outcome = await child.terminate(pf.Shutdown.sigterm(0.1))

        assert told(observed, child.pid) == [
            "Spawned",
            ("SIGTERM", "group", "before exit"),
            ("SIGCONT", "group", "before exit"),
            "Escalated",
            ("SIGKILL", "group", "before exit"),
            "Exited",
            "Reaped",
        ]
        escalated = next(event for event in observed if isinstance(event, pf.Escalated))
        assert escalated.report == outcome.phases[0]
        exited = next(event for event in observed if isinstance(event, pf.Exited))
        assert (exited.exit_code, exited.signal) == (None, signal.SIGKILL)

    async def test_a_stop_that_is_obeyed_does_not_escalate(self, observed: list[pf.ProcessEvent]) -> None:
        """C-92: the sweep of an obedient tree is no escalation."""
        async with pf.spawn(pf.shell("echo ready; sleep 60")) as child:
            await child.stdout.wait_for_line("ready")
            await child.terminate(pf.Shutdown.sigterm(60))

        steps = told(observed, child.pid)
        continued = [step for step in steps if step[0] == "SIGCONT"]  # before the exit, or just after it
        assert len(continued) == 1
        steps.remove(continued[0])
        assert steps == ["Spawned", ("SIGTERM", "group", "before exit"), "Exited", SWEEP, "Reaped"]

    async def test_a_kill_that_cuts_a_stop_short_is_an_escalation(self, observed: list[pf.ProcessEvent]) -> None:
        """C-92: a step may be given up before its time, which is told as well."""
        async with pf.spawn(pf.shell(TERM_IGNORER)) as child:
            await child.stdout.wait_for_line("ready")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(child.terminate, pf.Shutdown.sigterm(600))
                with anyio.fail_after(30):
                    while not any(isinstance(event, pf.Signalled) for event in observed):
                        await anyio.sleep(0.001)
                await child.kill()

        assert [type(event) for event in observed].count(pf.Escalated) == 1
        assert told(observed, child.pid)[-3:] == [("SIGKILL", "group", "before exit"), "Exited", "Reaped"]

    async def test_a_signal_of_the_caller(self, observed: list[pf.ProcessEvent]) -> None:
        """C-92: send_signal() is told like the signals of a stop."""
        async with pf.spawn(pf.shell("trap 'exit 0' USR1; echo ready; while :; do sleep 0.01; done")) as child:
            await child.stdout.wait_for_line("ready")
            child.send_signal(signal.SIGUSR1)
            await child.wait()

        assert told(observed, child.pid) == [
            "Spawned",
            ("SIGUSR1", "leader", "before exit"),
            "Exited",
            SWEEP,
            "Reaped",
        ]

    async def test_detach(self, observed: list[pf.ProcessEvent]) -> None:
        """C-92, C-68: a detached child is told to be; its end follows when it is reaped, and no signal is sent to it."""
        theirs, ours = os.pipe()
        async with pf.spawn(pf.shell("read line; exit 4"), stdin=theirs, shutdown=pf.Shutdown.now()) as child:
            await child.detach()
        os.close(theirs)
        assert told(observed, child.pid) == ["Spawned", "Detached"]
        os.close(ours)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        reap_abandoned()

        assert told(observed, child.pid) == ["Spawned", "Detached", "Exited", "Reaped"]

    async def test_each_stage_of_a_pipeline(self, observed: list[pf.ProcessEvent]) -> None:
        """C-92, C-9: every stage is started, exits and is reaped under its own name; the first one, whose number it is, last."""
        done = await pf.run(pf.Command("echo", "x") | pf.Command("cat"))

        pids = [stage.pid for stage in done.outcome.stages]
        assert [(e.name, e.pid) for e in observed if isinstance(e, pf.Spawned)] == [("echo", pids[0]), ("cat", pids[1])]
        assert {e.name for e in observed if isinstance(e, pf.Exited)} == {"echo", "cat"}
        assert [e.pid for e in observed if isinstance(e, pf.Reaped)] == [pids[1], pids[0]]

    async def test_statuses_that_nobody_can_tell(self, observed: list[pf.ProcessEvent], sigchld_ignored: None) -> None:
        """C-92, C-62: where the kernel throws statuses away, the exit is unknown and the reaping somebody else's."""
        done = await pf.run(pf.Command("true"), check=False)

        ends = [
            event for event in observed if isinstance(event, pf.Exited | pf.Reaped) and event.pid == done.outcome.pid
        ]
        assert [type(event) for event in ends] == [pf.Exited, pf.Reaped]
        assert (ends[0].exit_code, ends[0].signal, ends[1].usage) == (None, None, None)  # type: ignore[union-attr]  # in this order

    async def test_a_stage_that_cannot_be_started(self, observed: list[pf.ProcessEvent]) -> None:
        """C-92, C-3: what was started before it is told to its end; what never ran is not told."""
        with pytest.raises(pf.SpawnError):
            await pf.run(pf.Command("sleep", "60") | pf.Command("no-such-program"))

        pid = next(event.pid for event in observed if isinstance(event, pf.Spawned))
        assert told(observed, pid) == ["Spawned", ("SIGKILL", "group", "before exit"), "Exited", "Reaped"]

    async def test_survivors_have_escaped(self, observed: list[pf.ProcessEvent], immortal: pf.Command) -> None:
        """C-92: who outlives a whole stop is told, with everything that the error says."""
        with pytest.raises(pf.TerminationError):
            async with pf.spawn(immortal, shutdown=pf.Shutdown.now(kill_wait_s=0.05)) as child:
                pass

        escaped = [event for event in observed if isinstance(event, pf.Escaped)]
        assert [(event.escaped_pids, event.has_survived) for event in escaped] == [((child.pid,), True)]

    async def test_a_dropped_block_is_told_to_its_end(
        self, observed: list[pf.ProcessEvent], patient_last_resort: None
    ) -> None:
        """C-92, C-68: also what the garbage collector ends, in whatever thread, is told in order."""
        scope = pf.spawn(pf.Command("sleep", "60"))
        assert isinstance(scope, SpawnScope)
        child = await scope.__aenter__()
        assert scope.core is not None
        pid, leader = child.pid, scope.core.leader
        del child
        with pytest.warns(ResourceWarning):
            del scope
        with anyio.fail_after(30):
            while leader.exit_fd >= 0:  # closed by the loop, in its next turns
                await anyio.sleep(0.001)

        assert told(observed, pid) == ["Spawned", ("SIGKILL", "group", "before exit"), "Exited", "Reaped"]

    @pytest.mark.parametrize("way", ["terminate", "kill", "exit", "leave"])
    async def test_many_at_once_keep_the_order(self, observed: list[pf.ProcessEvent], way: str) -> None:
        """C-66, C-92: twenty children that end at the same time: each is signalled before it is reaped, and reaped once."""

        async def one() -> None:
            async with pf.spawn(pf.shell("echo ready; read line"), stdin=pf.PIPE) as child:
                await child.stdout.wait_for_line("ready")
                match way:
                    case "terminate":
                        await child.terminate()
                    case "kill":
                        await child.kill()
                    case "exit":
                        await child.stdin.aclose()
                        await child.wait()
                    case _:
                        pass

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(one)

        require_order(observed)
        for pid in [event.pid for event in observed if isinstance(event, pf.Spawned)]:
            events = told(observed, pid)
            assert (events[0], events[-1]) == ("Spawned", "Reaped")
            assert events.count("Exited") == 1


class TestStreams:
    pytestmark = pytest.mark.anyio

    @pytest.mark.parametrize("loss", list(pf.Loss))
    async def test_every_gap_is_told(self, observed: list[pf.ProcessEvent], loss: pf.Loss) -> None:
        """C-92, C-24: what a best-effort subscriber has lost is told when it is handed the gap, to the byte."""
        command = pf.Command("sh", "-c", "head -c 300000 /dev/zero", name="zero")
        async with pf.spawn(command) as child:
            events = child.stdout.subscribe(pf.BestEffort(buffer_bytes=4096, loss=loss), name="slow")
            await child.stdout.wait_ended()
            items = [item async for item in events]
            statistics = events.statistics()

        gaps = [item for item in items if isinstance(item, pf.Gap)]
        lost = [event for event in observed if isinstance(event, pf.Lost)]
        assert statistics.lost_bytes > 0
        assert [(e.stream, e.subscriber, e.start, e.lost_bytes) for e in lost] == [
            ("zero stdout", "slow", gap.start, gap.lost_bytes) for gap in gaps
        ]

    async def test_what_line_readers_skip_is_told(self, observed: list[pf.ProcessEvent]) -> None:
        """C-92, C-42: a gap that a line reader does not show is told nevertheless."""
        async with pf.spawn(pf.shell("i=0; while [ $i -lt 9000 ]; do echo line $i; i=$((i+1)); done")) as child:
            lines = child.stdout.lines(pf.BestEffort(buffer_bytes=1000), on_gap="skip")
            await child.stdout.wait_ended()
            assert all([line.startswith("line") async for line in lines])

        assert sum(event.lost_bytes for event in observed if isinstance(event, pf.Lost)) > 0

    async def test_a_stall_and_who_causes_it(self) -> None:
        """C-92, C-23: a stream that stops for a reliable subscriber says so at once, and names it."""
        stalls: list[pf.Stalled] = []
        seen = anyio.Event()

        def note(event: pf.ProcessEvent) -> None:
            if isinstance(event, pf.Stalled):
                stalls.append(event)
                seen.set()

        command = pf.Command("sh", "-c", "head -c 500000 /dev/zero", name="zero")
        with pf.observe(note):
            async with pf.spawn(command, stdout=pf.StreamConfig(replay=pf.Replay.none())) as child:
                events = child.stdout.subscribe(pf.Reliable(buffer_bytes=10_000), name="slow")
                with anyio.fail_after(30):
                    await seen.wait()
                assert child.stdout.statistics().stalled_by == ("slow",)
                total = sum([len(item.data) async for item in events if isinstance(item, pf.Chunk)])

        assert total == 500_000
        assert {(event.stream, event.subscriber, event.action) for event in stalls} == {("zero stdout", "slow", None)}
        assert all(event.lag_bytes >= 10_000 for event in stalls)

    @pytest.mark.parametrize("action", list(pf.OnStall))
    async def test_a_stall_that_is_not_waited_out(self, action: pf.OnStall) -> None:
        """C-92, C-23: the end of a stream's patience is told, with what was done."""
        stalls: list[pf.Stalled] = []

        def note(event: pf.ProcessEvent) -> None:
            if isinstance(event, pf.Stalled):
                stalls.append(event)

        delivery = pf.Reliable(buffer_bytes=10_000, stall_timeout_s=0.05, on_stall=action)
        with pf.observe(note):
            async with pf.spawn(pf.shell("head -c 500000 /dev/zero")) as child:
                events = child.stdout.subscribe(delivery, name="slow")
                with anyio.fail_after(30):
                    await child.stdout.wait_ended()
                await events.aclose()

        assert [event.action for event in stalls][:2] == [None, action]
        assert {event.subscriber for event in stalls} == {"slow"}

    async def test_streams_without_a_process(self, observed: list[pf.ProcessEvent]) -> None:
        """C-92, C-30: a stream over any source tells its losses under its own name."""
        chunks = [b"x" * 1000 for _ in range(50)]

        class Source:
            async def receive(self) -> bytes:
                await anyio.lowlevel.checkpoint()
                return chunks.pop() if chunks else b""

            async def aclose(self) -> None: ...

        async with pf.open_stream(Source(), name="mine") as stream:
            events = stream.subscribe(pf.BestEffort(buffer_bytes=2000))
            await stream.wait_ended()
            await events.receive_batch()

        assert [event.stream for event in observed if isinstance(event, pf.Lost)] == ["mine"]


class TestObservers:
    @pytest.mark.anyio
    async def test_one_that_raises_is_logged_once_and_disturbs_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        """C-92: its exceptions go nowhere, its first one is logged, the others and what they observe go on."""
        good: list[pf.ProcessEvent] = []

        def bad(event: pf.ProcessEvent) -> None:
            raise KeyError(type(event).__name__)

        with caplog.at_level(logging.INFO, logger="procflow"), pf.observe(bad), pf.observe(good.append):
            async with pf.spawn(pf.shell(TERM_IGNORER)) as child:
                await child.stdout.wait_for_line("ready")
                outcome = await child.terminate(pf.Shutdown.sigterm(0.05))

        assert outcome.signal == signal.SIGKILL
        assert not is_alive(child.pid)
        assert told(good, child.pid)[-1] == "Reaped"
        records = [record for record in caplog.records if record.name == "procflow"]
        assert [record.levelno for record in records] == [logging.ERROR]
        assert records[0].exc_info is not None

    def test_a_logging_handler_that_raises_disturbs_nothing_either(self) -> None:
        """C-92: not even the log of a failed observer can fail what was observed."""

        class Broken(logging.Filter):
            def filter(self, record: logging.LogRecord) -> bool:
                raise OSError("disk full")

        logger, broken = logging.getLogger("procflow"), Broken()
        logger.addFilter(broken)
        try:
            with pf.observe(lambda _event: 1 / 0):
                emit(pf.GuardStarted, pid=1)
        finally:
            logger.removeFilter(broken)

    def test_an_interrupt_passes_through(self) -> None:
        """C-92: Ctrl-C that hits inside an observer is no failure of it."""

        def interrupt(event: pf.ProcessEvent) -> None:
            if isinstance(event, pf.Detached):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), pf.observe(interrupt):
            emit(pf.Detached, name="x", pid=1)

    def test_they_are_called_in_the_order_of_registration_and_leave_in_any(self) -> None:
        """C-92: any number of observers, the same one twice among them; each block ends its own registration."""
        seen: list[str] = []

        def first(event: pf.ProcessEvent) -> None:
            if isinstance(event, pf.Detached):
                seen.append("first")

        def second(event: pf.ProcessEvent) -> None:
            if isinstance(event, pf.Detached):
                seen.append("second")

        blocks = [pf.observe(first), pf.observe(second), pf.observe(first)]
        for block in blocks:
            block.__enter__()

        emit(pf.Detached, name="x", pid=1)
        blocks[0].__exit__(None, None, None)
        emit(pf.Detached, name="x", pid=1)
        blocks[2].__exit__(None, None, None)
        blocks[1].__exit__(None, None, None)
        emit(pf.Detached, name="x", pid=1)

        assert seen == ["first", "second", "first", "second", "first"]

    def test_an_observer_may_leave_while_it_is_called(self) -> None:
        """C-92: the list may change while an event is being told."""
        seen: list[pf.ProcessEvent] = []

        def leave(event: pf.ProcessEvent) -> None:
            if isinstance(event, pf.Detached):
                block.__exit__(None, None, None)

        block = pf.observe(leave)
        block.__enter__()
        with pf.observe(seen.append):
            emit(pf.Detached, name="x", pid=1)
            emit(pf.Detached, name="x", pid=2)

        assert [event.pid for event in seen if isinstance(event, pf.Detached)] == [1, 2]

    def test_what_cannot_be_called_is_refused(self) -> None:
        """C-92: at the call, not at the first event."""
        with pytest.raises(TypeError, match="cannot be called"):
            pf.observe([])  # type: ignore[arg-type]  # that is the point

    def test_nobody_to_tell_costs_no_event(self) -> None:
        """C-92: without an observer no event is even made."""
        made: list[object] = []

        def make(mono_s: float, at: datetime) -> pf.ProcessEvent:
            made.append(mono_s)
            return pf.GuardStarted(mono_s, at, pid=1)

        with_others = len(observers)  # the fixtures of these tests observe too: without them
        held, observers[:] = observers[:], []
        try:
            emit(make)
            assert made == []
        finally:
            observers[:] = held
        assert len(observers) == with_others

    @pytest.mark.anyio
    async def test_every_thread_and_loop_is_observed(self, observed: list[pf.ProcessEvent]) -> None:
        """C-92, C-6: one observer sees what other loops in other threads do; it is called there."""
        threads: set[int] = set()

        def note(event: pf.ProcessEvent) -> None:
            if isinstance(event, pf.Spawned):
                threads.add(threading.get_ident())

        async def elsewhere() -> None:
            await pf.run(pf.Command("true", name="elsewhere"))

        with pf.observe(note):
            await pf.run(pf.Command("true", name="here"))
            await anyio.to_thread.run_sync(lambda: anyio.run(elsewhere))

        assert len(threads) == 2
        assert [e.name for e in observed if isinstance(e, pf.Spawned)] == ["here", "elsewhere"]

    def test_it_needs_no_loop(self) -> None:
        """C-92: what happens outside of any event loop is told as well, such as the reaping of a detached child."""
        events: list[pf.ProcessEvent] = []
        with pf.observe(events.append):
            leader = Leader(subprocess.Popen(["true"], start_new_session=True), name="true")
            os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
            leader.close()
            reap_abandoned()

        assert [type(event) for event in about(events, leader.pid)] == [pf.Exited, pf.Reaped]

    def test_a_signal_in_vain_is_told(self) -> None:
        """C-92, C-66: an attempt that the kernel refuses is told with its reason, so no attempt can hide."""
        from procflow._process.signalling import send

        events: list[pf.ProcessEvent] = []
        leader = Leader(subprocess.Popen(["true"], start_new_session=True), name="true")
        try:
            with pf.observe(events.append), pytest.raises(ProcessLookupError):
                send(os.kill, 2**22 + 1, signal.SIGTERM, of=leader, to="member", receiver=2**22 + 1)
        finally:
            os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
            leader.reap()
            leader.close()

        assert [(e.receiver, e.error) for e in events if isinstance(e, pf.Signalled)] == [
            (2**22 + 1, "nobody was there")
        ]

    def test_a_signal_that_ends_at_once_came_before_the_end(self) -> None:
        """C-92: ``after_exit`` is about the moment before the signal, whatever is known after it."""
        from procflow._process.signalling import send

        events: list[pf.ProcessEvent] = []
        leader = Leader(subprocess.Popen(["sleep", "60"], start_new_session=True), name="sleep")

        def kill(pid: int, number: int) -> None:
            os.kill(pid, number)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            leader.observe()

        try:
            with pf.observe(events.append):
                send(kill, leader.pid, signal.SIGKILL, of=leader, to="leader", receiver=leader.pid)
        finally:
            leader.reap()
            leader.close()

        assert [event.after_exit for event in events if isinstance(event, pf.Signalled)] == [False]


class TestSecrets:
    @pytest.mark.anyio
    async def test_no_event_shows_arguments_environment_or_output(self, observed: list[pf.ProcessEvent]) -> None:
        """C-92, C-2: events carry names; what was passed, and what was written, is in none of them."""
        command = pf.Command("sh", "-c", TERM_IGNORER, SECRET, env={"PASSWORD": SECRET}, name="server")
        async with pf.spawn(command) as child:
            await child.stdout.wait_for_line("ready")
            await child.terminate(pf.Shutdown.sigterm(0.05))
        done = await pf.run(pf.Command("echo", SECRET), stdin=SECRET)

        assert done.stdout.text.strip() == SECRET
        assert len({type(event) for event in observed}) >= 5
        for event in observed:
            assert SECRET not in repr(event)
            assert SECRET not in str(event)


def samples() -> list[pf.ProcessEvent]:
    now = datetime.now(UTC)
    report = pf.PhaseReport(signal=signal.SIGTERM, to=pf.Target.GROUP, took_s=5.0, ended=False)
    usage = pf.ResourceUsage(user_s=0.5, system_s=0.25, max_rss_bytes=1)
    signalled: Callable[..., pf.Signalled] = pf.Signalled
    about = {"name": "git", "pid": 7}
    return [
        pf.Spawned(1.0, now, name="git", pid=7),
        pf.Ready(1.0, now, name="git", pid=7, after_s=0.5),
        pf.Stalled(1.0, now, stream="git stdout", subscriber="slow", lag_bytes=10),
        pf.Stalled(1.0, now, stream="git stdout", subscriber="slow", lag_bytes=10, action=pf.OnStall.DETACH),
        pf.Lost(1.0, now, stream="git stdout", subscriber="slow", lost_bytes=10, start=5),
        signalled(1.0, now, **about, signal=15, to="leader", receiver=7),
        signalled(1.0, now, **about, signal=15, to="group", receiver=7),
        signalled(1.0, now, **about, signal=9, to="group", receiver=7, after_exit=True),
        signalled(1.0, now, **about, signal=9, to="member", receiver=8, error="not permitted"),
        pf.Escalated(1.0, now, name="git", pid=7, report=report),
        pf.Exited(1.0, now, name="git", pid=7, exit_code=3, signal=None, lived_s=2.0),
        pf.Exited(1.0, now, name="git", pid=7, exit_code=None, signal=9, lived_s=2.0),
        pf.Exited(1.0, now, name="git", pid=7, exit_code=None, signal=None, lived_s=2.0),
        pf.Escaped(
            1.0, now, name="git", pid=7, escaped_pids=(8,), description="pid 8 (sleep), state D", has_survived=True
        ),
        pf.Escaped(
            1.0, now, name="git", pid=7, escaped_pids=(8,), description="pid 8 (sleep), state S", has_survived=False
        ),
        pf.Reaped(1.0, now, name="git", pid=7, usage=usage),
        pf.Reaped(1.0, now, name="git", pid=7, usage=None),
        pf.Detached(1.0, now, name="git", pid=7),
        pf.GuardStarted(1.0, now, pid=9),
        pf.GuardReplaced(1.0, now, reason="it was killed", old_pid=9, new_pid=10),
    ]


def test_every_event_reads_as_a_sentence() -> None:
    """C-92: the text of an event says what happened to whom."""
    assert [str(event) for event in samples()] == [
        "git: started as pid 7",
        "git: pid 7 is ready after 0.500 s",
        "git stdout: waits for slow, which is 10 bytes behind",
        "git stdout: waits for slow, which is 10 bytes behind, no longer (detach)",
        "git stdout: slow lost 10 bytes at offset 5",
        "git: SIGTERM to pid 7",
        "git: SIGTERM to the group of pid 7",
        "git: SIGKILL to the group of pid 7, which has exited",
        "git: SIGKILL to member 8 of the tree of pid 7: not permitted",
        "git: the stop of pid 7 goes on after SIGTERM to the group: not everything ended after 5.000 s",
        "git: pid 7 exited with 3 after 2.000 s",
        "git: pid 7 was ended by SIGKILL after 2.000 s",
        "git: pid 7 ended with an unknown status after 2.000 s",
        "git: outlived every attempt to end the tree of pid 7: pid 8 (sleep), state D",
        "git: left the group of pid 7: pid 8 (sleep), state S",
        "git: pid 7 was reaped, after 0.750 s of processor time",
        "git: pid 7 was reaped by somebody else",
        "git: pid 7 was detached",
        "guarded by pid 9",
        "guard 9 was replaced by pid 10: it was killed",
    ]


class TestLogging:
    def test_records_carry_message_and_fields(self, caplog: pytest.LogCaptureFixture) -> None:
        """C-92: log_events() gives one record an event: readable, and with every field as a plain value."""
        from procflow.adapters import log_events

        observer = log_events(logging.getLogger("mine"), level=logging.INFO)
        with caplog.at_level(logging.DEBUG, logger="mine"):
            for event in samples():
                observer(event)

        assert [record.getMessage() for record in caplog.records] == [str(event) for event in samples()]
        records = {record.__dict__["procflow_event"]: record.__dict__ for record in caplog.records}
        assert records["spawned"]["procflow_pid"] == 7
        assert records["guard_replaced"]["procflow_new_pid"] == 10
        assert records["escaped"]["procflow_escaped_pids"] == (8,)
        assert records["escalated"]["procflow_report"]["to"] == "group"
        assert records["reaped"]["procflow_mono_s"] == 1.0

    def test_fields_can_be_dumped(self) -> None:
        """C-92: whatever an event carries, its record is plain enough for JSON; moments are ISO 8601."""
        from procflow.adapters.logs import fields_of

        for event in samples():
            fields = json.loads(json.dumps(fields_of(event)))
            assert datetime.fromisoformat(fields["procflow_at"]) == event.at

    def test_troubles_stand_out_and_sweeps_do_not(self, caplog: pytest.LogCaptureFixture) -> None:
        """C-92: what somebody should look at is a warning; the sweep of every normal end is noise."""
        from procflow.adapters import log_events

        observer = log_events(logging.getLogger("mine"))
        with caplog.at_level(logging.DEBUG, logger="mine"):
            for event in samples():
                observer(event)

        by_level: dict[int, set[str]] = {}
        for record, event in zip(caplog.records, samples(), strict=True):
            by_level.setdefault(record.levelno, set()).add(str(event))
        assert len(by_level[logging.WARNING]) == 7
        assert by_level[logging.DEBUG] == {"git: SIGKILL to the group of pid 7, which has exited"}

    @pytest.mark.anyio
    async def test_it_goes_to_its_own_logger_by_default(self, caplog: pytest.LogCaptureFixture) -> None:
        """C-92: ``procflow.events``, at the level that was asked for; what the host does not want costs no record."""
        from procflow.adapters import log_events

        with caplog.at_level(logging.INFO, logger="procflow.events"), pf.observe(log_events(level=logging.INFO)):
            await pf.run(pf.Command("true", name="t"))
        with caplog.at_level(logging.WARNING, logger="procflow.events"), pf.observe(log_events()):
            await pf.run(pf.Command("true", name="u"))

        records = [record.__dict__ for record in caplog.records if record.name == "procflow.events"]
        ours = [(record["procflow_event"], record["procflow_name"]) for record in records if "procflow_name" in record]
        assert ours == [("spawned", "t"), ("exited", "t"), ("reaped", "t")]


def test_nothing_is_imported_until_it_is_used() -> None:
    """C-92: neither the package nor the import of its adapters loads OpenTelemetry, and the package loads no adapter."""
    program = (
        "import sys, procflow;"
        "loaded = [name for name in sys.modules if name.startswith(('procflow.adapters', 'opentelemetry'))];"
        "assert not loaded, loaded;"
        "import procflow.adapters;"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )

    subprocess.run([sys.executable, "-c", program], check=True)
