"""Wire bytes of a result become Arrow batches: the part that all byte-stream sources share.

Owns the contract of a block decoder, and the loop that takes bytes from a bounded stream, cuts them into blocks of whole
rows, and decodes each block in a worker thread.  Must not know a wire format: that is the decoder's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Final, Protocol

import anyio
import anyio.to_thread
import pyarrow as pa

from procflow_export.sources.port import BLOCK_BYTES

MAX_DECODER_THREADS: Final = 4


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


async def decoded_batches(
    chunks: AsyncIterable[bytes], decoder: BlockDecoder, *, batch_rows: int, limiter: anyio.CapacityLimiter
) -> AsyncGenerator[pa.RecordBatch, None]:
    """Yield the rows of a byte stream in batches of at most ``batch_rows`` rows; none is empty.

    Holds one block and what the stream hands over at once.

    Raises:
        ValueRefusedError: If a value does not fit its column.
        SourceError: If the stream ends inside a row.
    """
    pending = bytearray()
    wanted = BLOCK_BYTES
    async for chunk in chunks:
        pending += chunk
        if len(pending) < wanted:
            continue
        length = decoder.cut(pending)
        # A row that is longer than a block: look again only when there is twice as much.
        wanted = BLOCK_BYTES if length else 2 * len(pending)
        if length:
            block = bytes(memoryview(pending)[:length])
            del pending[:length]
            for batch in await _decode(decoder, block, batch_rows, limiter):
                yield batch
    if pending:
        for batch in await _decode(decoder, bytes(pending), batch_rows, limiter):
            yield batch


async def _decode(
    decoder: BlockDecoder, block: bytes, batch_rows: int, limiter: anyio.CapacityLimiter
) -> list[pa.RecordBatch]:
    batch = await anyio.to_thread.run_sync(decoder.decode, block, limiter=limiter)
    return [batch.slice(start, batch_rows) for start in range(0, batch.num_rows, batch_rows)]
