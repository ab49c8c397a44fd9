"""One work unit: a chunk of a table becomes zero, one or more parts.

A task reads batches from the source; a worker thread encodes them and stores the parts; a short hand-over lies between
the two, so that reading, encoding and storing overlap while only a few batches exist.  A part is opened, written and
closed in that one thread call, so cancelling the task never tears one: the thread sees the cancellation at its next
batch, leaves the part by an exception, and the destination shows nothing of it.  What tells it is the end of the
hand-over without its last item.

The hand-over is bounded by bytes.  After a batch that is larger than all of it the reader goes on only when the encoder
is done with that batch: rows of 100 MiB go through one at a time.

Rejected: one thread call a batch, because file handles would cross threads and a cancelled call between two of them
would have to be undone; and a queue of whole chunks, because its memory has no bound.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio
import anyio.abc
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from procflow_export.checks.batches import BatchCheck
from procflow_export.destinations import Destination, PartSink
from procflow_export.formats import PartEncoder, file_suffix, open_encoder
from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError
from procflow_export.model.events import UnitEvent, UnitProgress, UnitWarning
from procflow_export.model.plan import PartRecord, UnitResult, WorkUnit
from procflow_export.model.settings import DEFAULT_MEMORY_MB
from procflow_export.model.types import arrow_schema, decode_columns, schema_fingerprint
from procflow_export.pipeline.machine import peak_rss_bytes
from procflow_export.planning.memory import max_row_group_bytes
from procflow_export.planning.names import part_key
from procflow_export.sources import ChunkRequest, ReadStatistics, Source

if TYPE_CHECKING:
    import pyarrow as pa

HANDOVER_BYTES: Final = 4 << 20
"""Bytes of batches that wait between reader and encoder, beside the batch that each of them works on."""

MEMORY_WARNING: Final = "MEMORY"
"""Code of warnings about the memory that an export takes."""

ROTATION_ROWS: Final = 4096
"""How often the size of a part with a limit is looked at."""


async def run_unit(
    unit: WorkUnit,
    *,
    source: Source,
    destination: Destination,
    encoders: anyio.CapacityLimiter,
    report: Callable[[UnitEvent], None],
    memory_bytes: int = DEFAULT_MEMORY_MB << 20,
) -> UnitResult:
    """Do one work unit and return what it left behind.

    Cancelled or failed, it leaves no part that it did not finish; parts of the same unit that were finished before stay,
    and the next attempt replaces them.

    Args:
        unit: What to do.
        source: The unit's source, open.
        destination: The unit's destination, open.
        encoders: Bounds the threads that encode and store.
        report: Is told of every batch, on the event loop's thread.
        memory_bytes: Budget of the process: it bounds what waits for a row group.

    Raises:
        ExportError: If the source, the format or the destination failed.
    """
    began = time.monotonic()
    handover = _Handover(report)
    work = _PartWork(unit, destination, handover, max_row_group_bytes(unit.format, memory_bytes))
    statistics = ReadStatistics()
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        # Begun for certain: what never began would never tell the thread that nothing comes.
        await group.start(_read, unit, source, handover, statistics, name=f"read {unit.export}[{unit.index}]")
        try:
            await anyio.to_thread.run_sync(work.write_parts, limiter=encoders)
        except Exception as exc:  # noqa: BLE001 (raised again outside the group, which would wrap it)
            failure = exc
        group.cancel_scope.cancel()
    # A cancellation that reached us through the thread counts as one, not as the thread's failure.
    await anyio.lowlevel.checkpoint_if_cancelled()
    if failure is not None:
        if handover.failure is not None and handover.failure is not failure:
            raise handover.failure from handover.failure.__cause__
        raise failure
    if work.row_count != handover.row_count:
        raise DataError(
            Code.ROW_COUNT_MISMATCH,
            f"chunk {unit.index} of {unit.export}: {handover.row_count} rows read, {work.row_count} written",
        )
    return UnitResult(
        index=unit.index,
        parts=tuple(work.parts),
        row_count=work.row_count,
        schema_fingerprint=work.schema_fingerprint,
        elapsed_s=time.monotonic() - began,
        peak_rss_bytes=peak_rss_bytes(),
        longest_statement_s=statistics.longest_statement_s,
        longest_transaction_s=statistics.longest_transaction_s,
        changed_values=dict(statistics.changed_values),
    )


async def _read(
    unit: WorkUnit,
    source: Source,
    handover: _Handover,
    statistics: ReadStatistics,
    *,
    task_status: anyio.abc.TaskStatus[None],
) -> None:
    """Move the chunk's batches into the hand-over; a failure goes the same way."""
    try:
        task_status.started()
        await _read_batches(unit, source, handover, statistics)
    except Exception as exc:  # noqa: BLE001 (the encoder's side raises it)
        handover.end(exc)
    else:
        handover.end(None)
    finally:
        # Also when this task is cancelled: the thread must not wait for a batch that nobody will send.  Its own call into
        # the loop is not always reached by the cancellation (anyio delivers it to the tasks that a scope has at that time).
        handover.close_sending()
        if not unit.keeps_connection:
            # It counts until it is closed (see ``pipeline.connections``).
            with anyio.CancelScope(shield=True):
                await source.close_idle()


