"""The history of a stream in a file.

Owns the file, the work that fills it, and the loading of stretches from it.  Must not know what a subscriber is promised: the log
decides.

The file is written and read in worker threads, so a slow disk blocks no event loop; it holds the source back instead, as
any slow reliable subscriber does.  Reads and writes name their offset, so they need no order among each other, and a write that is
abandoned and done again is the same write.  The descriptor is never closed while a thread may use it: it goes with the last
reference to the file.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from procflow._streams.history.archive import MEMORY_BYTES, ArchivedCursor, ArchivedLog
from procflow._streams.waking import Bell, PerLoop
from procflow.errors import SpillError
from procflow.events import Chunk

T = TypeVar("T")

LOAD_BYTES: Final = 256 * 1024
"""How much of the file one load brings into memory for one subscriber."""

WRITE_BYTES: Final = 1024 * 1024
SMALL_WRITE_BYTES: Final = 64 * 1024
REST_S: Final = 0.01
"""How long the file rests after a small write, so that a thread is not woken for every line."""

FLUSH_S: Final = 1.0
"""How long a stream that is closed may write what the file lacks."""

MAX_BUFFERS: Final = 512  # of one writev: at most 1024 everywhere

logger: Final = logging.getLogger("procflow.stream")
SPILL_THREADS: Final = PerLoop("spill_threads", partial(anyio.CapacityLimiter, 8))
"""The threads that all files of an event loop share."""


class SpillFile:
    """The bytes of a stream from its beginning on, by offset.  Blocks: for worker threads."""

    def __init__(self, path: str, *, stream_name: str) -> None:
        """Make the file: for its owner alone, and without a name if ``path`` is a directory.

        Raises:
            SpillError: If it cannot be made, for example because it exists.
        """
        self._fd = -1
        self._stream_name = stream_name
        self.path: Final = path
        try:
            self._fd = _open_nameless(path) if os.path.isdir(path) else _open_new(path)
        except OSError as error:
            raise self.failed(error) from error

    def __repr__(self) -> str:
        return f"<SpillFile {self.path!r}>"

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _close(fd)

    def write(self, chunks: Sequence[Chunk]) -> None:
        """Write ``chunks``, which follow each other, where they belong.

        Raises:
            SpillError: If they cannot be written, or somebody else has cut the file.
        """
        offset = chunks[0].offset
        try:
            if os.fstat(self._fd).st_size < offset:
                raise self.failed("somebody else has cut the file")
            for index in range(0, len(chunks), MAX_BUFFERS):
                offset = self._write_buffers([chunk.data for chunk in chunks[index : index + MAX_BUFFERS]], offset)
        except OSError as error:
            raise self.failed(error) from error

    def _write_buffers(self, buffers: list[bytes], offset: int) -> int:
        count = os.pwritev(self._fd, buffers, offset)
        total = sum(map(len, buffers))
        if count < total:  # the disk is nearly full, or a signal came
            rest = b"".join(buffers)
            while count < total:
                count += os.pwrite(self._fd, memoryview(rest)[count:], offset + count)
        return offset + total

    def read(self, start: int, stop: int) -> Chunk:
        """Return the bytes from ``start`` to ``stop``, which were written.

        Raises:
            SpillError: If they cannot be read, or somebody else has cut the file.
        """
        pieces: list[bytes] = []
        offset = start
        try:
            while offset < stop:
                data = os.pread(self._fd, stop - offset, offset)
                if not data:
                    raise self.failed(f"the file ends at {offset} of {stop} bytes: somebody else has cut it")
                pieces.append(data)
                offset += len(data)
        except OSError as error:
            raise self.failed(error) from error
        return Chunk(pieces[0] if len(pieces) == 1 else b"".join(pieces), start)

    def empty(self) -> None:
        """Give its space back.

        Raises:
            SpillError: If it cannot be cut.
        """
        try:
            os.ftruncate(self._fd, 0)
        except OSError as error:
            raise self.failed(error) from error

    def failed(self, cause: OSError | str) -> SpillError:
        """What to raise for ``cause``."""
        reason, errno = (cause, None) if isinstance(cause, str) else (cause.strerror or str(cause), cause.errno)
        return SpillError(stream_name=self._stream_name, path=self.path, reason=reason, errno=errno)


def _open_new(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, stat.S_IRUSR | stat.S_IWUSR)


def _open_nameless(directory: str) -> int:
    if hasattr(os, "O_TMPFILE"):
        try:
            return os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, stat.S_IRUSR | stat.S_IWUSR)
        except OSError:  # not every file system knows it
            pass
    while True:
        path = os.path.join(directory, f"procflow-{os.urandom(8).hex()}.spill")
        try:
            fd = _open_new(path)
        except FileExistsError:
            continue
        os.unlink(path)
        return fd


class Spill:
    """Fills the file of one stream, and loads from it."""

    def __init__(self, file: SpillFile, log: ArchivedLog, *, data_bell: Bell, on_written: Callable[[], object]) -> None:
        """Prepare to fill ``file``; ``on_written`` is called whenever the log may have room again."""
        self._file = file
        self._log = log
        self._data_bell = data_bell
        self._on_written = on_written
        self._is_running = False
        self._is_emptied = False

    def __repr__(self) -> str:
        return f"<Spill {self._log.archived_bytes} of {self._log.produced} bytes to {self._file.path!r}>"

    @property
    def written_bytes(self) -> int:
        """How many bytes of the stream, from the first one on, the file has."""
        return 0 if self._is_emptied else self._log.archived_bytes

    @property
    def failure(self) -> str | None:
        """Why the file takes no more, in words; ``None`` unless it failed."""
        return self._log.failure.reason if self._log.failure is not None else None

    async def run(self) -> None:
        """Fill the file for as long as the stream is kept, and empty it when it was sealed and nobody needs it any more.

        Cancel it to end it: what the file lacks is written first, for at most ``FLUSH_S``.
        """
        self._is_running = True
        try:
            while True:
                if self._is_superfluous:
                    await self._in_thread(self._empty)
                elif not await self._write():
                    await self._data_bell.sleep()
        finally:
            self._is_running = False
            with anyio.move_on_after(FLUSH_S, shield=True):
                while await self._write(rests=False):
                    pass

    async def load(self, cursor: ArchivedCursor) -> None:
        """Bring the next stretch that ``cursor`` was promised into memory, if it is behind.

        Raises:
            SpillError: If the file cannot be read, or somebody else has cut it.
        """
        stretch = cursor.reserve_stretch(LOAD_BYTES)
        if stretch is not None:
            cursor.load(await self._in_thread(partial(self._file.read, stretch.start, stretch.stop)))
            self.look()

    def look(self) -> None:
        """See whether the file is needed no longer: after a seal, and whenever a subscriber has moved on or left."""
        if self._is_superfluous:
            if self._is_running:
                self._data_bell.ring()
            else:
                self._empty()

    @property
    def _is_superfluous(self) -> bool:
        """Whether the history was sealed, and nobody who attached before needs it."""
        log = self._log
        return not self._is_emptied and not log.is_archiving and log.failure is None and not log.needs_archive

    def _empty(self) -> None:
        self._is_emptied = True
        try:
            self._file.empty()
        except SpillError as error:  # nobody needs the bytes any more: only their space is lost
            logger.warning("%s; it keeps the space of a sealed history", error)

    async def _write(self, *, rests: bool = True) -> bool:
        """Write what there is, at most ``WRITE_BYTES``; return whether there was anything."""
        archivist = self._log.archivist
        chunks = archivist.peek(WRITE_BYTES) if archivist.is_attached else []
        if not chunks:
            return False
        try:
            await self._in_thread(partial(self._file.write, chunks))
        except SpillError as error:
            self._log.fail(error)
            logger.warning("%s; from now on only the newest %d bytes are kept", error, MEMORY_BYTES)
        else:
            if archivist.is_attached:  # not sealed meanwhile
                archivist.wrote(chunks[-1].stop)
        self._on_written()
        if rests and chunks[-1].stop - chunks[0].offset < SMALL_WRITE_BYTES:
            await anyio.sleep(REST_S)
        return True

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=SPILL_THREADS.get())
