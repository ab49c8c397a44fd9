"""The worker process: ``python -m procflow_export worker``, started by ``engines.processes`` and by nobody else.

Reads tasks from standard input, does one unit at a time, writes events to standard output.  Owns the descriptors and the ending of
this process; what a unit is and how it is done is ``pipeline``'s, through the in-process engine.

Four things make it safe to be a child:

* Descriptor 1 is moved away before anything else runs and points to standard error afterwards: a library that prints cannot break
  the protocol.
* The end of standard input ends the worker, in the middle of a unit too.  The parent holds the other end, so a parent that dies,
  however it dies, ends its workers.
* SIGTERM, SIGHUP and SIGINT cancel the unit, which removes its unfinished part; the answer still goes out.
* It ends with ``os._exit``: threads of native libraries that outlive the interpreter abort the process otherwise.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import traceback
from typing import IO, Final, NoReturn

import anyio
import anyio.to_thread

from procflow.record import MalformedEventError, Unknown
from procflow.record.release import release
from procflow_export.engines.in_process import InProcessEngine
from procflow_export.engines.protocol import (
    PROTOCOL,
    Cancel,
    Drain,
    Readers,
    ReadersAnswer,
    ReaderStep,
    Stamp,
    Work,
    WorkerMessage,
    WorkerReady,
    parent_codec,
    worker_codec,
)
from procflow_export.engines.standard_streams import open_missing_streams
from procflow_export.model.codes import Code, ExitStatus
from procflow_export.model.errors import Failure, failure_from, is_expected
from procflow_export.model.events import Heartbeat, UnitFinished
from procflow_export.model.plan import WorkUnit
from procflow_export.model.settings import DEFAULT_MEMORY_MB
from procflow_export.pipeline.machine import peak_rss_bytes

HEARTBEAT_S: Final = 2.0
SETTLE_S: Final = 0.01
"""Time that native threads get to finish their last call into the loop before it closes (obstore, see the module's docstring)."""


class _Lines:
    """The worker's way to its parent; safe to call from the loop's thread only."""

    __slots__ = ("_codec", "_descriptor", "_stamp", "is_broken", "written_count")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._codec = worker_codec()
        self._stamp = Stamp()
        self.is_broken = False
        """Whether the parent no longer reads."""
        self.written_count = 0

    def write(self, message: WorkerMessage) -> None:
        """Write one message whole.  Blocks while the parent is behind; does nothing once it is gone."""
        if self.is_broken:
            return
        rest = memoryview(self._codec.encode(self._stamp(message)))
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            self.is_broken = True
        self.written_count += 1


class _Worker:
    """One worker's state: the unit it does, and whether more may come."""

    def __init__(self, lines: _Lines, tasks: IO[bytes], memory_mb: int) -> None:
        self._memory_bytes = memory_mb << 20
        self._lines = lines
        self._tasks = tasks
        self._codec = parent_codec()
        self._unit_scope: anyio.CancelScope | None = None
        self._exit_status = int(ExitStatus.OK)
        self._is_draining = False

    async def serve(self) -> int:
        """Work until standard input ends, a drain or a signal; return the exit status."""
        async with (
            InProcessEngine(max_units=1, memory_bytes=self._memory_bytes) as engine,
            anyio.create_task_group() as group,
        ):
            group.start_soon(self._watch_signals, group.cancel_scope, name="signals")
            group.start_soon(self._beat, name="heartbeat")
            await self._take_tasks(engine, group)
            group.cancel_scope.cancel()
        await anyio.sleep(SETTLE_S)
        return self._exit_status

    async def _take_tasks(self, engine: InProcessEngine, group: anyio.abc.TaskGroup) -> None:
        self._lines.write(WorkerReady(protocol=PROTOCOL, pid=os.getpid(), release=release()))
        while not (self._is_draining and self._unit_scope is None) and not self._lines.is_broken:
            line = await anyio.to_thread.run_sync(self._tasks.readline, abandon_on_cancel=True)
            if not line:
                return
            try:
                message = self._codec.decode(line)
            except MalformedEventError as exc:
                _say(f"a line of the parent was not understood: {exc}")
                continue
            match message:
                case Work():
                    if self._unit_scope is not None:
                        _say("a second unit was sent while one was being done; it is refused")
                        self._finish(message.unit, Failure(code=Code.WORKER_PROTOCOL, message="the worker was busy"))
                        continue
                    self._unit_scope = anyio.CancelScope()
                    group.start_soon(self._do, engine, message.unit, self._unit_scope, group.cancel_scope)
                case Cancel():
                    if self._unit_scope is not None:
                        self._unit_scope.cancel()
                case Readers():
                    group.start_soon(self._step, engine, message, name="readers")
                case Drain():
                    self._is_draining = True
                case Unknown():
                    _say(f"the parent sent {message.head.type!r}, which this release does not know")

    async def _do(
        self, engine: InProcessEngine, unit: WorkUnit, scope: anyio.CancelScope, everything: anyio.CancelScope
    ) -> None:
        answer: UnitFinished | None = None
        try:
            with scope:
                try:
                    result = await engine.execute(unit, self._lines.write)
                    answer = UnitFinished(export=unit.export, chunk=unit.index, result=result)
                except Exception as exc:  # noqa: BLE001 (the top of the unit's task: recorded, and told to the parent)
                    if not is_expected(exc):
                        traceback.print_exception(exc, file=sys.stderr)
                    answer = UnitFinished(export=unit.export, chunk=unit.index, failure=failure_from(exc))
        finally:
            # Also on the way out of a cancellation: the parent hears of the end of every unit it gave us.
            if answer is None:
                cancelled = Failure(code=Code.CANCELLED, message="the unit was cancelled")
                answer = UnitFinished(export=unit.export, chunk=unit.index, failure=cancelled)
            self._unit_scope = None
            sys.stderr.flush()
            self._lines.write(answer)
        if self._is_draining:
            everything.cancel()

    async def _step(self, engine: InProcessEngine, message: Readers) -> None:
        failure: Failure | None = None
        try:
            match message.step:
                case ReaderStep.PREPARE:
                    await engine.prepare_readers(message.source, message.snapshot, message.count)
                case ReaderStep.JOIN:
                    await engine.join_snapshot(message.source, message.snapshot)
                case ReaderStep.LEAVE:
                    await engine.leave_snapshot(message.source, message.snapshot)
        except Exception as exc:  # noqa: BLE001 (the top of the step's task: told to the parent)
            if not is_expected(exc):
                traceback.print_exception(exc, file=sys.stderr)
            failure = failure_from(exc)
        self._lines.write(ReadersAnswer(step=message.step, snapshot=message.snapshot.name, failure=failure))

    def _finish(self, unit: WorkUnit, failure: Failure) -> None:
        self._lines.write(UnitFinished(export=unit.export, chunk=unit.index, failure=failure))

    async def _beat(self) -> None:
        seen = -1
        while not self._lines.is_broken:
            if self._lines.written_count == seen:
                self._lines.write(Heartbeat(peak_rss_bytes=peak_rss_bytes()))
            seen = self._lines.written_count
            await anyio.sleep(HEARTBEAT_S)

    async def _watch_signals(self, everything: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                self._exit_status = int(ExitStatus.INTERRUPTED if number == signal.SIGINT else ExitStatus.TERMINATED)
                everything.cancel()
                return


def main(memory_mb: int = DEFAULT_MEMORY_MB) -> NoReturn:
    """Be a worker with a budget of ``memory_mb`` until the parent says otherwise; does not return."""
    open_missing_streams()
    protocol_out = os.dup(1)
    os.dup2(2, 1)
    tasks_in = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    faulthandler.enable()
    tasks = os.fdopen(tasks_in, "rb")  # never closed: a thread may be reading it when the process ends
    status = int(ExitStatus.INTERNAL)
    try:
        status = anyio.run(_Worker(_Lines(protocol_out), tasks, memory_mb).serve, backend="asyncio")
    except Exception as exc:  # noqa: BLE001 (the top of the process)
        traceback.print_exception(exc, file=sys.stderr)
    end_now(status)


def end_now(status: int) -> NoReturn:
    """Flush what Python buffers, then end this process without unwinding native threads."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
