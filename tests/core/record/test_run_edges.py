"""Runs that are left in odd ways, at odd times, and from several threads at once."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import procflow as pf
from procflow._process.recording import RecordedCall
from procflow.record import (
    ErrorInfo,
    JobFinished,
    JobSkipped,
    JobSkippedError,
    Note,
    ShFinished,
    ShStarted,
    open_run,
)
from procflow.record.logs import LogLine, read_log
from procflow.record.recording.core import RunCore
from procflow.record.recording.header import this_writer
from procflow.record.recording.settings import RecordSettings

from .runs import events_of, require_balance, the_run_in

pytestmark = pytest.mark.anyio

NOW = pf.Shutdown.now()


# --- numbers ----------------------------------------------------------------------------------------------------------


async def test_an_attempt_counts_its_own_calls(tmp_path: Path) -> None:
    """RR-17: a task of an earlier attempt that calls while a later one runs takes the next number of its own attempt."""
    go, done = anyio.Event(), anyio.Event()

    async def late() -> None:
        await go.wait()
        await pf.run(pf.Command("echo", "late"))
        done.set()

    async with open_run("x", record=tmp_path) as run, anyio.create_task_group() as tasks:
        async with run.job("j") as job:
            await job.sh("echo", "first")
            tasks.start_soon(late)
        async with run.job("j") as job:
            go.set()
            await done.wait()
            await job.sh("echo", "again")

    events = require_balance(run.directory)
    started = [event for event in events if isinstance(event, ShStarted)]
    assert [(event.attempt, event.sh, event.argv[1]) for event in started] == [
        (1, 1, "first"), (1, 2, "late"), (2, 1, "again")
    ]  # fmt: skip
    assert not any(isinstance(event, Note) for event in events)  # each had a log of its own


@pytest.mark.parametrize("timeout_s", [float("inf"), 1e20, 1e308])
async def test_a_timeout_that_no_clock_reaches_is_none(tmp_path: Path, timeout_s: float) -> None:
    """RR-05: a timeout that is no 64-bit number of milliseconds is not on the line, and the call runs as without a record."""
    async with open_run("x", record=tmp_path) as run:
        await run.sh("true", timeout_s=timeout_s)

    [started] = [event for event in require_balance(run.directory) if isinstance(event, ShStarted)]
    assert started.timeout_ms is None


async def test_what_is_let_go_has_its_counts(tmp_path: Path) -> None:
    """RR-72: the byte counts of a call that its run has left open are of what was read until then, with a log or without."""
    for logs in (True, False):
        ready, go = anyio.Event(), anyio.Event()

        async def outlive(ready: anyio.Event = ready, go: anyio.Event = go) -> None:
            async with pf.spawn(pf.shell("echo err >&2; echo hello; read x"), stdin=pf.PIPE, shutdown=NOW) as child:
                await child.stderr.wait_for_line("err")
                await child.stdout.wait_for_line("hello")
                ready.set()
                await go.wait()

        async with anyio.create_task_group() as tasks:
            async with open_run("x", record=tmp_path, logs=logs) as run:
                tasks.start_soon(outlive)
                await ready.wait()
            go.set()

        [finished] = [event for event in require_balance(run.directory) if isinstance(event, ShFinished)]
        assert (finished.outcome, finished.stdout_bytes, finished.stderr_bytes) == ("detached", 6, 4)


async def test_a_stage_that_was_gone_is_not_escalated(tmp_path: Path) -> None:
    """RR-20: a stage that exited by itself has no part in the stop of the others."""
    stubborn = pf.shell("trap '' TERM; while read x; do :; done; echo up; while :; do sleep 0.1; done")
    async with open_run("x", record=tmp_path) as run:
        async with pf.spawn(pf.shell("exit 3") | stubborn, shutdown=pf.Shutdown.sigterm(grace_s=0.1)) as child:
            await child.stages[0].wait()
            await child.stdout.wait_for_line("up")

    ends = {event.sh: event for event in require_balance(run.directory) if isinstance(event, ShFinished)}
    assert (ends[1].outcome, ends[1].exit_code, ends[1].escalated) == ("exited", 3, False)
    assert (ends[2].outcome, ends[2].signal, ends[2].escalated) == ("signaled", "SIGKILL", True)


# --- jobs -------------------------------------------------------------------------------------------------------------


async def test_main_is_not_blamed_for_a_job_in_a_task_group(tmp_path: Path) -> None:
    """RR-15: a task group wraps the error of a job, and cancels others; the job of calls outside of any has succeeded."""
    begun = anyio.Event()

    async def other() -> None:
        async with run.job("other"):
            begun.set()
            await anyio.sleep_forever()

    async def broken() -> None:
        async with run.job("broken"):
            await begun.wait()
            raise ValueError("boom")

    with pytest.raises(ExceptionGroup):
        async with open_run("x", record=tmp_path) as run:
            await run.sh("true")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other)
                tasks.start_soon(broken)

    ends = {event.job_id: event for event in require_balance(run.directory) if isinstance(event, JobFinished)}
    assert {name: event.outcome for name, event in ends.items()} == {
        "broken": "errored", "other": "cancelled", "main": "succeeded",
    }  # fmt: skip
    assert ends["broken"].error == ErrorInfo(type="ValueError", message="boom")
    assert run.outcome == "errored"


async def test_a_job_is_skipped_once(tmp_path: Path) -> None:
    """RR-21: a job whose block is entered again in vain has one job_skipped, and one that was begun has none."""
    async with open_run("x", record=tmp_path) as run:
        async with run.job("a"):
            pass
        async with run.job("begun"):
            pass
        with pytest.raises(ValueError, match="boom"):
            async with run.job("a"):
                raise ValueError("boom")
        for _ in range(2):
            with pytest.raises(JobSkippedError):
                async with run.job("b", after=["a"]):
                    pass

    events = require_balance(run.directory)
    assert [event.job_id for event in events if isinstance(event, JobSkipped)] == ["b"]


# --- runs in runs -----------------------------------------------------------------------------------------------------


async def test_the_run_around_records_what_outlives_the_inner_one(tmp_path: Path) -> None:
    """RR-18: what a task of a run calls after its end belongs to the run around it, also as a pipeline."""
    go = anyio.Event()

    async def late() -> None:
        await go.wait()
        await pf.run(pf.Command("echo", "late") | pf.Command("cat"))

    async with open_run("outer", record=tmp_path / "outer") as outer, anyio.create_task_group() as tasks:
        await pf.run(pf.Command("echo", "early") | pf.Command("cat"))
        async with open_run("inner", record=tmp_path / "inner") as inner, inner.job("j"):
            tasks.start_soon(late)
            await pf.run(pf.Command("echo", "inside"))
        go.set()

    def said(directory: Path) -> list[tuple[str, str | None]]:
        return [(event.argv[-1], event.pipe) for event in require_balance(directory) if isinstance(event, ShStarted)]

    assert said(inner.directory) == [("inside", None)]
    assert said(outer.directory) == [("early", "pipe-1"), ("cat", "pipe-1"), ("late", "pipe-2"), ("cat", "pipe-2")]


NESTED = """
import sys
import anyio
import procflow as pf
from procflow.record import open_run

