"""A service that is kept running: restarts, readiness, stops, and output over restarts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

import procflow as pf
from procflow import ready
from tests.core.process.conftest import is_alive, python
from tests.patience import FairClock, Growing

pytestmark = pytest.mark.anyio

FAST = pf.Restart.on_failure(initial_s=0.01, max_s=0.02)
STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.05; done"
SERVICE = pf.shell("echo up; exec sleep 1000", name="service")
NOW = pf.Shutdown.now()


def crashing_until(count: int, folder: Path, then: str = "exec sleep 1000") -> pf.Command:
    """Fails ``count`` times, with its number as exit code, then does ``then``."""
    script = f"""
n=$(cat {folder}/n 2>/dev/null || echo 0); n=$((n + 1)); echo $n > {folder}/n
echo "run $n"; printf 'tail %s' $n
[ $n -gt {count} ] || exit $n
echo; {then}
"""
    return pf.shell(script, name="crashing")


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not condition():
            await anyio.sleep(0.005)


async def test_a_service_runs_as_long_as_its_block() -> None:
    """C-91: the body begins with a running process, and leaving the block ends it for good."""
    async with pf.supervise(SERVICE) as service:
        await service.wait_ready()
        assert (service.state, service.run_number, service.history) == (pf.ServiceState.READY, 1, ())
        assert service.process is not None
        pid = service.process.pid
        assert is_alive(pid)

    assert not is_alive(pid)
    assert f"{service.state} {service.process}" == "ServiceState.STOPPED None"
    (run,) = service.history
    assert run.is_commanded
    assert run.was_ready
    assert run.outcome is not None
    assert run.outcome.ended_by is pf.EndedBy.TERMINATE


async def test_the_process_of_a_service_cannot_be_detached() -> None:
    """C-68, C-91: a service whose process lived on would be two at the next restart; the error says what to do instead."""
    async with pf.supervise(SERVICE) as service:
        await service.wait_ready()
        process = service.process
        assert process is not None

        with pytest.raises(pf.UsageError, match=r"^service: cannot be detached: its service .* spawn\(\)"):
            await process.detach()

        assert process.state is pf.ProcessState.RUNNING
        assert service.state is pf.ServiceState.READY
    assert not is_alive(process.pid)
    assert [run.error for run in service.history] == [None]
    with pytest.raises(pf.UsageError, match="cannot be detached: its service"):
        await process.detach()


async def test_failures_are_restarted_and_remembered(tmp_path: Path) -> None:
    """C-91: on failure it is started again; the history has every outcome, and a success in the end needs no restart."""
    async with pf.supervise(crashing_until(3, tmp_path, then="exit 0"), restart=FAST) as service:
        outcome = await service.wait()

    assert service.state is pf.ServiceState.ENDED
    assert outcome is not None
    assert outcome.ok
    assert [(run.number, run.outcome and run.outcome.exit_code) for run in service.history] == [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 0),
    ]
    assert [run.has_failed for run in service.history] == [True, True, True, False]


async def test_always_restarts_a_success_too(tmp_path: Path) -> None:
    """C-91: restart=always does not ask how it ended."""
    restart = pf.Restart.always(initial_s=0.01, max_s=0.02, max_restarts=None)
    async with pf.supervise(pf.Command("true"), restart=restart) as service:
        await until(lambda: service.run_number >= 4)


async def test_the_intensity_limit_fails_the_service_and_the_block(tmp_path: Path) -> None:
    """C-91: after max_restarts restarts within the window ServiceFailed leaves the block, with the history; the body is cancelled."""
    reached = False
    with pytest.raises(pf.ServiceFailed) as caught:
        async with pf.supervise(
            pf.shell("echo why >&2; exit 5", name="broken"),
            restart=pf.Restart.on_failure(initial_s=0.01, max_restarts=2),
        ) as service:
            try:
                await anyio.sleep_forever()
            finally:
                reached = True

    assert reached
    assert service.state is pf.ServiceState.FAILED
    assert [run.outcome and run.outcome.exit_code for run in caught.value.history] == [5, 5, 5]
    assert "broken: it failed again after 2 restarts" in str(caught.value)
    assert any("why" in note for note in caught.value.__notes__)


async def test_never_fails_at_the_first_failure_only() -> None:
    """C-91: restart=never: a success ends the service and the body goes on; a failure fails it."""
    async with pf.supervise(pf.Command("true"), restart=pf.Restart.never()) as service:
        await service.wait()
        await anyio.lowlevel.checkpoint()
    assert service.state is pf.ServiceState.ENDED

    with pytest.raises(pf.ServiceFailed, match="not started again"):
        async with pf.supervise(pf.Command("false"), restart=pf.Restart.never()):
            await anyio.sleep_forever()


async def test_an_exception_of_the_body_is_not_replaced() -> None:
    """C-91: while another exception propagates, the failure of the service is a note on it."""
    with pytest.raises(LookupError, match="mine") as caught:
        async with pf.supervise(pf.Command("false"), restart=pf.Restart.never()) as service:
            with anyio.CancelScope(shield=True):
                await until(lambda: service.state is pf.ServiceState.FAILED)
            raise LookupError("mine")
    assert any("not started again" in note for note in caught.value.__notes__)


async def test_a_program_that_cannot_be_started_fails_on_entry() -> None:
    """C-91: the first SpawnError is raised by the block, not hidden in restarts."""
    with pytest.raises(pf.SpawnError):
        async with pf.supervise(pf.Command("procflow-no-such-program"), restart=FAST):
            raise AssertionError("it was entered")


async def test_a_program_that_vanishes_counts_as_a_failure(tmp_path: Path) -> None:
    """C-91: a later SpawnError is booked as a run without an outcome, and restarted by policy."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nrm $0; exit 1\n")
    program.chmod(0o755)
    restart = pf.Restart.on_failure(initial_s=0.01, max_restarts=2)
    with pytest.raises(pf.ServiceFailed) as caught:
        async with pf.supervise(pf.Command(program), restart=restart):
            await anyio.sleep_forever()

    assert [type(run.error) for run in caught.value.history] == [type(None), pf.SpawnError, pf.SpawnError]
    assert isinstance(caught.value.__cause__, pf.SpawnError)


