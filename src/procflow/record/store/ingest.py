"""From the file of a record to rows.

Owns the order of the steps: read, then fold and commit in one transaction with the place that was reached, and judge at the end.
Must not know what events do to rows, nor SQL.

Problem: an ingester may be killed at any moment, two of them may run at once, and the file may still grow.  So what is known lies in
the database alone: a batch of events, the rows that they changed and the position behind them are committed together, and only if the
position is still the one that the batch was read from.  Whoever finds another one there was overtaken, throws its batch away, and goes on
from there.  Reading needs no lock, so the lock on the database is held for one batch of folding.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from procflow.record.fold.fold import fold
from procflow.record.reading.files import RecordFile
from procflow.record.reading.liveness import writer_by_pid
from procflow.record.reading.reader import Line, Position, RecordReader
from procflow.record.reading.states import RecordState, Writer, record_state
from procflow.record.store.database import transaction
from procflow.record.store.endings import recover, reopen
from procflow.record.store.identity import Identity, check_same, identity_of
from procflow.record.store.lines import lines_before, put_lines
from procflow.record.store.reports import IngestReport
from procflow.record.store.rows import StoredRows
from procflow.record.store.streams import OVER, Stream, put_stream, stream_of
from procflow.record.text import readable

BATCH_EVENTS: Final = 1000
"""The most events of one transaction."""

BATCH_BYTES: Final = 4 << 20
"""A batch ends with the line that reaches this."""


class Ingest:
    """Brings the rows of one record up to its file, as often as is asked for.

    Args:
        connection: A database that is open for writing.
        file: The record.
        batch_events: The most events of one transaction.
    """

    def __init__(self, connection: sqlite3.Connection, file: RecordFile, *, batch_events: int = BATCH_EVENTS) -> None:
        self._connection: Final = connection
        self._file: Final = file
        self._path: Final = readable(os.path.abspath(file.path))
        self._batch_events: Final = batch_events
        self._identity: Identity | None = None
        self._stream: Stream | None = None  # as it was committed last; None before the first event
        self._reader = RecordReader(file.path)

    def run(self) -> IngestReport:
        """Ingest everything up to the end of the file as it is now, and judge the record.

        Raises:
            UnreadableRecordError: If it is no record, if another release is needed, or if it is not the file whose beginning is in
                the database.
        """
        writer = self._file.writer()
        count = self.catch_up()
        if writer is Writer.UNKNOWN and not self._reader.is_finished:
            # The header names the writer, so it can be asked only now; what it wrote meanwhile is read after it was asked.
            writer = writer_by_pid(self._identity.header if self._identity is not None else None)
            count += self.catch_up()
        while not self._settle(record_state(is_finished=self._reader.is_finished, writer=writer)):
            count += self.catch_up()
        state = record_state(is_finished=self._reader.is_finished, writer=writer)
        return IngestReport(
            path=self._file.path,
            run_id=self._identity.run_id if self._identity is not None and self._stream is not None else None,
            event_count=count,
            state=self._stream.state or state if self._stream is not None else state,
            health=self._reader.health,
        )

    def catch_up(self) -> int:
        """Ingest the events up to the end of the file as it is now, and judge nothing; return how many were new.

        Raises:
            UnreadableRecordError: As ``run()``.
        """
        if self._identity is None:
            self._begin()
        count = 0
        is_behind = True
        while is_behind:
            is_behind = False
            for batch in self._batches():
                added = self._commit(batch)
                if added is None:
                    is_behind = self._begin()
                    break
                count += added
        return count

    def _begin(self) -> bool:
        """Take up the record where the database is with it; return whether it has a first line."""
        self._identity = self._identity or identity_of(self._file)
        if self._identity is None:
            return False
        run_id = self._identity.run_id
        self._stream = stream_of(self._connection, run_id)
        if self._stream is not None:
            check_same(self._connection, self._file, self._identity, self._stream)
        position = self._stream.position if self._stream is not None else Position()
        earlier = partial(lines_before, self._connection, run_id, position.offset)
        self._reader = RecordReader(self._file.path, position=position, earlier=earlier)
        return True

    def _batches(self) -> Iterator[Sequence[Line]]:
        """Yield what is new in the file; the last batch may be empty, but the reader may have moved."""
        batch: list[Line] = []
        size = 0
        for block in self._file.blocks(self._reader.next_offset):
            for line in self._reader.feed(block):
                batch.append(line)
                size += len(line.raw)
                if len(batch) >= self._batch_events or size >= BATCH_BYTES:
                    yield batch
                    batch, size = [], 0
        self._reader.check_is_record()
        yield batch

    def _commit(self, batch: Sequence[Line]) -> int | None:
        """Store ``batch`` and the position behind it; return how many events were new, ``None`` if somebody else was faster."""
        position = self._reader.position
        if not self._reader.has_events or (self._stream is not None and position == self._stream.position):
            return 0
        if self._identity is None:
            return None  # its first line has become whole since it was looked for
        run_id = self._identity.run_id
        with transaction(self._connection):
            if not self._is_current():
                return None
            rows = StoredRows(self._connection, run_id)
            if self._stream is None:
                # Rows without a stream: somebody took the stream away so that all is read anew.
                self._connection.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
            elif self._stream.state in OVER:
                reopen(rows)
            rows.expect(line.event for line in batch)
            for line in batch:
                fold(rows, line.event)
            rows.flush()
            count = put_lines(self._connection, run_id, batch)
            stream = Stream(
                path=self._path,
                file_id=self._file.file_id,
                head_sha256=self._identity.head_sha256,
                position=position,
                torn_bytes=0,
                state=None,
            )
            put_stream(self._connection, run_id, stream)
        self._stream = stream
        return count

    def _settle(self, state: RecordState) -> bool:
        """Store what the record is, with endings for what is open if it is over; return ``False`` if somebody has read on.

        Once it was over it stays so until there is more of it: a judgement that says it runs was made before.
        """
        if self._stream is None or self._identity is None:
            return True
        if self._stream.state in OVER:
            state = self._stream.state
        torn_bytes = self._reader.health.torn_bytes
        settled = replace(self._stream, path=self._path, file_id=self._file.file_id, state=state, torn_bytes=torn_bytes)
        if settled == self._stream:
            return True
        with transaction(self._connection):
            if not self._is_current():
                is_settled = False
            else:
                if state in OVER:
                    recover(StoredRows(self._connection, self._identity.run_id))
                put_stream(self._connection, self._identity.run_id, settled)
                self._stream, is_settled = settled, True
        return is_settled or not self._begin()

    def _is_current(self) -> bool:
        """Whether the database is where this ingest believes it to be."""
        assert self._identity is not None, "the reader has read something"
        return stream_of(self._connection, self._identity.run_id) == self._stream