async def main():
    async with open_run("outer", events="stdout"), open_run("inner"):
        try:
            await pf.run(pf.Command("echo", "between the lines"), stdout=pf.INHERIT)
        except pf.UsageError as exc:
            print(exc, file=sys.stderr)

anyio.run(main)
"""


async def test_the_stdout_of_the_run_around_is_kept_free() -> None:
    """RR-35: no child writes between the events of a run on stdout, also inside of another run."""
    done = await pf.run(pf.Command(sys.executable, "-c", NESTED))

    assert "between the lines" not in done.stdout.text
    assert "the events of the run go to standard output" in done.stderr.text


# --- left where it should not be --------------------------------------------------------------------------------------


def descriptors_below(root: Path) -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # that of the listing itself
            continue
        if target.startswith(str(root)):
            found.append(target)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is needed")
async def test_a_run_that_is_left_in_another_task_is_closed(tmp_path: Path, backend: str) -> None:
    """RR-36: leaving the block in a task where no scope may be left is an error, and lets go of everything all the same."""
    if backend == "trio":
        pytest.skip("trio considers the whole program broken then")
    async with open_run("outer", record=tmp_path / "outer") as outer:
        block = open_run("inner", record=tmp_path / "inner", database=tmp_path / "db", events=tmp_path / "copy")

        async def leave() -> None:
            with pytest.raises(RuntimeError, match="cancel scope"):
                await block.__aexit__(None, None, None)
            await pf.run(pf.Command("echo", "still of the outer one"))

        await asyncio.create_task(block.__aenter__())  # noqa: TID251 (what pytest plugins do with fixtures)
        await asyncio.create_task(leave())  # noqa: TID251 (as above)

    require_balance(the_run_in(tmp_path / "inner"))
    assert descriptors_below(tmp_path) == []
    [started] = [event for event in require_balance(outer.directory) if isinstance(event, ShStarted)]
    assert started.argv[1] == "still of the outer one"


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
async def test_a_forked_copy_leaves_logs_alone(tmp_path: Path, backend: str) -> None:
    """RR-24: a forked copy of the host that leaves the block writes nothing, neither events nor output that waits."""
    if backend != "asyncio":
        pytest.skip("a core knows no back end")
    core = RunCore("x", RecordSettings(record=tmp_path), this_writer())
    call = core.begin_call(None, pf.Command("true"), pipe=None, timeout_s=None, is_streamed=True)
    call.spawned(os.getpid())
    call.copy("stdout", b"half")

    copy = os.fork()
    if not copy:
        try:
            call.copy("stdout", b"\n")
            call.finished(None, stdout_bytes=5, stderr_bytes=0)
            core.finish(None)
        finally:
            os._exit(0)
    os.waitpid(copy, 0)
    core.finish(None)
    await core.aclose()

    assert core.directory is not None
    [finished] = [event for event in require_balance(core.directory) if isinstance(event, ShFinished)]
    assert finished.stdout_bytes == 4
    [line] = read_log(str(core.directory / "jobs/main/sh-0001.log"))
    assert isinstance(line, LogLine)
    assert line.data == b"half"


# --- threads ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns at nearly every step."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
async def test_a_call_that_ends_while_its_run_is_left_has_its_end(tmp_path: Path) -> None:
    """RR-15: calls that end in another thread while the run is left have one end each, before that of the run."""
    for number in range(30):
        core = RunCore("x", RecordSettings(record=tmp_path / str(number)), this_writer())
        calls = [
            core.begin_call(None, pf.Command("true"), pipe=None, timeout_s=None, is_streamed=True) for _ in range(20)
        ]
        has_begun = threading.Event()

        def end(calls: list[RecordedCall] = calls, has_begun: threading.Event = has_begun) -> None:
            has_begun.set()
            for call in calls:
                call.finished(None, stdout_bytes=0, stderr_bytes=0)

        thread = threading.Thread(target=end)
        thread.start()
        has_begun.wait()
        core.finish(None)
        thread.join()
        await core.aclose()
        assert core.directory is not None
        assert sum(isinstance(event, ShFinished) for event in require_balance(core.directory)) == 20


MEDDLING = """
import asyncio, sys, threading
import anyio
import procflow as pf
from procflow.record import ShSpawned, Note, open_run

