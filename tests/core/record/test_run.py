"""A run, its jobs and its calls, with real children."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys
import threading
import warnings
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import procflow as pf
from procflow.record import (
    CallKey,
    CancelRequested,
    Job,
    JobDeclared,
    JobFinished,
    JobsFailedError,
    JobSkipped,
    JobSkippedError,
    JobSpec,
    JobStarted,
    LateSecretWarning,
    Note,
    RecordLostError,
    RunFinished,
    RunStarted,
    ShFinished,
    ShSpawned,
    ShStarted,
    Trace,
    UnrecordableError,
    UnusableDatabaseError,
    ingest,
    load,
    open_run,
    runs_in,
    view_from,
)
from procflow.record.exports.ids import traceparent
from procflow.record.logs import LogStream, read_output
from procflow.record.recording.run import RunBlock
from procflow.record.recording.settings import RecordSettings

from .runs import events_of, require_balance, the_run_in

pytestmark = pytest.mark.anyio

NOW = pf.Shutdown.now()


def stdout_of(log: Path) -> bytes:
    return b"".join(part for part in read_output(str(log), LogStream.STDOUT) if isinstance(part, bytes))


# --- what is recorded -------------------------------------------------------------------------------------------------


async def test_a_run_is_a_directory_with_its_record(tmp_path: Path) -> None:
    """RR-27: the directory of a run is new, for its owner only, and holds a record that begins with its header."""
    async with open_run("nightly", record=tmp_path / "deep" / "runs", meta={"branch": "main"}) as run:
        assert stat.S_IMODE(run.directory.stat().st_mode) == 0o700
        async with run.job("build") as job:
            done = await job.sh("sh", "-c", "echo out; echo err >&2; exit 3", check=False)

    assert done.outcome.exit_code == 3
    events = require_balance(run.directory)
    assert [type(event) for event in events] == [
        RunStarted, JobStarted, ShStarted, ShSpawned, ShFinished, JobFinished, RunFinished
    ]  # fmt: skip
    header, _, started, spawned, finished, job_finished, run_finished = events
    assert isinstance(header, RunStarted)
    assert (header.name, header.meta, header.run_id) == ("nightly", {"branch": "main"}, run.run_id)
    assert header.pid == os.getpid()
    assert isinstance(started, ShStarted)
    assert (started.argv, started.cwd) == (("sh", "-c", "echo out; echo err >&2; exit 3"), os.getcwd())
    assert isinstance(spawned, ShSpawned)
    assert (spawned.pid, spawned.pid_start is not None) == (done.outcome.pid, True)
    assert isinstance(finished, ShFinished)
    assert (finished.outcome, finished.exit_code, finished.signal) == ("exited", 3, None)
    assert (finished.stdout_bytes, finished.stderr_bytes) == (4, 4)
    assert isinstance(job_finished, JobFinished)
    assert job_finished.outcome == "succeeded"
    assert isinstance(run_finished, RunFinished)
    assert (run_finished.outcome, run.outcome) == ("succeeded", "succeeded")
    assert (run_finished.totals.jobs, run_finished.totals.sh) == (1, 1)


async def test_nothing_of_a_run_is_for_others(tmp_path: Path) -> None:
    """RR-103: with umask 0 nothing below the directory of a run is readable or writable for group or others."""
    before = os.umask(0)
    try:
        async with open_run("x", record=tmp_path) as run, run.job("a/b") as job:
            await job.sh("echo", "x")
    finally:
        os.umask(before)

    paths = [run.directory, *run.directory.rglob("*")]
    assert len(paths) == 5
    assert [path for path in paths if path.stat().st_mode & 0o077] == []


async def test_signals_are_no_codes(tmp_path: Path) -> None:
    """RR-08: a process that SIGKILL ended is signaled, and no exit code stands beside it; 255 is a code."""
    async with open_run("x", record=tmp_path) as run:
        await run.sh("sh", "-c", "kill -9 $$", check=False)
        await run.sh("sh", "-c", "exit 255", check=False)

    killed, exited = [event for event in events_of(run.directory) if isinstance(event, ShFinished)]
    assert (killed.outcome, killed.signal, killed.exit_code) == ("signaled", "SIGKILL", None)
    assert (exited.outcome, exited.signal, exited.exit_code) == ("exited", None, 255)


async def test_a_failed_start_is_a_call_too(tmp_path: Path) -> None:
    """RR-16: sh_started comes before the spawn; a spawn failure ends the call, says why, and takes a number."""
    (tmp_path / "file").write_text("no program")
    async with open_run("x", record=tmp_path / "runs") as run, run.job("j") as job:
        for command in (
            pf.Command("no-such-program-anywhere"),
            pf.Command("true", cwd=tmp_path / "missing"),
            pf.Command(tmp_path / "file"),
        ):
            with pytest.raises(pf.SpawnError):
                await job.sh(command)
        with pytest.raises(pf.SpawnError):
            await job.sh("cat", stdin=tmp_path / "missing")
        await job.sh("true")

    events = require_balance(run.directory)
    finished = [event for event in events if isinstance(event, ShFinished)]
    assert [(event.sh, event.outcome) for event in finished] == [
        (1, "spawn_failed"), (2, "spawn_failed"), (3, "spawn_failed"), (4, "spawn_failed"), (5, "exited")
    ]  # fmt: skip
    assert [event.error.type if event.error else None for event in finished] == ["SpawnError"] * 4 + [None]
    assert [event.sh for event in events if isinstance(event, ShSpawned)] == [5]


async def test_the_stages_of_a_pipeline_are_calls(tmp_path: Path) -> None:
    """RR-20: each stage of a pipeline is a call of its own, and they share its name."""
    async with open_run("x", record=tmp_path) as run:
        async with run.job("j") as job:
            await job.sh(pf.Command("printf", "b\\na\\n") | pf.Command("sort") | pf.Command("head", "-n1"))
            await job.sh("true")
            with pytest.raises(pf.SpawnError):
                await job.sh(pf.Command("sleep", "60") | pf.Command("no-such-program-anywhere"))

    events = require_balance(run.directory)
    started = [event for event in events if isinstance(event, ShStarted)]
    assert [(event.sh, event.argv[0], event.pipe) for event in started] == [
        (1, "printf", "pipe-1"), (2, "sort", "pipe-1"), (3, "head", "pipe-1"), (4, "true", None),
        (5, "sleep", "pipe-2"), (6, "no-such-program-anywhere", "pipe-2"),
    ]  # fmt: skip
    ends = {event.sh: event.outcome for event in events if isinstance(event, ShFinished)}
    assert (ends[5], ends[6]) == ("cancelled", "spawn_failed")


async def test_overlapping_calls_pair_by_number(tmp_path: Path) -> None:
    """RR-17: 200 overlapping calls of one job have their own numbers, codes and logs."""
    done: dict[int, int] = {}

    async def call(number: int) -> None:
        result = await pf.run(
            pf.Command("sh", "-c", f"echo {number}; exit {number % 7}"), check=False, containment="group"
        )
        done[number] = result.outcome.pid

    async with open_run("x", record=tmp_path) as run, run.job("j"), anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(call, number)

    require_balance(run.directory)
    view = load(run.directory)
    rows = list(view.calls.values())
    assert sorted(row.sh for row in rows) == list(range(1, 201))
    for row in rows:
        number = int(row.argv[2].split(";")[0].removeprefix("echo "))
        assert (row.exit_code, row.pid) == (number % 7, done[number])
        assert row.log_path == f"jobs/j/sh-{row.sh:04d}.log"
        assert stdout_of(run.directory / row.log_path) == f"{number}\n".encode()


async def test_overlapping_calls_while_the_wall_clock_goes_backwards(tmp_path: Path) -> None:
    """RR-23: when the wall clock steps back an hour no duration is negative, the order stays, and the step is told."""

    class Backwards:
        def __init__(self) -> None:
            self.count = 0

        def at_ms(self) -> int:
            self.count += 1
            return 1_700_000_000_000 - (3_600_000 if self.count > 10 else 0) - self.count

        def mono_ns(self) -> int:
            return self.count

    async with RunBlock("x", RecordSettings(record=tmp_path), clock=Backwards()) as run, run.job("j") as job:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(job.sh, "true")

    require_balance(run.directory)
    view = load(run.directory)
    assert len(view.calls) == 20
    assert all(
        row.duration_ns is not None and row.duration_ns >= 0 for row in (*view.calls.values(), *view.jobs.values())
    )
    assert abs(view.health.clock_step_ms) >= 3_600_000


async def test_the_current_job_goes_along(tmp_path: Path) -> None:
    """RR-18: tasks and threads that a job starts belong to it, what is outside of any job to main."""

    def in_thread() -> None:
        asyncio.run(thread_main())

    async def thread_main() -> None:
        await pf.run(pf.Command("echo", "thread"))

    async def in_task(text: str) -> None:
        await pf.run(pf.Command("echo", text))

    async with open_run("x", record=tmp_path) as run:
        await pf.run(pf.Command("echo", "before"))
        async with run.job("a"):
            await anyio.to_thread.run_sync(in_thread)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(in_task, "task")
            async with pf.spawn(pf.Command("echo", "spawned")) as child:
                await child.wait()
            async with pf.map_run([pf.Command("echo", "mapped")], max_running=1) as results:
                assert [done.outcome.ok async for done in results if done.outcome is not None] == [True]
        await pf.run(pf.Command("echo", "after"))
    await pf.run(pf.Command("echo", "outside"))

    started = [event for event in require_balance(run.directory) if isinstance(event, ShStarted)]
    assert {(event.argv[1], event.job_id) for event in started} == {
        ("before", "main"), ("thread", "a"), ("task", "a"), ("spawned", "a"), ("mapped", "a"), ("after", "main"),
    }  # fmt: skip


async def test_gather_and_create_task_belong_to_the_job(tmp_path: Path, backend: str) -> None:
    """RR-18: so do the tasks of asyncio itself."""
    if backend == "trio":
        pytest.skip("asyncio only")

    async with open_run("x", record=tmp_path) as run, run.job("a"):
        calls = (pf.run(pf.Command("echo", text)) for text in "12")
        await asyncio.gather(*calls)  # noqa: TID251 (what users do)
        await asyncio.create_task(pf.run(pf.Command("echo", "3")))  # noqa: TID251 (as above)

    started = [event for event in require_balance(run.directory) if isinstance(event, ShStarted)]
    assert sorted((event.argv[1], event.job_id) for event in started) == [("1", "a"), ("2", "a"), ("3", "a")]


async def test_without_a_run_nothing_is_recorded(tmp_path: Path) -> None:
    """RR-25: with no active run a call is what it always was."""
    async with open_run("x", record=tmp_path) as run:
        pass

    assert (await pf.run(pf.Command("echo", "x"))).stdout.text == "x\n"
    assert len(events_of(run.directory)) == 2


async def test_a_task_that_outlives_its_run_is_not_recorded(tmp_path: Path) -> None:
    """RR-03: nothing follows run_finished; what goes on all the same runs as if there were no record."""
    go = anyio.Event()

    async def late() -> None:
        await go.wait()
        assert (await pf.run(pf.Command("echo", "late"))).stdout.text == "late\n"

    async with anyio.create_task_group() as tasks:
        async with open_run("x", record=tmp_path) as run:
            tasks.start_soon(late)
        go.set()

    assert len(require_balance(run.directory)) == 2


async def test_what_outlives_its_run_is_let_go(tmp_path: Path) -> None:
    """RR-15: a call and a job that are open when their run is left have an end all the same."""
    started, go = anyio.Event(), anyio.Event()

    async def outlive() -> None:
        async with run.job("left"), pf.spawn(pf.Command("sleep", "60"), shutdown=NOW):
            started.set()
            await go.wait()

    async with anyio.create_task_group() as tasks:
        async with open_run("x", record=tmp_path) as run:
            tasks.start_soon(outlive)
            await started.wait()
        directory = run.directory
        events = require_balance(directory)
        go.set()
    assert require_balance(directory) == events
    assert [event.outcome for event in events if isinstance(event, ShFinished)] == ["detached"]
    assert [event.outcome for event in events if isinstance(event, JobFinished)] == ["cancelled"]


async def test_detached_is_no_exit(tmp_path: Path) -> None:
    """RR-15: a process that was let go ends its call without a code that nobody knows."""
    async with open_run("x", record=tmp_path) as run:
        async with pf.spawn(pf.Command("sleep", "60")) as child:
            await child.detach()
        os.kill(child.pid, signal.SIGKILL)

    [finished] = [event for event in require_balance(run.directory) if isinstance(event, ShFinished)]
    assert (finished.outcome, finished.exit_code, finished.signal) == ("detached", None, None)


async def test_a_call_is_over_when_its_process_is(tmp_path: Path) -> None:
    """RR-15: the end is written when the process has ended and its outputs were read, not when its block is left."""
    async with open_run("x", record=tmp_path) as run:
        async with pf.spawn(pf.Command("echo", "x")) as child:
            await child.wait()
            async for _ in child.stdout.lines():
                pass
            while child.state is not pf.ProcessState.ENDED or child.stderr.ending is None:
                await anyio.lowlevel.checkpoint()
            assert [event.stdout_bytes for event in events_of(run.directory) if isinstance(event, ShFinished)] == [2]


# --- how things end ---------------------------------------------------------------------------------------------------


async def test_a_cancelled_call_is_written_before_the_cancellation_leaves(tmp_path: Path) -> None:
    """RR-14: sh_finished and job_finished say cancelled before the exception leaves the library."""
    seen: list[list[str]] = []

    async def call() -> None:
        async with run.job("j") as job:
            try:
                with anyio.CancelScope() as scope:
                    async with pf.spawn(pf.Command("sleep", "60"), shutdown=NOW):
                        scope.cancel()
                        await anyio.sleep_forever()
            finally:
                seen.append([event.outcome for event in events_of(directory) if isinstance(event, ShFinished)])
            assert job.attempt == 1
            outer.cancel()
            await anyio.sleep_forever()

    async with open_run("x", record=tmp_path) as run:
        directory = run.directory
        with anyio.CancelScope() as outer:
            await call()
        assert [event.outcome for event in events_of(directory) if isinstance(event, JobFinished)] == ["cancelled"]

    assert seen == [["cancelled"]]
    require_balance(directory)


async def test_a_timeout_says_so(tmp_path: Path) -> None:
    """RR-15: a call that its deadline ended is timed_out, with the signal beside it; its job has failed."""
    async with open_run("x", record=tmp_path) as run:
        with pytest.raises(pf.TimedOut):
            async with run.job("j") as job:
                await job.sh("sleep", "60", timeout_s=0.05)

    events = require_balance(run.directory)
    [started] = [event for event in events if isinstance(event, ShStarted)]
    [finished] = [event for event in events if isinstance(event, ShFinished)]
    assert (started.timeout_ms, finished.outcome, finished.signal) == (50, "timed_out", "SIGTERM")
    [job_finished] = [event for event in events if isinstance(event, JobFinished)]
    assert (job_finished.outcome, job_finished.error and job_finished.error.type) == ("failed", "TimedOut")
    assert isinstance(events[-1], RunFinished)
    assert events[-1].outcome == "failed"


async def test_an_escalation_is_told(tmp_path: Path) -> None:
    """RR-15: a child that needed more than its first signal says escalated."""
    stubborn = pf.shell("trap '' TERM; echo up; while :; do sleep 0.1; done")
    async with open_run("x", record=tmp_path) as run:
        async with pf.spawn(stubborn, shutdown=pf.Shutdown.sigterm(grace_s=0.1)) as child:
            await child.stdout.wait_for_line("up")

    [finished] = [event for event in require_balance(run.directory) if isinstance(event, ShFinished)]
    assert (finished.escalated, finished.signal) == (True, "SIGKILL")


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (RuntimeError("boom"), "errored"),
        (pf.SpawnError(program="x", reason="y"), "failed"),
        (ExceptionGroup("g", [pf.SpawnError(program="x", reason="y"), ValueError("v")]), "errored"),
        (SystemExit(3), "errored"),
        (SystemExit(0), "succeeded"),
    ],
)
async def test_the_exception_decides(tmp_path: Path, error: BaseException, word: str) -> None:
    """RR-15: an exception in the code of a job ends job and run with the word that fits, and goes on as it is."""
    with pytest.raises(type(error)) as caught:
        async with open_run("x", record=tmp_path) as run, run.job("j"):
            raise error

    assert caught.value is error
    events = require_balance(run.directory)
    assert [event.outcome for event in events if isinstance(event, (JobFinished, RunFinished))] == [word, word]


async def test_cancelling_a_run_ends_it(tmp_path: Path) -> None:
    """RR-15: Run.cancel() is recorded with its reason, cancels what runs, and the block ends without an exception."""
    async with open_run("x", record=tmp_path) as run, run.job("j"):
        async with pf.spawn(pf.Command("sleep", "60"), shutdown=NOW):
            run.cancel("the operator wants it", signal="SIGTERM")
            await anyio.sleep_forever()

    assert run.outcome == "cancelled"
    events = require_balance(run.directory)
    [request] = [event for event in events if isinstance(event, CancelRequested)]
    assert (request.reason, request.signal) == ("the operator wants it", "SIGTERM")
    assert [event.outcome for event in events if isinstance(event, (ShFinished, JobFinished, RunFinished))] == [
        "cancelled"
    ] * 3


# --- jobs -------------------------------------------------------------------------------------------------------------


async def test_another_attempt_keeps_the_first(tmp_path: Path) -> None:
    """RR-22: a second attempt at a job has rows and logs of its own, those of the first stay."""
    async with open_run("x", record=tmp_path) as run:
        for text in ("first", "second"):
            async with run.job("j") as job:
                await job.sh("echo", text)
                assert job.attempt == (1 if text == "first" else 2)

    require_balance(run.directory)
    assert stdout_of(run.directory / "jobs/j/sh-0001.log") == b"first\n"
    assert stdout_of(run.directory / "jobs/j/a2/sh-0001.log") == b"second\n"
    assert [(row.attempt, row.outcome) for row in load(run.directory).jobs.values()] == [
        (1, "succeeded"),
        (2, "succeeded"),
    ]


async def test_a_job_runs_once_at_a_time(tmp_path: Path) -> None:
    """RR-22: an attempt cannot begin while another one at the same job runs."""
    async with open_run("x", record=tmp_path) as run, run.job("j"):
        with pytest.raises(pf.UsageError, match="runs already"):
            async with run.job("j"):
                pass


async def test_declared_jobs_that_never_begin_are_skipped(tmp_path: Path) -> None:
    """RR-21: they are written before the end of the run, with the failed jobs for which they did not begin."""
    with pytest.raises(pf.ExitError):
        async with open_run("x", record=tmp_path) as run:
            run.declare("build")
            run.declare("test", after=["build"])
            run.declare("pack", after=["test"])
            run.declare("lint")
            async with run.job("build") as job:
                await job.sh("false")

    events = require_balance(run.directory)
    skipped = {event.job_id: event.because for event in events if isinstance(event, JobSkipped)}
    assert skipped == {"test": ("build",), "pack": ("build",), "lint": ()}


async def test_a_job_waits_for_those_before_it(tmp_path: Path) -> None:
    """RR-21: entering a block waits for the ends of the jobs before it, and raises if one of them failed."""
    order: list[str] = []

    async def build() -> None:
        with pytest.raises(ValueError, match="boom"):
            async with run.job("build"):
                order.append("build")
                raise ValueError("boom")

    async def test() -> None:
        with pytest.raises(JobSkippedError) as caught:
            async with run.job("test", after=["build"]):
                order.append("test")
        assert caught.value.because == ("build",)

    async with open_run("x", record=tmp_path) as run:
        run.declare("build")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(test)
            tasks.start_soon(build)

    assert order == ["build"]
    assert run.outcome == "failed"
    require_balance(run.directory)


async def test_jobs_run_in_their_order(tmp_path: Path) -> None:
    """RR-19: run_jobs() begins each job once those before it have succeeded, as many at a time as are allowed."""
    running: set[str] = set()
    most = 0
    done: list[str] = []

    def work(name: str, *after: str) -> JobSpec:
        async def perform(job: Job) -> None:
            nonlocal most
            assert set(after) <= set(done)
            running.add(name)
            most = max(most, len(running))
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            running.discard(name)
            done.append(name)

        return JobSpec(job_id=name, work=perform, after=after)

    jobs = [work("e", "c", "d"), work("c", "a", "b"), work("d", "b"), work("b"), work("a"), *map(work, "uvwxyz")]
    async with open_run("x", record=tmp_path) as run:
        outcomes = await run.run_jobs(jobs, max_running=3)

    assert set(outcomes.values()) == {"succeeded"}
    assert sorted(done) == sorted(outcomes)
    assert most == 3
    events = require_balance(run.directory)
    assert sum(isinstance(event, JobDeclared) for event in events) == len(jobs)


async def test_a_failed_job_takes_those_behind_it(tmp_path: Path) -> None:
    """RR-21: a job that fails is tried again as often as allowed; then those behind it are skipped, the others go on."""
    tries: list[int] = []

    async def flaky(job: Job) -> None:
        tries.append(job.attempt)
        if len(tries) < 3:
            raise RuntimeError("not yet")

    async def good(job: Job) -> None:
        await job.sh("true")

    async def bad(job: Job) -> None:
        await job.sh("false")

    async with open_run("x", record=tmp_path) as run:
        with pytest.raises(JobsFailedError) as caught:
            await run.run_jobs(
                [
                    JobSpec(job_id="flaky", work=flaky, attempts=3),
                    JobSpec(job_id="after flaky", work=good, after=["flaky"]),
                    JobSpec(job_id="bad", work=bad, attempts=2),
                    JobSpec(job_id="behind", work=good, after=["bad", "flaky"]),
                    JobSpec(job_id="far behind", work=good, after=["behind"]),
                ]
            )

    assert tries == [1, 2, 3]
    assert caught.value.outcomes == {
        "flaky": "succeeded", "bad": "failed", "after flaky": "succeeded", "behind": "skipped", "far behind": "skipped",
    }  # fmt: skip
    assert list(caught.value.errors) == ["bad"]
    assert run.outcome == "failed"
    events = require_balance(run.directory)
    assert {event.job_id: event.because for event in events if isinstance(event, JobSkipped)} == {
        "behind": ("bad",),
        "far behind": ("bad",),
    }


async def test_wrong_jobs_are_refused_before_anything_begins(tmp_path: Path) -> None:
    """RR-19: two jobs of one id, unknown jobs and circles are errors that name them, and nothing is written for them."""

    async def work(job: Job) -> None:
        raise AssertionError("never")

    def jobs(**after: tuple[str, ...]) -> list[JobSpec]:
        return [JobSpec(job_id=name, work=work, after=names) for name, names in after.items()]

    async with open_run("x", record=tmp_path) as run:
        with pytest.raises(ValueError, match="two jobs are called 'a'"):
            await run.run_jobs([*jobs(a=()), *jobs(a=())])
        with pytest.raises(ValueError, match="'a' waits for 'z', which is no job"):
            await run.run_jobs(jobs(a=("z",)))
        with pytest.raises(ValueError, match="jobs wait for each other: '[abc]' -> "):
            await run.run_jobs(jobs(a=("b",), b=("c",), c=("a",)))
        with pytest.raises(ValueError, match="max_running must be at least 1"):
            await run.run_jobs([], max_running=0)
        for job_id in ("", "main", "x" * 1025):
            with pytest.raises(pf.UsageError):
                run.job(job_id)
        with pytest.raises(pf.UsageError, match="cannot wait for 'z'"):
            run.declare("a", after=["z"])

    assert len(require_balance(run.directory)) == 2


# --- notes, secrets, what is said of a command ------------------------------------------------------------------------


async def test_notes(tmp_path: Path) -> None:
    """RR-05: a note is JSON of at most 8 KiB under a key with a dot, about the run or a job."""
    async with open_run("x", record=tmp_path) as run:
        run.note("build.version", {"major": 1})
        async with run.job("j") as job:
            job.note("job.size", 5)
        with pytest.raises(pf.UsageError, match="a dot"):
            run.note("version", 1)
        for value in (float("nan"), 2**63, "x" * 9000, object()):
            with pytest.raises(UnrecordableError):
                run.note("a.b", value)
    with pytest.raises(pf.UsageError, match="is over"):
        run.note("a.b", 1)

    notes = [event for event in require_balance(run.directory) if isinstance(event, Note)]
    assert [(note.key, note.value, note.job_id, note.attempt) for note in notes] == [
        ("build.version", {"major": 1}, None, None),
        ("job.size", 5, "j", 1),
    ]


async def test_a_secret_is_unwrapped_for_the_child_only(tmp_path: Path) -> None:
    """RR-84: a Secret among arguments and variables reaches the child, and nothing that is recorded."""
    token = pf.Secret("tok-4f9c11d2a7", name="token")
    async with open_run("x", record=tmp_path) as run:
        done = await run.sh("sh", "-c", 'echo "$1 $TOKEN"', "sh", token, env={"TOKEN": token})

    assert done.stdout.text == "tok-4f9c11d2a7 tok-4f9c11d2a7\n"
    [started] = [event for event in require_balance(run.directory) if isinstance(event, ShStarted)]
    assert started.argv[-1] == "<redacted:token>"
    assert started.env_set == ("TOKEN",)
    for path in run.directory.rglob("*"):
        assert not path.is_file() or b"tok-4f9c11d2a7" not in path.read_bytes()


async def test_variables_are_names_only(tmp_path: Path) -> None:
    """RR-81: of the environment the names that a command sets and removes are recorded, values where it was asked for."""
    async with open_run("x", record=tmp_path, env_values=["LANG", "DB_PASSWORD", "NOT_THERE"]) as run:
        await run.sh("true", env={"LANG": "C", "COLOR": "no", "DB_PASSWORD": "hunter2hunter2", "PAGER": None})

    [started] = [event for event in require_balance(run.directory) if isinstance(event, ShStarted)]
    assert (started.env_set, started.env_unset) == (("LANG", "COLOR", "DB_PASSWORD"), ("PAGER",))
    assert started.env == {"LANG": "C", "DB_PASSWORD": "<redacted:assignment>"}


@pytest.mark.parametrize(
    ("choice", "argv", "cmd"),
    [("redacted", ("/bin/sh", "-c", "echo x"), "echo x"), ("program", ("/bin/sh",), "/bin/sh"), ("none", (), "")],
)
async def test_how_much_of_a_command_is_recorded(tmp_path: Path, choice: str, argv: tuple[str, ...], cmd: str) -> None:
    """RR-85: all words, the first, or none; the header says which."""
    async with open_run("x", record=tmp_path, argv=choice) as run:  # type: ignore[arg-type]  # one of the three
        await run.sh(pf.shell("echo x"))

    events = require_balance(run.directory)
    assert isinstance(events[0], RunStarted)
    assert events[0].redaction.argv == choice
    [started] = [event for event in events if isinstance(event, ShStarted)]
    assert (started.argv, started.cmd) == (argv, cmd)


async def test_a_late_secret_warns(tmp_path: Path) -> None:
    """RR-83: a secret covers what is recorded after it was added; a call before that is a warning, without its value."""
    late = pf.Secret("late-7c1fe0b24a", name="late")
    async with open_run("x", record=tmp_path) as run:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run.add_secret(pf.Secret("early-7c1fe0b24a", name="early"))
        await run.sh("echo", "late-7c1fe0b24a")
        with pytest.warns(LateSecretWarning, match="'late' was added after a call") as caught:
            run.add_secret(late)
        await run.sh("echo", "late-7c1fe0b24a")

    assert "7c1fe0b24a" not in str(caught[0].message)
    before, after = [event for event in require_balance(run.directory) if isinstance(event, ShStarted)]
    assert (before.argv[1], after.argv[1]) == ("late-7c1fe0b24a", "<redacted:late>")
    assert stdout_of(run.directory / "jobs/main/sh-0002.log") == b"<redacted:late>\n"


async def test_a_call_is_three_lines(tmp_path: Path) -> None:
    """RR-101: what recording adds to a call is three lines, whatever it does, and one file for its log."""
    async with open_run("x", record=tmp_path) as run:
        for _ in range(5):
            await run.sh("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do echo $i; done", env={"A": "b"})

    events = require_balance(run.directory)
    assert len(events) == 1 + 1 + 5 * 3 + 2
    assert len(list((run.directory / "jobs/main").iterdir())) == 5


async def test_a_huge_command_is_cut_in_the_record_only(tmp_path: Path) -> None:
    """RR-100: arguments of 1.5 MB are recorded cut, with their size, and run uncut."""
    words = ["x" * 100_000 for _ in range(15)]
    async with open_run("x", record=tmp_path) as run:
        done = await run.sh("sh", "-c", 'printf "%s" "$*" | wc -c', "sh", *words)

    assert int(done.stdout.text) == 15 * 100_000 + 14
    [started] = [event for event in require_balance(run.directory) if isinstance(event, ShStarted)]
    assert started.cut
    assert max(len(line) for line in (run.directory / "events.jsonl").read_bytes().splitlines()) <= 256 << 10


async def test_a_child_may_know_its_span(tmp_path: Path) -> None:
    """RR-97: with propagation a child gets TRACEPARENT of its own call, unless the caller set it; off by default."""
    show = pf.shell('echo "$TRACEPARENT"', env={"TRACEPARENT": None})
    outer = Trace(trace_id="0af7651916cd43dd8448eb211c80319c", parent_span_id="b7ad6b7169203331")
    ours = pf.shell('echo "$TRACEPARENT"')
    async with open_run("x", record=tmp_path / "on", trace=outer, propagate_trace=True) as run, run.job("j") as job:
        told = [(await job.sh(ours)).stdout.text.strip() for _ in range(2)]
        assert (await job.sh(ours.with_(env={"TRACEPARENT": "mine"}))).stdout.text == "mine\n"
    async with open_run("x", record=tmp_path / "off") as silent:
        assert (await silent.sh(show)).stdout.text == "\n"

    assert told == [traceparent(run.run_id, CallKey("j", 1, sh), trace=outer) for sh in (1, 2)]
    assert all(text.startswith("00-0af7651916cd43dd8448eb211c80319c-") for text in told)
    started = [event for event in require_balance(run.directory) if isinstance(event, ShStarted)]
    assert [event.env_set for event in started] == [("TRACEPARENT",)] * 3


# --- logs -------------------------------------------------------------------------------------------------------------


async def test_logs_and_what_the_caller_gets_are_independent(tmp_path: Path) -> None:
    """RR-74: secrets are taken out of the log and stay in the output; a capped or missing log changes nothing."""
    command = pf.Command("printf", "a\\rb\\0c-correct-horse-battery\\xff")
    raw = b"a\rb\0c-correct-horse-battery\xff"
    async with open_run("x", record=tmp_path / "a", secrets=["correct-horse-battery"]) as run:
        assert (await pf.run(command)).stdout.bytes == raw
    async with open_run("y", record=tmp_path / "b", logs=False) as unlogged:
        assert (await pf.run(command)).stdout.bytes == raw
    async with open_run("z", record=tmp_path / "c", log_cap_bytes=4096) as capped:
        done = await pf.run(pf.Command("head", "-c", "100000", "/dev/zero"))
        assert done.stdout.bytes == bytes(100_000)

    assert stdout_of(run.directory / "jobs/main/sh-0001.log") == raw.replace(
        b"correct-horse-battery", b"<redacted:secret>"
    )
    [started] = [event for event in require_balance(unlogged.directory) if isinstance(event, ShStarted)]
    assert started.log is None
    assert list(unlogged.directory.iterdir()) == [unlogged.directory / "events.jsonl"]
    [finished] = [event for event in require_balance(capped.directory) if isinstance(event, ShFinished)]
    assert finished.stdout_bytes == 100_000
    assert 0 < finished.log_dropped_bytes < 100_000


async def test_a_log_grows_while_the_call_runs(tmp_path: Path) -> None:
    """RR-69: lines are in the log when they were read, an unfinished one after a while."""
    async with open_run("x", record=tmp_path) as run:
        async with pf.spawn(pf.shell("echo line; printf half; read x"), stdin=pf.PIPE, shutdown=NOW):
            log = run.directory / "jobs/main/sh-0001.log"
            while stdout_of(log) != b"line\nhalf":
                await anyio.lowlevel.checkpoint()
            assert log.read_bytes().endswith(b" stdout P half\n")


async def test_the_path_of_a_log_is_in_its_event(tmp_path: Path) -> None:
    """RR-70: whatever the job is called, its log is where sh_started and the row say."""
    names = ["..", "a/b", "A", "a", "e" * 300, "nul\0", "ü"]
    async with open_run("x", record=tmp_path) as run:
        for name in names:
            async with run.job(name) as job:
                await job.sh("echo", name.replace("\0", "0"))

    view = load(run.directory)
    paths = [row.log_path for row in view.calls.values()]
    assert len(set(paths)) == len(names)
    for row in view.calls.values():
        assert row.log_path is not None
        assert (run.directory / row.log_path).resolve().is_relative_to(run.directory.resolve() / "jobs")
        assert stdout_of(run.directory / row.log_path) == row.job_id.replace("\0", "0").encode() + b"\n"


async def test_a_flood_is_logged_without_waiting(tmp_path: Path) -> None:
    """RR-75: a log has no queue that could fill up: what was read is in it before the caller can have it."""
    async with open_run("x", record=tmp_path, log_cap_bytes=None) as run:
        async with pf.spawn(pf.shell(f"yes {'x' * 2000} | head -c 3000000"), shutdown=NOW) as child:
            got, looks = 0, 0
            async with child.stdout.subscribe() as events:
                async for event in events:
                    assert isinstance(event, pf.Chunk)
                    got += len(event.data)
                    if got >= looks * 500_000:
                        looks += 1
                        assert (
                            len(stdout_of(run.directory / "jobs/main/sh-0001.log")) >= got - 2001
                        )  # half a line waits

    assert len(stdout_of(run.directory / "jobs/main/sh-0001.log")) == got == 3_000_000


async def test_a_log_that_fails_disturbs_nothing(tmp_path: Path) -> None:
    """RR-73: when a log cannot be written the call goes on, its output is read, and the record says so."""
    async with open_run("x", record=tmp_path) as run:
        (run.directory / "jobs").write_text("in the way")
        done = await pf.run(pf.Command("head", "-c", "1000000", "/dev/zero"))

    assert len(done.stdout.bytes) == 1_000_000
    events = require_balance(run.directory)
    [note] = [event for event in events if isinstance(event, Note)]
    assert (note.key, note.sh) == ("procflow.log_failed", 1)
    [finished] = [event for event in events if isinstance(event, ShFinished)]
    assert (finished.stdout_bytes, finished.log_dropped_bytes) == (1_000_000, 1_000_000)


# --- sinks ------------------------------------------------------------------------------------------------------------


async def test_events_go_to_functions_too(tmp_path: Path) -> None:
    """RR-26: several targets get the same events."""
    seen: list[str] = []
    copy = tmp_path / "copy.jsonl"
    async with open_run(
        "x", record=tmp_path / "runs", events=[lambda event: seen.append(type(event).__name__), copy]
    ) as run:
        await run.sh("true")

    assert seen == [type(event).__name__ for event in events_of(run.directory)]
    assert copy.read_bytes() == (run.directory / "events.jsonl").read_bytes()


def any_call_in(database: Path) -> bool:
    try:
        return any(view_from(database, found.run.run_id or "").calls for found in runs_in(database))
    except UnusableDatabaseError:  # it was not made yet
        return False


async def test_rows_while_the_run_goes_on(tmp_path: Path) -> None:
    """RR-59: with database= the rows are there while the run runs, and in the end they are those of an ingest afterwards."""
    live, later = tmp_path / "live.db", tmp_path / "later.db"
    async with open_run("x", record=tmp_path / "runs", database=live) as run:
        async with run.job("j") as job:
            await job.sh("true")
            while not any_call_in(live):
                await anyio.lowlevel.checkpoint()
            await job.sh("false", check=False)
    ingest(run.directory, later)

    assert view_from(live, run.run_id) == view_from(later, run.run_id) == load(run.directory)
    with pytest.raises(ValueError, match="record= is needed"):
        open_run("x", database=live)


async def test_a_target_that_is_wrong_leaves_nothing(tmp_path: Path) -> None:
    """RR-26: an unknown scheme is refused before anything is made, a file that is there when the block is entered."""
    with pytest.raises(ValueError, match="no target for events"):
        open_run("x", record=tmp_path / "runs", events="ftp:somewhere")
    assert not (tmp_path / "runs").exists()

    (tmp_path / "there").touch()
    with pytest.raises(FileExistsError):
        async with open_run("x", record=tmp_path / "runs", events=tmp_path / "there"):
            pass


async def test_strict_raises_at_the_boundary(tmp_path: Path) -> None:
    """RR-31: with strict=True a lost event is an error once the run is over, and a note on an error of its own."""
    full = Path("/dev/full")
    # A FileSink refuses a file that is there, so a descriptor stands for the disk that is full.
    fd = os.open(full, os.O_WRONLY)
    try:
        with pytest.raises(RecordLostError, match="events were lost"):
            async with open_run("x", record=tmp_path, events=f"fd:{fd}", strict=True) as run:
                await run.sh("true")
        with pytest.raises(pf.ExitError) as caught:
            async with open_run("x", events=f"fd:{fd}", strict=True) as other:
                await other.sh("false")
        async with open_run("x", events=f"fd:{fd}"):
            pass
    finally:
        os.close(fd)

    assert run.outcome == "succeeded"
    require_balance(run.directory)
    assert any("the record is not whole" in note for note in caught.value.__notes__)


PROGRAM = """
import sys
import anyio
import procflow as pf
from procflow.record import open_run