# --- stops ------------------------------------------------------------------------------------------------------------


async def test_a_commanded_stop_never_restarts() -> None:
    """C-91: stop() under restart=always: one run, and none after it."""
    async with pf.supervise(SERVICE, restart=pf.Restart.always(initial_s=0.01)) as service:
        outcome = await service.stop()
        again = await service.stop()
        assert outcome is again
        await anyio.sleep(0.1)
        assert (service.state, service.run_number) == (pf.ServiceState.STOPPED, 1)
        with pytest.raises(pf.UsageError):
            await service.restart()
        with pytest.raises(pf.NotReadyError):
            await service.wait_ready()


async def test_a_stop_during_backoff_returns_at_once(clock: FairClock) -> None:
    """C-91: a stop does not wait for the backoff (100 ms, tenfold margin)."""
    async with pf.supervise(pf.Command("false"), restart=pf.Restart.on_failure(initial_s=1000, max_s=1000)) as service:
        await until(lambda: service.state is pf.ServiceState.BACKOFF)
        assert service.process is None
        began = time.monotonic()
        outcome = await service.stop()
        assert clock.since(began) < 1
        assert outcome is not None
        assert outcome.exit_code == 1


async def test_a_stop_during_start_up_ends_the_probe_and_the_process(clock: FairClock) -> None:
    """C-91: a stop while the service is not ready yet returns within the stop policy (100 ms, tenfold margin)."""
    async with pf.supervise(SERVICE, ready=ready.line("never"), shutdown=NOW) as service:
        assert service.state is pf.ServiceState.STARTING
        began = time.monotonic()
        await service.stop()
        assert clock.since(began) < 1
        assert [run.was_ready for run in service.history] == [False]
        assert service.history[0].error is None


async def test_a_stop_goes_on_when_its_task_is_cancelled() -> None:
    """C-91: every wait is cancellable; the stop that was asked for happens all the same."""
    async with pf.supervise(pf.shell(STUBBORN), ready=ready.line("up"), shutdown=pf.Shutdown.sigterm(0.3)) as service:
        await service.wait_ready()
        with anyio.move_on_after(0.02) as scope:
            await service.stop()
        assert scope.cancelled_caught
        await until(lambda: service.state is pf.ServiceState.STOPPED)