async def _read_batches(unit: WorkUnit, source: Source, handover: _Handover, statistics: ReadStatistics) -> None:
    limits = unit.source.tuning.limits()
    throttle_s = limits.throttle_ms / 1_000
    request = ChunkRequest(
        selection=unit.selection,
        columns=decode_columns(unit.columns),
        chunk=unit.chunk,
        batch_rows=unit.batch_rows,
        batch_bytes=limits.batch_bytes,
        snapshot=unit.snapshot,
    )

    def warn(message: str) -> None:
        handover.report(UnitWarning(export=unit.export, chunk=unit.index, code=MEMORY_WARNING, message=message))

    check = BatchCheck(limits, request.columns, key=unit.key, warn=warn)
    async with source.read_chunk(request, statistics) as batches:
        async for batch in batches:
            # In proportion to the rows: small batches must not be paid for like full ones.
            pause_s = throttle_s * min(1.0, batch.num_rows / unit.batch_rows)
            pieces = deque(check.checked(batch))
            del batch  # the encoder may be done with it long before the next one comes
            while pieces:
                handover.put(pieces.popleft())
                await handover.wait_room()
            if pause_s:
                await anyio.sleep(pause_s)


@dataclass(frozen=True, slots=True)
class _End:
    """The last item of a hand-over: without it, an end is an abandoned read, never the end of the rows."""

    failure: Exception | None


class _AbandonedError(Exception):
    """The reading task was cancelled: the thread gives its part up."""


@dataclass(slots=True, eq=False)
class _Handover:
    """Batches on their way from the reading task to the encoding thread; but for ``given`` only the loop's thread touches it."""

    report: Callable[[UnitEvent], None]
    row_count: int = 0
    failure: Exception | None = None
    given: pa.RecordBatch | None = None
    _items: deque[pa.RecordBatch | _End] = field(default_factory=deque)
    _waiting_bytes: int = 0
    _is_last_large: bool = False
    _is_encoder_idle: bool = False
    _is_closed: bool = False
    _changed: anyio.Event = field(default_factory=anyio.Event)

    def put(self, batch: pa.RecordBatch) -> None:
        size_bytes = batch.nbytes
        self.row_count += batch.num_rows
        self._waiting_bytes += size_bytes
        self._is_last_large = size_bytes > HANDOVER_BYTES
        self._append(batch)

    def end(self, failure: Exception | None) -> None:
        self.failure = failure
        self._append(_End(failure))

    async def wait_room(self) -> None:
        """Return when another batch may be read."""
        while not self._has_room():
            await self._changed.wait()

    def close_sending(self) -> None:
        self._is_closed = True
        self._notify()

    async def give(self, done: UnitProgress) -> None:
        """Have the next batch, or None after the last, in ``given``; called through the loop by the encoding thread.

        It is no result: what a call through the loop returns stays in a cycle of futures until Python looks for such.
        """
        self.report(done)
        self._is_encoder_idle = not self._items
        self._notify()
        while not self._items:
            if self._is_closed:
                raise _AbandonedError
            await self._changed.wait()
        item = self._items.popleft()
        if isinstance(item, _End):
            if item.failure is not None:
                raise item.failure
            return
        self._waiting_bytes -= item.nbytes
        self.given = item
        self._notify()

    def _has_room(self) -> bool:
        return self._is_encoder_idle if self._is_last_large else self._waiting_bytes < HANDOVER_BYTES

    def _append(self, item: pa.RecordBatch | _End) -> None:
        self._is_encoder_idle = False
        self._items.append(item)
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


