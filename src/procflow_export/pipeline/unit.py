"""One work unit: a chunk of a table becomes zero, one or more parts.

A task reads batches from the source; a worker thread encodes them and stores the parts; a short hand-over lies between
the two, so that reading, encoding and storing overlap while only a few batches exist.  A part is opened, written and
closed in that one thread call, so cancelling the task never tears one: the thread sees the cancellation at its next
batch, leaves the part by an exception, and the destination shows nothing of it.  What tells it is the end of the
hand-over without its last item.

Rejected: one thread call a batch, because file handles would cross threads and a cancelled call between two of them
would have to be undone; and a queue of whole chunks, because its memory has no bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from procflow_export.destinations import Destination, PartSink
from procflow_export.formats import PartEncoder, file_suffix, open_encoder
from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError
from procflow_export.model.events import UnitEvent, UnitProgress
from procflow_export.model.plan import PartRecord, UnitResult, WorkUnit
from procflow_export.model.types import arrow_schema, decode_columns, schema_fingerprint
from procflow_export.pipeline.machine import peak_rss_bytes
from procflow_export.planning.names import part_key
from procflow_export.sources import ChunkRequest, ReadStatistics, Source

if TYPE_CHECKING:
    import pyarrow as pa
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

HANDOVER_BATCHES: Final = 1
"""Batches that wait between reader and encoder, beside the one each of them works on."""

ROTATION_ROWS: Final = 4096
"""How often the size of a part with a limit is looked at."""


async def run_unit(
    unit: WorkUnit,
    *,
    source: Source,
    destination: Destination,
    encoders: anyio.CapacityLimiter,
    report: Callable[[UnitEvent], None],
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

    Raises:
        ExportError: If the source, the format or the destination failed.
    """
    began = time.monotonic()
    handover = _Handover(unit, report)
    statistics = ReadStatistics()
    work = _PartWork(unit, destination, handover)
    failure: Exception | None = None
    with handover:
        async with anyio.create_task_group() as group:
            group.start_soon(_read, unit, source, handover, statistics, name=f"read {unit.export}[{unit.index}]")
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


async def _read(unit: WorkUnit, source: Source, handover: _Handover, statistics: ReadStatistics) -> None:
    """Move the chunk's batches into the hand-over; a failure goes the same way."""
    throttle_s = unit.source.tuning.limits().throttle_ms / 1_000
    request = ChunkRequest(
        selection=unit.selection,
        columns=decode_columns(unit.columns),
        chunk=unit.chunk,
        batch_rows=unit.batch_rows,
        snapshot=unit.snapshot,
    )
    try:
        async with source.read_chunk(request, statistics) as batches:
            async for batch in batches:
                await handover.send(batch)
                if throttle_s:
                    # In proportion to the rows: small batches must not be paid for like full ones.
                    await anyio.sleep(throttle_s * min(1.0, batch.num_rows / unit.batch_rows))
    except Exception as exc:  # noqa: BLE001 (the encoder's side raises it)
        await handover.end(exc)
    else:
        await handover.end(None)
    finally:
        # Also when this task is cancelled: the thread must not wait for a batch that nobody will send.  Its own call into
        # the loop is not always reached by the cancellation (anyio delivers it to the tasks that a scope has at that time).
        handover.close_sending()
        if not unit.keeps_connection:
            # It counts until it is closed (see ``pipeline.connections``).
            with anyio.CancelScope(shield=True):
                await source.close_idle()


@dataclass(frozen=True, slots=True)
class _End:
    """The last item of a hand-over: without it, an end of the stream is an abandoned read, never the end of the rows."""

    failure: Exception | None


class _AbandonedError(Exception):
    """The reading task was cancelled: the thread gives its part up."""


