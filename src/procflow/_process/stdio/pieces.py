"""Where fed input comes from, if it is not simply there: iterables and files.

Owns the pulling of one piece after the other.  Must not know descriptors of children.

Iterables are pulled in the event loop: generators often belong to the thread they were made in, and most of them only
compute.  What blocks is either asynchronous already or a file, and files are read in threads.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Final, Protocol, runtime_checkable

import anyio
import anyio.to_thread

from procflow._streams.waking import PerLoop

PIECE_BYTES: Final = 64 * 1024
"""Small items of a synchronous iterable are joined up to this size."""

FILE_READ_BYTES: Final = 256 * 1024

READER_THREADS: Final = PerLoop("stdin_reader_threads", partial(anyio.CapacityLimiter, 32))
"""How many threads of one event loop read files for children at the same time."""

PULL_S: Final = 0.001
"""How long items are joined at most; it is a turn of the loop."""


class Pieces(Protocol):
    """A source of input.  Pulled and closed by one task; the end comes once."""

    async def pull(self) -> bytes | None:
        """Return the next bytes, or ``None`` at the end; whatever it raises is a failure of the source."""
        ...

    async def aclose(self) -> None:
        """Close what was iterated, if it can be closed."""
        ...


@runtime_checkable
class SupportsReadBytes(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int, /) -> bytes | None: ...


class IterablePieces:
    """Pulls an iterable in the event loop.  What an item leaves undone of 1 ms is used for the next ones."""

    def __init__(self, items: Iterable[bytes]) -> None:
        self._items = items
        self._iterator: Iterator[bytes] | None = None
        self._count = 0
        self._error: Exception | None = None
        self._has_ended = False

    async def pull(self) -> bytes | None:
        """Return the next items, joined as long as they are small and come at once."""
        if self._iterator is None:
            self._iterator = iter(self._items)
        joined: list[bytes] = []
        joined_bytes, until_s = 0, time.monotonic() + PULL_S
        while not self._has_ended and joined_bytes < PIECE_BYTES:
            try:
                item = require_bytes(next(self._iterator), self._count)
            except StopIteration:
                self._has_ended = True
            except Exception as exc:  # noqa: BLE001 (raised below, after what was pulled before it)
                self._has_ended, self._error = True, exc
            else:
                self._count += 1
                joined.append(item)
                joined_bytes += len(item)
                if time.monotonic() >= until_s:
                    break
        if joined:
            return joined[0] if len(joined) == 1 else b"".join(joined)
        if self._error is not None:
            raise self._error
        return None

    async def aclose(self) -> None:
        """Close a generator, or whatever else has a ``close()``."""
        close = getattr(self._iterator, "close", None)
        if callable(close):
            close()


class AsyncIterablePieces:
    """Pulls an asynchronous iterable; an item is passed on as soon as it is there."""

    def __init__(self, items: AsyncIterable[bytes]) -> None:
        self._items = items
        self._iterator: AsyncIterator[bytes] | None = None
        self._count = 0

    async def pull(self) -> bytes | None:
        """Return the next item."""
        if self._iterator is None:
            self._iterator = aiter(self._items)
        try:
            item = await anext(self._iterator)
        except StopAsyncIteration:
            return None
        data = require_bytes(item, self._count)
        self._count += 1
        return data

    async def aclose(self) -> None:
        """Close a generator, a stream, or whatever else has an ``aclose()``."""
        aclose: Callable[[], Awaitable[object]] | None = getattr(self._iterator, "aclose", None)
        if aclose is not None:
            await aclose()


class FilePieces:
    """Reads a file in threads.  It stays its owner's, and open."""

    def __init__(self, file: SupportsReadBytes) -> None:
        # read1() returns what is there, read() may wait for all of it.
        read1 = getattr(file, "read1", None)
        self._read = read1 if callable(read1) else file.read
        self._count = 0

    async def pull(self) -> bytes | None:
        """Return the next bytes."""
        # Abandoned by a cancellation: a read that blocks for ever must not hold up the end of a block.
        data = await anyio.to_thread.run_sync(
            self._read, FILE_READ_BYTES, abandon_on_cancel=True, limiter=READER_THREADS.get()
        )
        if data is None:
            raise BlockingIOError("the file is in non-blocking mode and has nothing to read")
        self._count += 1
        return require_bytes(data, self._count - 1) or None

    async def aclose(self) -> None:
        """Leave it open."""


def require_bytes(item: object, index: int) -> bytes:
    """Return ``item`` as bytes.

    Raises:
        TypeError: If it is none; says what to do.
    """
    match item:
        case bytes():
            return item
        case bytearray() | memoryview():
            return bytes(item)
        case str():
            raise TypeError(f"item {index} is str, not bytes; encode it")
    raise TypeError(f"item {index} is {type(item).__name__}, not bytes")
