"""Blocking writers: a file that may be rotated, or whatever has ``write()``.  They run in worker threads.

Owns descriptors and their closing.  Must not know the event loop.

The thread that writes may be left alone in the middle of a write that never returns (a dead network disk, a FIFO that nobody
reads).  A descriptor that is closed meanwhile would be closed under that write, and its number might by then belong to somebody
else.  So whoever is the last to use the writer closes it.
"""

from __future__ import annotations

import io
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from procflow._streams.consumers.kinds import BinaryWriter, Rotation
from procflow._streams.consumers.rotation import FilePlace, next_piece, older_names


class BlockingWriter(ABC):
    """Writes in whatever thread calls; one call at a time."""

    is_buffered = False
    """Whether what was written may wait for ``flush()``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_abandoned = False
        self.bytes_written = 0
        """What was written so far, marks included."""

    def open(self) -> None:
        """Make it writable, if it is not."""
        with self._alone():
            self._open()

    def write(self, data: bytes) -> None:
        """Write all of ``data``; what was written of it when this fails shows in ``bytes_written``."""
        with self._alone():
            self._open()
            self._write(data)

    def flush(self) -> None:
        """Hand over to the operating system what is buffered here."""
        with self._alone():
            self._flush()

    def finish(self) -> None:
        """Flush, and close what was opened here; nothing is lost unless this raises."""
        with self._alone():
            try:
                self._flush()
                self._sync()
            finally:
                self._close()

    def abandon(self) -> None:
        """Close what was opened here, now or when the write that is under way returns; nothing is written any more."""
        self._is_abandoned = True
        self._close_if_idle()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with self._lock:
                if self._is_abandoned:
                    raise ValueError("the writer was abandoned")
                yield
        finally:
            if self._is_abandoned:
                self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._lock.acquire(blocking=False):
            try:
                with suppress(OSError):  # nobody is left to be told
                    self._close()
            finally:
                self._lock.release()

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _write(self, data: bytes) -> None: ...

    def _flush(self) -> None:
        return

    def _sync(self) -> None:
        return

    @abstractmethod
    def _close(self) -> None: ...


class FileObject(BlockingWriter):
    """Writes to a binary file of somebody else, who closes it."""

    is_buffered = True

    def __init__(self, file: BinaryWriter) -> None:
        super().__init__()
        self._file = file

    def _open(self) -> None:
        return

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = self._file.write(view if len(view) < len(data) else data)  # type: ignore[arg-type]  # what takes bytes takes views
            if written is None:
                if isinstance(self._file, io.RawIOBase):
                    raise BlockingIOError("the file is not blocking and takes no more")
                written = len(view)
            self.bytes_written += written
            view = view[written:]

    def _flush(self) -> None:
        flush = getattr(self._file, "flush", None)
        if flush is not None:
            flush()

    def _close(self) -> None:
        return


class Descriptor(BlockingWriter):
    """Writes to a descriptor that it owns."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def _open(self) -> None:
        if self._fd < 0:
            raise ValueError("the descriptor was closed")

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self.bytes_written += written
            view = view[written:]

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class PathFile(BlockingWriter):
    """Writes to a file that it opens, and rotates it if asked to."""

    def __init__(self, path: str, *, is_append: bool, rotation: Rotation | None, is_synced: bool) -> None:
        super().__init__()
        self._path = path
        self._is_append = is_append
        self._rotation = rotation
        self._is_synced = is_synced
        self._fd = -1
        self._place = FilePlace()
        self._rotations = 0

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of this run that exist now, the newest first."""
        names = [self._path]
        if self._rotation is not None:
            count = min(self._rotations, self._rotation.max_files - 1)
            names += [f"{self._path}.{number}" for number in range(1, count + 1)]
        return tuple(Path(name) for name in names if os.path.exists(name))

    def _open(self) -> None:
        if self._fd >= 0:
            return
        access = os.O_WRONLY if self._rotation is None else os.O_RDWR  # what moves on is read back
        # Always at the end: another writer of the file, or whoever cuts it to begin anew, makes no offset of ours wrong.
        flags = access | os.O_CREAT | os.O_APPEND | (0 if self._is_append else os.O_TRUNC)
        self._fd = os.open(self._path, flags | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
        size = os.fstat(self._fd).st_size
        self._place = FilePlace(size, size)

    def _write(self, data: bytes) -> None:
        if self._rotation is None:
            self._write_here(data)
            return
        position = 0
        while True:
            size, moving_bytes = next_piece(data, position, self._place, self._rotation)
            self._write_here(data[position : position + size])
            position += size
            if moving_bytes is None:
                return
            if position < len(data):
                self._rotate(moving_bytes, self._rotation)

    def _write_here(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self.bytes_written += written
            position = len(data) - len(view)
            self._place.advance(view[:written], max(0, data.rfind(b"\n", position, position + written) + 1 - position))
            view = view[written:]

    def _rotate(self, moving_bytes: int, rotation: Rotation) -> None:
        """Begin a new file with the ``moving_bytes`` of unfinished line that this one ends with.

        They are in both files for a moment, never in none; and until the new file is there, nothing has changed.
        """
        moving = os.pread(self._fd, moving_bytes, self._place.line_start) if moving_bytes else b""
        line_start = self._place.filled_bytes - moving_bytes
        next_path = f"{self._path}.next"
        next_fd = os.open(next_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            view = memoryview(moving)
            while view:
                view = view[os.write(next_fd, view) :]
            for newer, older in older_names(self._path, rotation):
                with suppress(FileNotFoundError):
                    os.replace(newer, older)
            os.replace(next_path, self._path)
        except BaseException:
            os.close(next_fd)
            with suppress(OSError):
                os.unlink(next_path)
            raise
        full_fd, self._fd = self._fd, next_fd
        self._place = FilePlace(moving_bytes, 0)
        self._rotations += 1
        try:
            if moving_bytes:
                os.ftruncate(full_fd, line_start)
            if self._is_synced:
                os.fsync(full_fd)
        finally:
            os.close(full_fd)

    def _sync(self) -> None:
        if self._is_synced and self._fd >= 0:
            os.fsync(self._fd)
            directory = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