sys.setswitchinterval(1e-6)

async def main():
    async with open_run("x", events=lambda event: isinstance(event, Note) and run.declare(f"job {event.seq}")) as run:
        is_over = threading.Event()
        begin = run._recording.begin

        def call():
            while not is_over.is_set():
                call = begin(pf.Command("true"), pipe=None, timeout_s=None, is_streamed=False)
                call.finished(None, stdout_bytes=0, stderr_bytes=0)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        for _ in range(1000):
            run.note("a.b", 1)
        is_over.set()
        thread.join()

anyio.run(main)
"""


async def test_a_function_that_gets_events_may_use_the_run(backend: str) -> None:
    """RR-26: a function that is given an event may declare a job at once, while another thread makes calls."""
    if backend != "asyncio":
        pytest.skip("one back end is enough")
    await pf.run(pf.Command(sys.executable, "-c", MEDDLING), timeout_s=60)


async def test_events_of_a_late_log_are_refused(tmp_path: Path) -> None:
    """RR-03: what a forgotten call is told after its run was left changes neither the record nor its log."""
    core = RunCore("x", RecordSettings(record=tmp_path), this_writer())
    call = core.begin_call(None, pf.Command("true"), pipe=None, timeout_s=None, is_streamed=True)
    core.finish(None)
    await core.aclose()
    assert core.directory is not None
    before = events_of(core.directory)

    call.spawned(os.getpid())
    call.copy("stdout", b"late")
    call.copy("stdout", b"")
    call.finished(None, stdout_bytes=4, stderr_bytes=0)

    assert require_balance(core.directory) == before
    assert (core.directory / "jobs/main/sh-0001.log").read_bytes() == b""