async def test_restart_is_commanded_and_counts_for_no_limit() -> None:
    """C-91: restart() ends the run, begins another without backoff, and may be used more often than the limit."""
    restart = pf.Restart.on_failure(initial_s=1000, max_s=1000, max_restarts=1)
    async with pf.supervise(SERVICE, restart=restart, ready=ready.line("up"), shutdown=NOW) as service:
        pids = []
        for _ in range(4):
            await service.wait_ready()
            assert service.process is not None
            pids.append(service.process.pid)
            await service.restart()
        await service.wait_ready()
        assert service.run_number == 5
        assert len(set(pids)) == 4
        assert not any(is_alive(pid) for pid in pids)
        assert all(run.is_commanded and run.was_ready for run in service.history)


async def test_restart_during_backoff_starts_at_once() -> None:
    """C-91: a restart that is asked for does not wait for the backoff."""
    async with pf.supervise(pf.Command("false"), restart=pf.Restart.on_failure(initial_s=1000, max_s=1000)) as service:
        await until(lambda: service.state is pf.ServiceState.BACKOFF)
        with anyio.fail_after(30):
            await service.restart()
        assert service.run_number == 2


@pytest.mark.parametrize("way", ["error", "cancel", "timeout"])
async def test_leaving_the_block_ends_the_tree(way: str) -> None:
    """C-91, C-67: by an exception, a cancellation or a timeout too; the exception goes on as it is."""
    pids: list[int] = []

    async def body() -> None:
        script = "sleep 1000 & echo $! $$; wait"
        async with pf.supervise(pf.shell(script), ready=ready.line(r"(\d+) (\d+)"), shutdown=NOW) as service:
            match = await service.wait_ready()
            pids.extend(int(pid or 0) for pid in match.groups)
            if way == "error":
                raise LookupError("mine")
            if way == "timeout":
                scope.deadline = anyio.current_time() + 0.1
            await anyio.sleep_forever()

    if way == "error":
        with pytest.raises(LookupError, match="mine"):
            await body()
    elif way == "timeout":
        with anyio.move_on_after(None) as scope:
            await body()
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(body)
            await until(lambda: len(pids) == 2)
            tasks.cancel_scope.cancel()
    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.parametrize("moment", range(0, 40, 3))
async def test_cancelling_at_any_step_leaves_nothing(moment: int) -> None:
    """C-3, C-91: a service that is cancelled after any number of turns of the loop leaves no process and no task."""

    async def body() -> None:
        async with pf.supervise(pf.Command("false"), restart=FAST, shutdown=NOW) as service:
            async for _ in service.stdout.subscribe():
                pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body)
        for _ in range(moment):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("command", "options", "where"),
    [
        (SERVICE, {"stdout": pf.NULL}, "stdout goes to the null device; .* stdout=procflow.StreamConfig()"),
        (SERVICE, {"merge_stderr": True}, "stderr goes where stdout goes, .*; read stdout, or .* without merge_stderr"),
        (
            SERVICE,
            {"pty": pf.Pty()},
            "stderr goes where stdout goes, to the terminal .*; read stdout, or .* without pty=",
        ),
        (SERVICE | pf.Command("cat"), {}, r"stderr is that of each stage.*; read child\.stages\[0\]\.stderr"),
    ],
    ids=["null", "merged", "pty", "pipeline"],
)
async def test_an_output_that_is_no_stream_says_what_to_do(
    command: pf.Command | pf.Pipeline, options: pf.ServiceOptions, where: str
) -> None:
    """C-8, C-91: a service says of an output what its process says of it."""
    async with pf.supervise(command, **options) as service:
        assert service.process is not None
        output = service.stdout if "stdout" in options else service.stderr

        with pytest.raises(pf.UsageError) as said_by_process:
            _ = service.process.stdout if "stdout" in options else service.process.stderr
        for refused in (output.lines, output.subscribe):
            with pytest.raises(pf.UsageError, match=where) as caught:
                refused()
            assert str(caught.value) == str(said_by_process.value)


# --- readiness --------------------------------------------------------------------------------------------------------