@dataclass(slots=True, eq=False)
class _Handover:
    """Batches on their way from the reading task to the encoding thread."""

    unit: WorkUnit
    report: Callable[[UnitEvent], None]
    row_count: int = 0
    failure: Exception | None = None
    _send: MemoryObjectSendStream[pa.RecordBatch | _End] = field(init=False)
    _receive: MemoryObjectReceiveStream[pa.RecordBatch | _End] = field(init=False)

    def __post_init__(self) -> None:
        self._send, self._receive = anyio.create_memory_object_stream["pa.RecordBatch | _End"](HANDOVER_BATCHES)

    def close_sending(self) -> None:
        self._send.close()

    async def send(self, batch: pa.RecordBatch) -> None:
        await self._send.send(batch)
        self.row_count += batch.num_rows

    async def end(self, failure: Exception | None) -> None:
        self.failure = failure
        await self._send.send(_End(failure))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close_sending()
        self._receive.close()

    async def next_batch(self, done: UnitProgress) -> pa.RecordBatch | None:
        """Return the next batch, or None after the last; called through the loop by the encoding thread."""
        self.report(done)
        try:
            item = await self._receive.receive()
        except anyio.EndOfStream:
            raise _AbandonedError from None
        if not isinstance(item, _End):
            return item
        if item.failure is not None:
            raise item.failure
        return None


class _PartWork:
    """The thread's side of a unit: encodes batches, rotates parts, stores them.  Everything here blocks."""

    def __init__(self, unit: WorkUnit, destination: Destination, handover: _Handover) -> None:
        self._unit = unit
        self._destination = destination
        self._handover = handover
        columns = decode_columns(unit.columns)
        self._schema = arrow_schema(columns)
        self._suffix = file_suffix(unit.format)
        self.row_count = 0
        self._stored_bytes = 0
        self.parts: list[PartRecord] = []
        self.schema_fingerprint = schema_fingerprint(columns)

    def write_parts(self) -> None:
        """Write every part of the unit."""
        batch = self._next_batch(0)
        if batch is None and not self._unit.writes_empty:
            return
        while True:
            batch, has_more = self._write_part(batch)
            if not has_more:
                return

    def _write_part(self, batch: pa.RecordBatch | None) -> tuple[pa.RecordBatch | None, bool]:
        """Write one part that begins with ``batch``; return the batch that begins the next one, if there is one."""
        key = part_key(self._unit.part_stem, len(self.parts), self._suffix)
        row_count = 0
        # W1, W2: the part shows, and may be recorded, only after a clean exit of the destination's block.
        with ExitStack() as closing:
            sink: PartSink = closing.enter_context(self._destination.open_part(key))
            encoder: PartEncoder = closing.enter_context(open_encoder(self._unit.format, self._schema, sink))
            while batch is not None and not self._is_full(encoder):
                piece, batch = self._cut(batch, row_count)
                encoder.write(piece)
                row_count += piece.num_rows
                self.row_count += piece.num_rows
                if batch is None:
                    batch = self._next_batch(sink.size_bytes)
            written = encoder.finish()
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
        return batch, batch is not None

    def _cut(self, batch: pa.RecordBatch, row_count: int) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
        """Return the piece of ``batch`` to write next, and its rest.

        Where parts have a size limit, it is looked at after every ``ROTATION_ROWS`` rows of a part: so parts end at the
        same rows however the source cut its batches.
        """
        room = ROTATION_ROWS - row_count % ROTATION_ROWS
        if self._unit.format.max_file_bytes is None or batch.num_rows <= room:
            return batch, None
        return batch.slice(0, room), batch.slice(room)

    def _is_full(self, encoder: PartEncoder) -> bool:
        limit = self._unit.format.max_file_bytes
        is_checkpoint = encoder.row_count > 0 and encoder.row_count % ROTATION_ROWS == 0
        return limit is not None and is_checkpoint and encoder.part_bytes_estimate >= limit

    def _next_batch(self, open_bytes: int) -> pa.RecordBatch | None:
        done = UnitProgress(
            export=self._unit.export,
            chunk=self._unit.index,
            row_count=self.row_count,
            size_bytes=self._stored_bytes + open_bytes,
        )
        return anyio.from_thread.run(self._handover.next_batch, done)
