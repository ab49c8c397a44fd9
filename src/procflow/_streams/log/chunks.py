"""Arithmetic on runs of chunks.

Owns how chunks are cut and joined.  Must not know who reads them.
"""

from __future__ import annotations

from typing import Final

from procflow.events import Chunk

SMALL_BYTES: Final = 4096
JOINED_BYTES: Final = 64 * 1024


def cut_front(chunk: Chunk, offset: int) -> Chunk:
    """Return the part of ``chunk`` from the absolute ``offset`` on."""
    return chunk if chunk.offset == offset else Chunk(chunk.data[offset - chunk.offset :], offset)


def join_small(chunks: list[Chunk]) -> list[Chunk]:
    """Return the same bytes with runs of tiny neighbours joined to chunks of at most 64 KiB."""
    joined: list[Chunk] = []
    run: list[bytes] = []
    run_offset = run_bytes = 0
    for chunk in chunks:
        size = len(chunk.data)
        if run and (size >= SMALL_BYTES or run_bytes + size > JOINED_BYTES):
            joined.append(Chunk(b"".join(run), run_offset))
            run, run_bytes = [], 0
        if size >= SMALL_BYTES:
            joined.append(chunk)
            continue
        if not run:
            run_offset = chunk.offset
        run.append(chunk.data)
        run_bytes += size
    if run:
        joined.append(Chunk(b"".join(run), run_offset))
    return joined
