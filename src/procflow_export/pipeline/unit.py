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
from collections import deque
from collections.abc import Callable
from typing import Final

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

from procflow_export.checks.batches import BatchCheck
from procflow_export.destinations import Destination
from procflow_export.destinations.crash import crash_point
from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError
from procflow_export.model.events import UnitEvent, UnitWarning
from procflow_export.model.plan import UnitResult, WorkUnit
from procflow_export.model.settings import DEFAULT_MEMORY_MB
from procflow_export.model.types import decode_columns
from procflow_export.pipeline.handover import Handover
from procflow_export.pipeline.machine import peak_rss_bytes
from procflow_export.pipeline.parts import PartWriter
from procflow_export.planning.memory import max_row_group_bytes
from procflow_export.sources import ChunkRequest, ReadStatistics, Source

MEMORY_WARNING: Final = "MEMORY"
"""Code of warnings about the memory that an export takes."""


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
    handover = Handover(report)
    writer = PartWriter(unit, destination, handover, max_row_group_bytes(unit.format, memory_bytes))
    statistics = ReadStatistics()
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        # Begun for certain: what never began would never tell the thread that nothing comes.
        await group.start(_read, unit, source, handover, statistics, name=f"read {unit.export}[{unit.index}]")
        try:
            await anyio.to_thread.run_sync(writer.write_parts, limiter=encoders)
        except Exception as exc:  # noqa: BLE001 (raised again outside the group, which would wrap it)
            failure = exc
        group.cancel_scope.cancel()
    # A cancellation that reached us through the thread counts as one, not as the thread's failure.
    await anyio.lowlevel.checkpoint_if_cancelled()
    if failure is not None:
        if handover.failure is not None and handover.failure is not failure:
            raise handover.failure from handover.failure.__cause__
        raise failure
    if writer.row_count != handover.row_count:
        raise DataError(
            Code.ROW_COUNT_MISMATCH,
            f"chunk {unit.index} of {unit.export}: {handover.row_count} rows read, {writer.row_count} written",
        )
    return UnitResult(
        index=unit.index,
        parts=tuple(writer.parts),
        row_count=writer.row_count,
        schema_fingerprint=writer.schema_fingerprint,
        elapsed_s=time.monotonic() - began,
        peak_rss_bytes=peak_rss_bytes(),
        longest_statement_s=statistics.longest_statement_s,
        longest_transaction_s=statistics.longest_transaction_s,
        changed_values=dict(statistics.changed_values),
    )


async def _read(
    unit: WorkUnit,
    source: Source,
    handover: Handover,
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


async def _read_batches(unit: WorkUnit, source: Source, handover: Handover, statistics: ReadStatistics) -> None:
    limits = unit.source.tuning.limits()
    throttle_s = limits.throttle_ms / 1_000
    request = ChunkRequest(
        selection=unit.selection,
        columns=decode_columns(unit.columns),
        chunk=unit.chunk,
        batch_rows=unit.batch_rows,
        batch_bytes=limits.batch_bytes,
        order=unit.order,
        row_key=unit.row_key,
        snapshot=unit.snapshot,
    )

    def warn(message: str) -> None:
        handover.report(UnitWarning(export=unit.export, chunk=unit.index, code=MEMORY_WARNING, message=message))

    check = BatchCheck(limits, request.columns, key=unit.row_key, warn=warn)
    async with source.read_chunk(request, statistics) as batches:
        async for batch in batches:
            crash_point("unit.batch_read")
            # In proportion to the rows: small batches must not be paid for like full ones.
            pause_s = throttle_s * min(1.0, batch.num_rows / unit.batch_rows)
            pieces = deque(check.checked(batch))
            del batch  # the encoder may be done with it long before the next one comes
            while pieces:
                handover.put(pieces.popleft())
                await handover.wait_room()
            if pause_s:
                await anyio.sleep(pause_s)
