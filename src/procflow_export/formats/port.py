"""What a file format must do: turn Arrow batches of one part into bytes, and nothing else.

Owns the ``PartEncoder`` contract.  Must not know where the bytes go, which source the rows came from, or that there is
more than one part: naming, rotation and publishing belong to the pipeline and to ``destinations``.

Everything here blocks and uses the processor: call it from a worker thread, one thread at a time per encoder.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import pyarrow as pa


class ByteSink(Protocol):
    """Where an encoder puts its bytes: strictly forward, never read, never sought, never closed by the encoder."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Take all of ``data`` and return its length in bytes."""
        ...


@runtime_checkable
class PartEncoder(Protocol):
    """One part being written.  A context manager: leaving it without ``finish()`` abandons the part.

    Equal rows under equal options give equal bytes, however the rows were cut into batches (E-24); the promise holds
    within one version of pyarrow.
    """

    @property
    def row_count(self) -> int:
        """Rows taken by ``write()`` so far."""
        ...

    @property
    def part_bytes_estimate(self) -> int:
        """About how many bytes the part would have if it were finished now: what rotation compares with a limit."""
        ...

    @property
    def large_columns(self) -> frozenset[int]:
        """Positions of the columns that had a value too large for the ordinary way; the next part is told of them."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether this part takes no more rows; it should be finished now, because it holds memory."""
        ...

    def room_for(self, batch: pa.RecordBatch) -> int:
        """Return how many of the leading rows of ``batch`` this part can take: fewer than all end it.

        A part that has no rows yet takes one at least.
        """
        ...

    def write(self, batch: pa.RecordBatch) -> None:
        """Add the rows of ``batch``; memory stays bounded by one row group (Parquet) or one block (CSV).

        Raises:
            ExportError: When a value cannot be written in this format, or a NOT NULL column holds a null.
        """
        ...

    def finish(self) -> int:
        """Write what is pending and the footer, and return the number of rows in the part.

        The sink is not closed.  After this only ``row_count``, ``part_bytes_estimate`` and ``close()`` are allowed.
        """
        ...

    def close(self) -> None:
        """Release memory.  Idempotent; before ``finish()`` it abandons the part and writes nothing more."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