async def test_a_service_is_ready_when_its_probe_says_so() -> None:
    """C-91: wait_ready() gives what the probe found, for each run anew."""
    script = "echo pid $$; exec sleep 1000"
    async with pf.supervise(pf.shell(script), ready=ready.line(r"pid (\d+)"), shutdown=NOW) as service:
        first = await service.wait_ready()
        await service.restart()
        second = await service.wait_ready()
        assert service.process is not None
        assert second.groups == (str(service.process.pid),)
        assert first != second


async def test_readiness_in_time_or_the_tree_is_stopped() -> None:
    """C-63: a run that is not ready in time is stopped by policy; TimedOut has clock, outcome and output so far."""
    script = "echo started; echo slow >&2; exec sleep 1000"
    never = pf.Restart.never()
    limit = Growing(0.3)
    while True:
        with pytest.raises(pf.ServiceFailed) as caught:
            async with pf.supervise(
                pf.shell(script), ready=ready.line("never"), ready_timeout_s=limit.seconds, restart=never, shutdown=NOW
            ) as service:
                assert service.process is not None
                pid = service.process.pid
                await service.wait_ready()

        error = caught.value.history[-1].error
        assert isinstance(error, pf.TimedOut)
        if error.stderr.text or not limit.grow():  # else it had no time to say anything
            break
    assert caught.value.__cause__ is error
    assert (error.clock, error.timeout_s) == ("readiness", limit.seconds)
    assert "(a line of stdout matched 'never'; the last look saw: no such line) and was stopped" in str(error)
    assert (error.stdout.text, error.stderr.text) == ("started\n", "slow\n")
    assert error.outcome.ended_by is pf.EndedBy.TIMEOUT
    assert not is_alive(pid)


async def test_exit_before_ready_is_a_failure_even_with_0(tmp_path: Path) -> None:
    """C-91: a run that was never ready has failed, whatever its status."""
    restart = pf.Restart.on_failure(initial_s=0.01, max_restarts=1)
    with pytest.raises(pf.ServiceFailed) as caught:
        async with pf.supervise(pf.shell("echo bye"), ready=ready.line("never"), restart=restart) as service:
            await service.wait_ready()

    assert [type(run.error) for run in caught.value.history] == [pf.NotReadyError] * 2
    assert [run.outcome and run.outcome.exit_code for run in caught.value.history] == [0, 0]


async def test_a_probe_that_raises_fails_the_service() -> None:
    """C-91: wrong code is not restarted: its error is the cause."""

    async def wrong() -> bool:
        raise ZeroDivisionError("bug")

    with pytest.raises(pf.ServiceFailed) as caught:
        async with pf.supervise(SERVICE, ready=ready.call(wrong), restart=pf.Restart.always(), shutdown=NOW) as service:
            await service.wait_ready()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert service.run_number == 1


async def test_a_fast_reader_cannot_hide_the_line_from_the_probe() -> None:
    """C-91: the probe is attached before the first byte is read, and takes nothing from readers."""
    for _ in range(5):
        async with pf.supervise(
            pf.shell("echo one; echo ready; echo three; exec sleep 1000"),
            ready=ready.any(ready.line("ready")),
            shutdown=NOW,
        ) as service:
            reader = service.stdout.lines()
            lines = [await anext(reader) for _ in range(3)]
            with anyio.fail_after(60):
                await service.wait_ready()
            assert lines == ["one", "ready", "three"]


# --- output over restarts ---------------------------------------------------------------------------------------------


async def test_lines_go_on_over_restarts_with_an_item_in_between(tmp_path: Path) -> None:
    """C-91: all lines of every run, the unterminated last one too, then Restarted with number and outcome."""
    items: list[object] = []
    async with pf.supervise(crashing_until(2, tmp_path, then="exit 0"), restart=FAST) as service:
        async for item in service.stdout.lines():
            items.append((item.number, item.outcome.exit_code) if isinstance(item, pf.Restarted) else item)

    assert items == ["run 1", "tail 1", (2, 1), "run 2", "tail 2", (3, 2), "run 3", "tail 3"]


