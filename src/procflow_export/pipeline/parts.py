"""The batches of a unit become parts at its destination: the thread's side of a unit.

Owns where a part ends, and that one is complete before it shows.  Everything here blocks and runs in one thread call.

No variable keeps a batch beyond its time: with rows of 100 MiB that counts.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import anyio.from_thread

from procflow_export.checks.values import ValueChecksums
from procflow_export.destinations import Destination, PartSink
from procflow_export.formats import PartEncoder, file_suffix, open_encoder
from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError
from procflow_export.model.events import UnitProgress
from procflow_export.model.plan import PartRecord, WorkUnit
from procflow_export.model.types import arrow_schema, decode_columns, schema_fingerprint
from procflow_export.pipeline.handover import Handover
from procflow_export.planning.names import part_key

if TYPE_CHECKING:
    import pyarrow as pa

ROTATION_ROWS: Final = 4096
"""How often the size of a part with a limit is looked at."""


class PartWriter:
    """Encodes the batches of one unit and stores the parts."""

    def __init__(self, unit: WorkUnit, destination: Destination, handover: Handover, max_row_group_bytes: int) -> None:
        self._unit = unit
        self._destination = destination
        self._handover = handover
        columns = decode_columns(unit.columns)
        self._schema = arrow_schema(columns)
        self._max_row_group_bytes = max_row_group_bytes
        self._large_columns: frozenset[int] = frozenset()
        self._suffix = file_suffix(unit.format)
        self._rest: pa.RecordBatch | None = None
        self._has_ended = False
        self.row_count = 0
        self._stored_bytes = 0
        self.parts: list[PartRecord] = []
        self.schema_fingerprint = schema_fingerprint(columns)

    def write_parts(self) -> None:
        """Write every part of the unit."""
        self._refill(0)
        if self._rest is None and self._unit.writes_empty:
            self._write_part()
        while self._rest is not None:
            self._write_part()
            self._refill(0)

    def _write_part(self) -> None:
        """Write one part, which begins with the rest of the one before."""
        key = part_key(self._unit.part_stem, len(self.parts), self._suffix)
        values = ValueChecksums(self._schema)
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
            while self._rest is not None and (room := self._room_in(encoder)):
                piece = self._cut(room)
                values.add(piece)
                encoder.write(piece)
                self.row_count += piece.num_rows
                del piece
                if not encoder.is_full:
                    self._refill(sink.size_bytes)
            written = encoder.finish()
            self._large_columns = encoder.large_columns
            if written != values.row_count:
                raise DataError(Code.ROW_COUNT_MISMATCH, f"{values.row_count} rows went into {key}, {written} came out")
        stored = sink.stored
        self._stored_bytes += stored.size_bytes
        self.parts.append(
            PartRecord(
                key=stored.key,
                row_count=values.row_count,
                size_bytes=stored.size_bytes,
                checksum=stored.checksum,
                chunk=self._unit.index,
                bounds=self._unit.chunk,
                values=values.text,
            )
        )

    def _room_in(self, encoder: PartEncoder) -> int:
        """Return how many rows of the batch at hand go into the part next; 0 ends it.

        Where parts have a size limit, it is looked at after every ``ROTATION_ROWS`` rows of a part: so parts end at the
        same rows however the source cut its batches.
        """
        assert self._rest is not None, "there is a batch to look at"
        most = self._destination.max_part_bytes
        if most is not None and encoder.row_count and encoder.part_bytes_estimate >= most:
            return 0
        limit = self._unit.format.max_file_bytes
        past_mark = encoder.row_count % ROTATION_ROWS
        if limit is not None and encoder.row_count and not past_mark and encoder.part_bytes_estimate >= limit:
            return 0
        room = encoder.room_for(self._rest)
        return room if limit is None else min(room, ROTATION_ROWS - past_mark)

    def _cut(self, row_count: int) -> pa.RecordBatch:
        """Return the leading rows of the batch at hand, and keep the rest of it."""
        batch, self._rest = self._rest, None
        assert batch is not None, "there is a batch to cut"
        if row_count == batch.num_rows:
            return batch
        self._rest = batch.slice(row_count)
        return batch.slice(0, row_count)

    def _refill(self, open_bytes: int) -> None:
        """Wait for the next batch, unless there is a rest of the last one; None comes after the last."""
        if self._rest is not None or self._has_ended:
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
        self._has_ended = self._rest is None
