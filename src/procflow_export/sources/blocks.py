"""Wire bytes of a result become Arrow batches: the part that all byte-stream sources share.

Owns the contract of a block decoder, how large a block is, and the loop that takes pieces from a bounded stream, puts
them together to blocks of whole rows, and decodes each block in a worker thread.  Must not know a wire format: that is
the decoder's.

What is in memory at a time: what the stream holds, one block, and the batch that is made of it.  Nothing here keeps a
block or a batch while the caller works on one: with rows of 100 MiB that counts.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Final, Protocol

import anyio
import anyio.to_thread
import pyarrow as pa

from procflow_export.sources.port import BLOCK_BYTES, KIB, MIB
from procflow_export.sources.turns import LARGE_BYTES

DECODER_THREADS: Final = 1
"""Of a source: decoders hold the interpreter most of the time, so two of them take longer than one after the other
(measured: 5 % of the time and of the processor's, with two readers)."""
MIN_BLOCK_BYTES: Final = 64 * KIB
BLOCK_BYTES_PER_COLUMN: Final = 8 * KIB
"""A decoder works column by column: a block of a thousand columns must not be a handful of rows."""
MAX_BLOCK_BYTES: Final = 4 * MIB
MAX_BATCH_BYTES: Final = 8 * MIB


class BlockDecoder(Protocol):
    """Turns blocks of whole rows into batches.  Decoders of one wire format are peers: equal blocks, equal batches.

    ``cut`` and ``decode`` are called in turn, never at once; ``decode`` from a worker thread.

    Attributes:
        changed_values: How many values a column's ``on_invalid`` changed so far, by column name.
    """

    changed_values: Counter[str]

    def cut(self, data: bytes | bytearray) -> int:
        """Return the length of the longest prefix of ``data`` that holds whole rows only; 0 if there is none."""
        ...

    def decode(self, block: bytes) -> pa.RecordBatch:
        """Return the rows of a block.

        Raises:
            ValueRefusedError: If a value does not fit its column.
            SourceError: If the block is not what the protocol says.
        """
        ...


class BlockSize:
    """How many wire bytes make a block: as many as give a batch of the wanted size, as far as the last blocks tell."""

    def __init__(self, batch_bytes: int) -> None:
        """Aim at batches of ``batch_bytes`` decoded bytes."""
        self._batch_bytes = min(batch_bytes, MAX_BATCH_BYTES)
        self.bytes = min(BLOCK_BYTES, self._batch_bytes)

    def note(self, wire_bytes: int, batch: pa.RecordBatch) -> None:
        """Take in what a block became."""
        most = min(max(BLOCK_BYTES, BLOCK_BYTES_PER_COLUMN * batch.num_columns), MAX_BLOCK_BYTES)
        fitting = wire_bytes * self._batch_bytes // max(1, batch.nbytes)
        self.bytes = max(MIN_BLOCK_BYTES, min(most, fitting))


class PendingBytes:
    """Bytes that were not decoded yet, in the pieces in which they came, most of which end with a row."""

    def __init__(self, decoder: BlockDecoder, size: BlockSize) -> None:
        self._decoder = decoder
        self._size = size
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._rowless_bytes = 0

    def __len__(self) -> int:
        return self._bytes

    def add(self, piece: bytes) -> None:
        """Add what came next."""
        self._pieces.append(piece)
        self._bytes += len(piece)

    @property
    def has_block(self) -> bool:
        """Whether there are enough bytes to look for a block."""
        # Where a row is longer than a block, the next look needs twice as much.
        return self._is_before_large() or self._bytes >= max(self._size.bytes, 2 * self._rowless_bytes)

    def take_block(self) -> bytes:
        """Return the next whole rows, or nothing if what is there ends in the first one.

        What comes before a large piece is a block of its own, so that the piece is not copied once more.
        """
        count = len(self._pieces) - 1 if self._is_before_large() else len(self._pieces)
        data = b"".join(self._pieces[:count])
        length = self._decoder.cut(data)
        rest = data[length:]
        self._pieces[:count] = [rest] if rest else []
        self._bytes -= length
        self._rowless_bytes = 0 if length else len(data)
        return data if not rest else data[:length]

    def take_all(self) -> bytes:
        """Return everything; nothing is left."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._bytes = 0
        return data

    def _is_before_large(self) -> bool:
        return len(self._pieces) > 1 and not self._rowless_bytes and len(self._pieces[-1]) >= LARGE_BYTES


async def decoded_batches(
    chunks: AsyncIterable[bytes],
    decoder: BlockDecoder,
    *,
    batch_rows: int,
    batch_bytes: int = MAX_BATCH_BYTES,
    limiter: anyio.CapacityLimiter,
) -> AsyncGenerator[pa.RecordBatch, None]:
    """Yield the rows of a byte stream in batches of at most ``batch_rows`` rows; none is empty.

    A batch has about ``batch_bytes`` decoded bytes at most, unless a single row has more.

    Raises:
        ValueRefusedError: If a value does not fit its column.
        SourceError: If the stream ends inside a row.
    """
    size = BlockSize(batch_bytes)
    pending = PendingBytes(decoder, size)

    async def decode(block: bytes) -> deque[pa.RecordBatch]:
        if not block:
            return deque()
        batch = await anyio.to_thread.run_sync(decoder.decode, block, limiter=limiter)
        size.note(len(block), batch)
        return deque(batch.slice(start, batch_rows) for start in range(0, batch.num_rows, batch_rows))

    # No variable keeps a piece, block or batch beyond its time.
    async for piece in chunks:
        pending.add(piece)
        del piece
        while pending.has_block:
            batches = await decode(pending.take_block())
            while batches:
                yield batches.popleft()
    if pending:
        batches = await decode(pending.take_all())
        while batches:
            yield batches.popleft()
