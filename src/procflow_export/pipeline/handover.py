"""Batches on their way from the task that reads them to the thread that encodes them.

Owns how many may wait there: it is bounded by bytes, and after a batch that is larger than all of it the reader goes on only
when the encoder is done with that batch.  So rows of 100 MiB go through one at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from procflow_export.model.events import UnitEvent, UnitProgress

if TYPE_CHECKING:
    import pyarrow as pa

HANDOVER_BYTES: Final = 8 << 20
"""Bytes of batches that wait between reader and encoder, beside the batch that each of them works on.

An encoder takes nothing while it encodes a row group: so much is read meanwhile, about the share of a row group by which the
server is ahead then."""


@dataclass(frozen=True, slots=True)
class _End:
    """The last item of a hand-over: without it, an end is an abandoned read, never the end of the rows."""

    failure: Exception | None


class AbandonedError(Exception):
    """The reading task was cancelled: the thread gives its part up."""


@dataclass(slots=True, eq=False)
class Handover:
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
        """Add a batch, whether there is room or not."""
        size_bytes = batch.nbytes
        self.row_count += batch.num_rows
        self._waiting_bytes += size_bytes
        self._is_last_large = size_bytes > HANDOVER_BYTES
        self._append(batch)

    def end(self, failure: Exception | None) -> None:
        """Say that no batch follows, or why."""
        self.failure = failure
        self._append(_End(failure))

    async def wait_room(self) -> None:
        """Return when another batch may be read."""
        while not self._has_room():
            await self._changed.wait()

    def close_sending(self) -> None:
        """Say that nothing follows that was not put: without an end before it, the read was abandoned."""
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
                raise AbandonedError
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
