"""What the bytes of a part give back: their digest, and the rows that are in them.

Owns reading a part in bounded memory: row group by row group, block by block.  A destination's objects may be read only
forwards, and a Parquet file begins at its end; such a part goes through a temporary file, once.  Must not know manifests.

Everything here blocks.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from procflow_export.destinations import Destination

READ_BYTES: Final = 1 << 20
BATCH_ROWS: Final = 8_192

UNDECODABLE: Final = (pa.ArrowException, OSError, ValueError, EOFError)
"""What decoding raises when a file is not what it should be; a failing destination raises errors of its own."""


@contextmanager
def opened_part(destination: Destination, key: str, heed: Callable[[int], object]) -> Iterator[tuple[str, BinaryIO]]:
    """Read a part whole; give the digest of its bytes, and a file that has them and can be read in any order.

    Raises:
        FileNotFoundError: If there is no such part.
        DestinationError: If it cannot be read.
    """
    digest = hashlib.sha256()
    with destination.open_object(key) as stream:
        if _is_file(stream):
            for block in _blocks(stream, heed):
                digest.update(block)
            stream.seek(0)
            yield f"sha256:{digest.hexdigest()}", stream
            return
        with tempfile.TemporaryFile() as copy:
            for block in _blocks(stream, heed):
                digest.update(block)
                copy.write(block)
            copy.seek(0)
            yield f"sha256:{digest.hexdigest()}", copy


def _is_file(stream: BinaryIO) -> bool:
    try:
        stream.fileno()
    except (OSError, AttributeError, io.UnsupportedOperation):
        return False
    return True


def _blocks(stream: BinaryIO, heed: Callable[[int], object]) -> Iterator[bytes]:
    while block := stream.read(READ_BYTES):
        heed(len(block))
        yield block


def parquet_schema(file: BinaryIO) -> pa.Schema:
    """Return the columns of a Parquet file.

    Raises:
        UNDECODABLE: If it is none.
    """
    return pq.ParquetFile(file).schema_arrow


def parquet_batches(file: BinaryIO) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file, a few at a time.

    Raises:
        UNDECODABLE: If it is none, or damaged.
    """
    yield from pq.ParquetFile(file).iter_batches(batch_size=BATCH_ROWS)


def csv_record_count(file: BinaryIO, compression: str) -> int:
    """Return how many records a CSV file has, its header among them: its lines, but for those that a quoted cell goes on with.

    Raises:
        UNDECODABLE: If it cannot be decompressed, or ends within a record.
    """
    count, is_quoted, last = 0, 0, b"\n"
    with decompressed(file, compression) as text:
        while block := text.read(READ_BYTES):
            last = block[-1:]
            characters = np.frombuffer(block, dtype=np.uint8)
            ends = characters == ord("\n")
            quotes = characters == ord('"')
            if is_quoted or quotes.any():
                # Doubled quotes within a cell close and open it again.
                depth = np.cumsum(quotes, dtype=np.int64) + is_quoted
                ends &= depth % 2 == 0
                is_quoted = int(depth[-1] % 2)
            count += int(np.count_nonzero(ends))
    if is_quoted or last != b"\n":
        raise ValueError("the file ends within a record")
    return count


def decompressed(file: BinaryIO, compression: str) -> pa.NativeFile:
    """Return the text of a CSV file; ``compression`` as the manifest names it."""
    plain = pa.PythonFile(_Borrowed(file), mode="r")  # type: ignore[arg-type]  # any readable object
    return plain if compression == "none" else pa.CompressedInputStream(plain, compression)  # type: ignore[arg-type]  # gzip or zstd


class _Borrowed:
    """A file as Arrow may have it: Arrow's own files close what they read when they are forgotten, and this one stays open."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell
        self.readable, self.seekable = file.readable, file.seekable

    def close(self) -> None:
        """Leave it to whoever opened it."""