async def main():
    async with open_run("x", events="stdout") as run:
        async with run.job("j") as job:
            await job.sh("echo", "not between the lines")
            await job.sh("echo", "on stderr", stdout=sys.stderr)
            for options in ({"stdout": pf.INHERIT}, {"stderr": 1}, {"stdout": sys.stdout.fileno()}):
                try:
                    await job.sh("echo", "between the lines", **options)
                except pf.UsageError as exc:
                    print(exc, file=sys.stderr)

anyio.run(main)
"""


async def test_nobody_writes_between_the_events(backend: str) -> None:
    """RR-35: with events on stdout no child writes there, and every line is an event."""
    if backend != "asyncio":
        pytest.skip("one back end is enough")
    done = await pf.run(pf.Command(sys.executable, "-c", PROGRAM))

    lines = [json.loads(line) for line in done.stdout.lines]
    assert [line["type"] for line in lines][-1] == "run_finished"
    assert [line["outcome"] for line in lines if line["type"] == "sh_finished"] == ["exited"] * 2 + ["spawn_failed"] * 3
    assert done.stderr.text.count("the events of the run go to standard output") == 3
    assert "on stderr" in done.stderr.text


async def test_the_lock_is_released_on_every_way_out(tmp_path: Path) -> None:
    """RR-36: leaving the block, also by an exception, ends the record and lets go of its lock."""
    with pytest.raises(ValueError, match="boom"):
        async with open_run("x", record=tmp_path):
            raise ValueError("boom")

    require_balance(the_run_in(tmp_path))


async def test_calls_of_other_threads_are_in_order(tmp_path: Path) -> None:
    """RR-02: numbers are consecutive, also when several threads with event loops of their own make calls."""

    def work() -> None:
        async def calls() -> None:
            for _ in range(5):
                await pf.run(pf.Command("true"), containment="group")

        asyncio.run(calls())

    async with open_run("x", record=tmp_path) as run, run.job("j"), anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(anyio.to_thread.run_sync, work)

    events = require_balance(run.directory)
    assert sum(isinstance(event, ShFinished) for event in events) == 20
    assert threading.current_thread() is threading.main_thread()


async def test_one_record_in_a_directory(tmp_path: Path) -> None:
    """RR-13: the directory of a run is named by its id, and later runs sort behind."""
    ids: list[str] = []
    for _ in range(3):
        async with open_run("x", record=tmp_path) as run:
            ids.append(run.run_id)

    assert ids == sorted(path.name for path in tmp_path.iterdir())
