"""A record on disk, opened to be read.

Owns the descriptor, and the unpacking of ``.gz``.  Must not know what stands in a record.  Nothing here can write: the file is opened
read-only, and no name of its directory is touched.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from procflow.record.errors import UnreadableRecordError
from procflow.record.reading.liveness import writer_by_lock
from procflow.record.reading.states import Writer

EVENTS_FILE: Final = "events.jsonl"
BLOCK_BYTES: Final = 256 << 10

_GZIP: Final = b"\x1f\x8b"
_READ_ONLY: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""Without blocking: a pipe of that name would let us wait for ever."""
_NO_TRACE: Final = getattr(os, "O_NOATIME", 0)


class RecordFile:
    """A record that is open for reading: ``open_record()`` makes it."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self.is_packed = os.pread(fd, 2, 0) == _GZIP
        """Whether it is packed by gzip."""
        self.path = path
        """The file."""

    @property
    def size_bytes(self) -> int:
        """How long the file is now, as it is on the disk."""
        return os.fstat(self._fd).st_size

    @property
    def file_id(self) -> str:
        """Device and inode: what the file is, whatever it is called."""
        status = os.fstat(self._fd)
        return f"{status.st_dev}:{status.st_ino}"

    @property
    def used_at_ms(self) -> int:
        """When the file was last written or read, in milliseconds since 1970, as far as its file system notes that."""
        stat = os.fstat(self._fd)
        return max(stat.st_mtime_ns, stat.st_atime_ns) // 1_000_000

    def writer(self) -> Writer:
        """Ask whether the writer lives; ask before reading to the end."""
        return writer_by_lock(self._fd)

    def ends(self, max_bytes: int) -> tuple[bytes, bytes]:
        """Return the first and the last ``max_bytes``; of a short file both are all of it.  Only a packed one is read to its end for that."""
        if not self.is_packed:
            return os.pread(self._fd, max_bytes, 0), os.pread(self._fd, max_bytes, max(self.size_bytes - max_bytes, 0))
        first = last = b""
        for block in self._unpacked_blocks():
            first += block[: max_bytes - len(first)]
            last = (last + block)[-max_bytes:]
        return first, last

    def blocks(self, offset: int = 0) -> Iterator[bytes]:
        """Yield the bytes from ``offset`` to the end as it is then, in blocks of at most ``BLOCK_BYTES``.

        The offset is one of the unpacked bytes.  Of a ``.gz`` that is cut short, or damaged, comes what can be unpacked.
        """
        if not self.is_packed:
            yield from self._raw_blocks(offset)
            return
        for block in self._unpacked_blocks():
            if offset < len(block):
                yield block[offset:]
            offset = max(offset - len(block), 0)

    def _raw_blocks(self, offset: int) -> Iterator[bytes]:
        while block := os.pread(self._fd, BLOCK_BYTES, offset):
            offset += len(block)
            yield block

    def _unpacked_blocks(self) -> Iterator[bytes]:
        unpacker = zlib.decompressobj(wbits=31)
        for block in self._raw_blocks(0):
            packed = block
            while packed:
                if unpacker.eof:  # files that were packed one after the other are one file
                    unpacker = zlib.decompressobj(wbits=31)
                try:
                    data = unpacker.decompress(packed, BLOCK_BYTES)
                except zlib.error:
                    return
                if data:
                    yield data
                packed = unpacker.unconsumed_tail or unpacker.unused_data
        while not unpacker.eof and (data := unpacker.decompress(b"", BLOCK_BYTES)):
            yield data


@contextmanager
def open_record(path: str | os.PathLike[str], *, is_use: bool = True) -> Iterator[RecordFile]:
    """Open the record ``path``: the file, packed by gzip or not, or the directory of a run.

    Where this is no use of it, as when all records are listed, the file system is asked not to note that it was read.

    Raises:
        UnreadableRecordError: If there is none, or the system does not let us.
    """
    found = events_file_of(path)
    try:
        fd = _open(found, is_use=is_use)
    except OSError as exc:
        raise UnreadableRecordError(path=found, reason=exc.strerror or "it cannot be opened") from exc
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UnreadableRecordError(path=found, reason="it is no regular file")
        yield RecordFile(fd, found)
    finally:
        os.close(fd)


def _open(path: str, *, is_use: bool) -> int:
    if not is_use and _NO_TRACE:
        with suppress(PermissionError):  # another's file: then it is noted
            return os.open(path, _READ_ONLY | _NO_TRACE)
    return os.open(path, _READ_ONLY)


def events_file_of(path: str | os.PathLike[str]) -> str:
    """Return the event file of the record ``path``, which may be that file; it need not exist."""
    path = os.fspath(path)
    if not os.path.isdir(path):
        return path
    plain = os.path.join(path, EVENTS_FILE)
    packed = f"{plain}.gz"
    return packed if not os.path.exists(plain) and os.path.exists(packed) else plain
