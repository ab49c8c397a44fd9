"""The worker process by itself, spoken to by hand."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import procflow
from procflow.record import Event, Unknown
from procflow.testing import assert_no_leaks
from procflow_export.engines.processes import worker_command
from procflow_export.engines.protocol import (
    PROTOCOL,
    Cancel,
    Drain,
    Stamp,
    Work,
    WorkerReady,
    parent_codec,
    worker_codec,
)
from procflow_export.model.codes import Code
from procflow_export.model.events import Heartbeat, UnitFinished, UnitProgress, UnitStarted
from tests.export.engines.units import ROWS, Units

pytestmark = pytest.mark.anyio

NOISY = """
import os, sys
import procflow_export.engines.worker as worker
execute = worker.InProcessEngine.execute
async def noisy(self, unit, report):
    print("noise of a library", flush=True)
    os.write(1, b"noise of a C library\\n")
    os.system("echo noise of a program")
    assert sys.stdin.read() == ""
    return await execute(self, unit, report)
worker.InProcessEngine.execute = noisy
worker.main()
"""


class Hand:
    """One worker and both directions of its protocol."""

    def __init__(self, child: procflow.Process) -> None:
        self.child = child
        self.stamp = Stamp()
        self.codec = worker_codec()
        self.lines = child.stdout.lines()

    async def send(self, message: Any) -> None:
        await self.child.stdin.send(parent_codec().encode(self.stamp(message)))

    async def hear(self) -> Event | Unknown:
        return self.codec.decode((await anext(self.lines)).encode())

    async def hear_until(self, *kinds: type) -> list[Any]:
        heard: list[Any] = []
        while True:
            message = await self.hear()
            if not isinstance(message, Heartbeat):
                heard.append(message)
            if isinstance(message, kinds):
                return heard

    async def end(self) -> procflow.Outcome:
        with anyio.fail_after(20):
            return await self.child.wait()


@asynccontextmanager
async def worker(command: procflow.Command | None = None) -> AsyncIterator[Hand]:
    async with (
        assert_no_leaks(),
        procflow.spawn(command or worker_command(1), stdin=procflow.PIPE) as child,
    ):
        with anyio.fail_after(60):
            yield Hand(child)


async def test_a_unit_from_task_to_result(units: Units) -> None:
    """E-32: tasks on standard input; started, progress, finished on standard output."""
    async with worker() as hand:
        ready = await hand.hear()
        await hand.send(Work(unit=units.unit()))
        heard = await hand.hear_until(UnitFinished)
        await hand.child.stdin.aclose()
        outcome = await hand.end()

    assert isinstance(ready, WorkerReady)
    assert (ready.protocol, ready.pid) == (PROTOCOL, outcome.pid)
    assert isinstance(heard[0], UnitStarted)
    assert heard[0].pid == outcome.pid
    assert max(event.row_count for event in heard if isinstance(event, UnitProgress)) == ROWS
    assert heard[-1].result.row_count == ROWS == units.row_count()
    assert [event.seq for event in heard] == sorted(event.seq for event in heard)
    assert outcome.exit_code == 0
    assert hand.child.stderr.tail(1000) == b""


async def test_units_follow_each_other_and_failures_are_answers(units: Units) -> None:
    async with worker() as hand:
        await hand.send(Work(unit=units.missing(0)))
        failed = (await hand.hear_until(UnitFinished))[-1]
        await hand.send(Work(unit=units.unit(1)))
        done = (await hand.hear_until(UnitFinished))[-1]

    assert failed.chunk == 0
    assert failed.failure.code in (Code.SOURCE_NOT_FOUND, Code.SOURCE_QUERY_INVALID)
    assert (done.chunk, done.result.row_count) == (1, ROWS)


async def test_what_anything_prints_never_reaches_the_protocol(units: Units) -> None:
    """E-33: descriptor 1 belongs to the protocol; a print, a C library and a program go to standard error."""
    command = procflow.Command(sys.executable, "-c", NOISY, env={"PYTHONPATH": ":".join(sys.path)}, name="noisy")
    async with worker(command) as hand:
        await hand.send(Work(unit=units.unit()))
        heard = await hand.hear_until(UnitFinished)
        await hand.child.stdin.aclose()
        outcome = await hand.end()
        await hand.child.stderr.wait_ended()
        written = hand.child.stderr.tail(10_000).decode()

    assert heard[-1].result.row_count == ROWS
    assert outcome.exit_code == 0
    assert written.count("noise of a") == 3


async def test_a_line_it_does_not_understand_is_skipped(units: Units) -> None:
    """E-32: a line that does not parse is never fatal, in this direction neither."""
    async with worker() as hand:
        await hand.child.stdin.send(b"hello\n\xff\xfe\n{}\n" + b'{"type":"applause","seq":1,"at_ms":1,"mono_ns":1}\n')
        await hand.send(Work(unit=units.unit()))
        heard = await hand.hear_until(UnitFinished)

    assert heard[-1].result.row_count == ROWS


@pytest.mark.parametrize("how", ["cancel", "drain"])
async def test_the_parent_can_cancel_and_drain(units: Units, how: str) -> None:
    """E-32: cancel gives the unit up and keeps the worker; drain finishes the unit and ends the worker."""
    async with worker() as hand:
        await hand.send(Work(unit=units.slow() if how == "cancel" else units.unit()))
        await hand.hear_until(UnitProgress)
        await hand.send(Cancel() if how == "cancel" else Drain())
        first = (await hand.hear_until(UnitFinished))[-1]
        if how == "cancel":
            assert first.failure.code is Code.CANCELLED
            assert units.files() == []
            await hand.send(Work(unit=units.unit()))
            first = (await hand.hear_until(UnitFinished))[-1]
            await hand.child.stdin.aclose()
        outcome = await hand.end()

    assert first.result.row_count == ROWS
    assert outcome.exit_code == 0


async def test_a_worker_whose_parent_is_gone_ends_at_once(units: Units) -> None:
    """E-34: the end of standard input, which is all a killed parent leaves, ends the worker in the middle of a unit."""
    async with worker() as hand:
        await hand.send(Work(unit=units.slow()))
        await hand.hear_until(UnitProgress)
        await hand.child.stdin.aclose()
        with anyio.fail_after(20):
            outcome = await hand.end()

    assert outcome.exit_code == 0
    assert units.files() == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_signal_ends_it_with_an_answer_and_without_files(
    units: Units, number: signal.Signals, status: int
) -> None:
    """E-34: SIGTERM cancels the unit, removes its unfinished part, and still answers."""
    async with worker() as hand:
        await hand.send(Work(unit=units.slow()))
        await hand.hear_until(UnitProgress)
        hand.child.send_signal(number)
        answer = (await hand.hear_until(UnitFinished))[-1]
        outcome = await hand.end()

    assert answer.failure.code is Code.CANCELLED
    assert (outcome.exit_code, outcome.ended_by) == (status, procflow.EndedBy.ITSELF)
    assert units.files() == []


async def test_an_idle_worker_shows_that_it_lives() -> None:
    """E-32: heartbeat."""
    async with worker() as hand:
        assert isinstance(await hand.hear(), WorkerReady)
        beat = await hand.hear()

    assert isinstance(beat, Heartbeat)
    assert beat.peak_rss_bytes > 1 << 20