class _PartWork:
    """The thread's side of a unit: encodes batches, rotates parts, stores them.  Everything here blocks."""

    def __init__(self, unit: WorkUnit, destination: Destination, handover: _Handover, max_row_group_bytes: int) -> None:
        self._unit = unit
        self._destination = destination
        self._handover = handover
        columns = decode_columns(unit.columns)
        self._schema = arrow_schema(columns)
        self._max_row_group_bytes = max_row_group_bytes
        self._large_columns: frozenset[int] = frozenset()
        self._suffix = file_suffix(unit.format)
        self._rest: pa.RecordBatch | None = None
        self.row_count = 0
        self._stored_bytes = 0
        self.parts: list[PartRecord] = []
        self.schema_fingerprint = schema_fingerprint(columns)

    def write_parts(self) -> None:
        """Write every part of the unit."""
        self._refill(0)
        if self._rest is not None or self._unit.writes_empty:
            self._write_part()
        while self._rest is not None:
            self._write_part()

    def _write_part(self) -> None:
        """Write one part, which begins with the rest of the one before."""
        key = part_key(self._unit.part_stem, len(self.parts), self._suffix)
        row_count = 0
        # W1, W2: the part shows, and may be recorded, only after a clean exit of the destination's block.
        with ExitStack() as closing:
            sink: PartSink = closing.enter_context(self._destination.open_part(key))
            encoder: PartEncoder = closing.enter_context(
                open_encoder(
                    self._unit.format,
                    self._schema,
                    sink,
                    max_row_group_bytes=self._max_row_group_bytes,
                    large_columns=self._large_columns,
                )
            )
            while self._rest is not None and not self._is_full(encoder) and (fitting := encoder.room_for(self._rest)):
                piece = self._cut(row_count, fitting)
                encoder.write(piece)
                row_count += piece.num_rows
                self.row_count += piece.num_rows
                del piece  # written: a large one must not stay while the next one is waited for
                self._refill(sink.size_bytes)
            written = encoder.finish()
            self._large_columns = encoder.large_columns
            if written != row_count:
                raise DataError(Code.ROW_COUNT_MISMATCH, f"{row_count} rows went into {key}, {written} came out")
        stored = sink.stored
        self._stored_bytes += stored.size_bytes
        self.parts.append(
            PartRecord(
                key=stored.key,
                row_count=row_count,
                size_bytes=stored.size_bytes,
                checksum=stored.checksum,
                chunk=self._unit.index,
            )
        )

    def _cut(self, row_count: int, fitting: int) -> pa.RecordBatch:
        """Return the piece to write next, and keep the rest of its batch.

        Where parts have a size limit, it is looked at after every ``ROTATION_ROWS`` rows of a part: so parts end at the
        same rows however the source cut its batches.
        """
        if self._unit.format.max_file_bytes is not None:
            fitting = min(fitting, ROTATION_ROWS - row_count % ROTATION_ROWS)
        batch, self._rest = self._rest, None
        assert batch is not None, "there is a batch to cut"
        if fitting == batch.num_rows:
            return batch
        self._rest = batch.slice(fitting)
        return batch.slice(0, fitting)

    def _is_full(self, encoder: PartEncoder) -> bool:
        limit = self._unit.format.max_file_bytes
        is_checkpoint = encoder.row_count > 0 and encoder.row_count % ROTATION_ROWS == 0
        return limit is not None and is_checkpoint and encoder.part_bytes_estimate >= limit

    def _refill(self, open_bytes: int) -> None:
        """Wait for the next batch, unless there is a rest of the last one; None comes after the last."""
        if self._rest is not None:
            return
        done = UnitProgress(
            export=self._unit.export,
            chunk=self._unit.index,
            row_count=self.row_count,
            size_bytes=self._stored_bytes + open_bytes,
        )
        handover = self._handover
        anyio.from_thread.run(handover.give, done)
        self._rest, handover.given = handover.given, None