async def test_chunks_go_on_over_restarts_and_offsets_begin_anew(tmp_path: Path) -> None:
    """C-91: subscribe() yields chunks and Restarted; every byte of every run arrives once, in order."""
    runs: list[bytes] = [b""]
    async with pf.supervise(crashing_until(2, tmp_path, then="exit 0"), restart=FAST) as service:
        async with service.stdout.subscribe() as reader:
            async for item in reader:
                match item:
                    case pf.Chunk():
                        assert item.offset == len(runs[-1])
                        runs[-1] += item.data
                    case pf.Restarted():
                        runs.append(b"")
                    case pf.Gap():
                        raise AssertionError("nothing was lost")

    assert runs == [b"run 1\ntail 1", b"run 2\ntail 2", b"run 3\ntail 3\n"]


async def test_a_slow_reliable_reader_loses_no_tail(tmp_path: Path) -> None:
    """C-91: what a run left in its pipe while its reader was a full buffer behind is delivered before the Restarted."""
    script = f"""
import os, sys
path = {str(tmp_path / "n")!r}
n = os.path.exists(path); open(path, "w").close()
os.write(2, b"x")
data = bytes(range(256)) * 200
rest = data
while rest: rest = rest[os.write(1, rest):]
sys.exit(0 if n else 1)
"""
    async with pf.supervise(python(script), restart=FAST) as service:
        reader = service.stdout.subscribe(pf.Reliable(buffer_bytes=1024))
        await until(lambda: service.run_number == 2)  # the first run could end: its pipe took the rest
        runs = [b""]
        async for item in reader:
            if isinstance(item, pf.Restarted):
                runs.append(b"")
            else:
                assert isinstance(item, pf.Chunk)
                runs[-1] += item.data

    assert runs == [bytes(range(256)) * 200] * 2


async def test_a_best_effort_reader_that_is_many_runs_behind_is_told_what_it_missed() -> None:
    """C-91: memory is bounded: whole runs are left out, and counted by the next Restarted, to the byte."""
    restart = pf.Restart.always(initial_s=0.001, max_s=0.001, max_restarts=None)
    async with pf.supervise(pf.shell("echo 12345"), restart=restart) as service:
        slow = service.stdout.lines(pf.BestEffort())
        await until(lambda: service.run_number >= 12)
        await service.stop()
        items = [item async for item in slow]

    restarts = [item for item in items if isinstance(item, pf.Restarted)]
    texts = [item for item in items if isinstance(item, str)]
    assert len(restarts) == 4
    assert restarts[0].lost_runs == service.run_number - 5
    assert restarts[0].lost_bytes == 6 * restarts[0].lost_runs
    assert [item.lost_runs for item in restarts[1:]] == [0, 0, 0]
    assert texts[:4] == ["12345"] * 4


async def test_a_reliable_reader_that_takes_nothing_delays_the_start_but_not_the_stop() -> None:
    """C-91: it misses no run, so the next start waits for it; dropping it lets the service go on; a stop waits for nothing."""
    restart = pf.Restart.always(initial_s=0.001, max_s=0.001, max_restarts=None)
    async with pf.supervise(pf.shell("echo 12345"), restart=restart) as service:
        async with service.stdout.lines():
            await until(lambda: service.state is pf.ServiceState.STARTING and service.run_number == 5)
            await anyio.sleep(0.1)
            assert service.run_number == 5
        await until(lambda: service.run_number >= 7)

        slow = service.stdout.lines(start="live")
        reached = service.run_number + 4
        await until(lambda: service.state is pf.ServiceState.STARTING and service.run_number >= reached)
        await service.stop()
        assert len([item async for item in slow if isinstance(item, pf.Restarted)]) == 4


async def test_a_dropped_reader_does_not_delay_anybody() -> None:
    """C-29: dropping the object releases it."""
    restart = pf.Restart.always(initial_s=0.001, max_s=0.001, max_restarts=None)
    async with pf.supervise(pf.shell("echo 12345"), restart=restart) as service:
        reader = service.stdout.lines()
        await until(lambda: service.run_number == 5)
        del reader
        await until(lambda: service.run_number >= 7)


async def test_a_late_reader_has_what_nobody_was_given(tmp_path: Path) -> None:
    """C-91, C-26: who subscribes during backoff still gets the run that has ended, and then the next."""
    restart = pf.Restart.on_failure(initial_s=1000, max_s=1000)
    async with pf.supervise(crashing_until(1, tmp_path, then="exit 0"), restart=restart) as service:
        await until(lambda: service.state is pf.ServiceState.BACKOFF)
        reader = service.stdout.lines()
        await service.restart()
        items = [item if isinstance(item, str) else "restarted" async for item in reader]

    assert items == ["run 1", "tail 1", "restarted", "run 2", "tail 2"]


async def test_stderr_and_closing() -> None:
    """C-91: stderr has readers of its own; a closed reader says so, also to a task that waits in it."""
    async with pf.supervise(pf.shell("echo err >&2; exec sleep 1000"), shutdown=NOW) as service:
        reader = service.stderr.lines()
        assert await anext(reader) == "err"

        async def wait() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await anext(reader)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            reader.close()


async def test_an_output_that_is_no_stream_says_so() -> None:
    """C-8: with the cure in the message."""
    async with pf.supervise(SERVICE, stdout=pf.NULL, shutdown=NOW) as service:
        with pytest.raises(pf.UsageError, match="stdout=procflow.StreamConfig"):
            service.stdout.lines()


async def test_whoever_holds_the_pipe_does_not_delay_a_restart(tmp_path: Path) -> None:
    """C-91: an escaped process that holds the pipe is waited for half a second at most; the outcome says that output was cut."""
    pid_file = tmp_path / "pid"
    script = f"""
import os, sys
if os.path.exists({str(pid_file)!r}): sys.exit(0)
if os.fork() == 0:
    os.setsid(); open({str(pid_file)!r} + ".new", "w").write(str(os.getpid()))
    os.rename({str(pid_file)!r} + ".new", {str(pid_file)!r}); os.execvp("sleep", ["sleep", "1000"])
while not os.path.exists({str(pid_file)!r}): pass
print("bye", flush=True); os._exit(1)
"""
    try:
        async with pf.supervise(python(script), restart=FAST, containment="group") as service:
            items = [
                item if isinstance(item, str) else item.outcome.output_complete async for item in service.stdout.lines()
            ]
    finally:
        os.kill(int(pid_file.read_text()), 9)
    assert items == ["bye", False]


# --- input ------------------------------------------------------------------------------------------------------------


async def test_every_run_reads_its_input_from_the_beginning() -> None:
    """C-91: bytes are fed to each run anew; PIPE gives each run a pipe of its own, which nobody closes behind the user's back."""
    restart = pf.Restart.on_failure(initial_s=0.001, max_restarts=2)
    lines: list[str] = []
    with pytest.raises(pf.ServiceFailed):
        async with pf.supervise(pf.shell("cat; exit 1"), stdin=b"fed\n", restart=restart) as service:
            async for item in service.stdout.lines():
                if isinstance(item, str):
                    lines.append(item)
            await anyio.sleep_forever()
    assert lines == ["fed"] * 3

    async with pf.supervise(pf.Command("cat"), stdin=pf.PIPE, shutdown=NOW) as service:
        assert service.process is not None
        await service.process.stdin.send(b"hello\n")
        assert await anext(service.stdout.lines()) == "hello"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"stdin": iter([b"x"])}, TypeError),
        ({"restart": "always"}, TypeError),
        ({"ready_timeout_s": 1}, ValueError),
        ({"ready": ready.line("x"), "ready_timeout_s": 0}, ValueError),
        ({"check_stdin": True}, TypeError),
        ({"containment": "none"}, ValueError),
    ],
)
async def test_what_makes_no_sense_is_refused_at_the_call(options: dict[str, object], error: type[Exception]) -> None:
    """C-91: a wrong argument fails where it is given."""
    with pytest.raises(error):
        pf.supervise(SERVICE, **options)  # type: ignore[call-overload]


async def test_a_service_that_cannot_be_ended_is_not_started_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-64, C-91: something that outlives every attempt makes stop() raise, and the block too."""
    from procflow._process.core import ProcessCore

    real = ProcessCore.stop

    async def stop(self: ProcessCore, *args: object, **options: object) -> pf.Outcome:
        await real(self, *args, **options)  # type: ignore[arg-type]
        raise pf.TerminationError(process_name="service", survivors=["pid 1"], attempts=[])

    monkeypatch.setattr(ProcessCore, "stop", stop)
    with pytest.raises(pf.TerminationError):
        async with pf.supervise(SERVICE, shutdown=NOW) as service:
            with pytest.raises(pf.TerminationError):
                await service.stop()
            raise_outside = True
    assert raise_outside
