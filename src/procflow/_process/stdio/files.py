"""Files and descriptors that a child is given as they are, so that no byte of theirs passes through Python.

Owns how they are opened and how a descriptor is found behind a Python object.  Must not know processes.

A ``fileno()`` alone proves nothing: a ``GzipFile`` and an ``SSLSocket`` have one, and the bytes behind it are not those that
their ``read()`` gives.  So an object is handed over only if its layers are known (``io``, ``tempfile``), or if it has neither
``read`` nor ``write`` and hence no bytes of its own (a socket, a selector's key).
"""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import Final, Literal, Protocol, TypeAlias, runtime_checkable

AnyPath: TypeAlias = os.PathLike[str] | os.PathLike[bytes]

CREATED_MODE: Final = 0o666


@runtime_checkable
class HasFileno(Protocol):
    """A file, or anything else with a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...


def open_to_read(path: AnyPath) -> int:
    """Open a file for a child's standard input; never waits.

    Raises:
        OSError: With ``filename`` set.
    """
    return _opened(path, os.O_RDONLY)


def open_to_write(path: AnyPath) -> int:
    """Create or truncate a file for a child's output; never waits.

    Raises:
        OSError: With ``filename`` set.
    """
    return _opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)


def _opened(path: AnyPath, flags: int) -> int:
    # O_NONBLOCK, because to open a FIFO waits for its other side, and the event loop would wait with it.
    try:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, CREATED_MODE)
    except OSError as exc:
        if exc.errno == errno.ENXIO and stat.S_ISFIFO(os.stat(path).st_mode):
            raise _fifo_error(path) from exc
        raise
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode):
            raise _fifo_error(path)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        os.set_blocking(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _fifo_error(path: AnyPath) -> OSError:
    reason = "it is a FIFO, and to open it may wait for its other side; open it yourself and pass the file"
    return OSError(errno.ENXIO, reason, os.fspath(path))


def descriptor_behind(thing: object) -> int | None:
    """Return the descriptor whose bytes are those of ``thing``, or ``None`` if there is none.

    Raises:
        ValueError: If ``thing`` is closed.
    """
    if isinstance(thing, int):
        return thing
    if getattr(thing, "closed", False) is True:
        raise ValueError("the file is closed")
    layer = _innermost(thing)
    is_known = isinstance(layer, io.FileIO)
    has_own_bytes = hasattr(layer, "read") or hasattr(layer, "write")
    if not isinstance(layer, HasFileno) or (has_own_bytes and not is_known):
        return None
    return layer.fileno()


def _undecorated(thing: object) -> object:
    """What is below the layer that only deletes."""
    return getattr(thing, "file", thing) if type(thing).__module__ == "tempfile" else thing


def _innermost(thing: object) -> object:
    """What is below the layers that only buffer, encode or delete."""
    thing = _undecorated(thing)
    if isinstance(thing, io.TextIOWrapper):
        thing = thing.buffer
    if isinstance(thing, (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)):
        thing = thing.raw
    return thing


def refuses(thing: object, what: Literal["readable", "writable"]) -> bool:
    """Whether a file says that it is not ``what``."""
    is_possible = getattr(thing, what, None)
    return callable(is_possible) and is_possible() is False


def settle_before_reading(thing: object) -> None:
    """Write what a file still buffers, and move its descriptor back to where the file is, which has read ahead of it."""
    file = _undecorated(thing)
    if isinstance(file, (io.TextIOWrapper, io.BufferedRandom)):
        file.flush()
    if isinstance(file, (io.BufferedReader, io.BufferedRandom)) and file.seekable():
        os.lseek(file.fileno(), file.tell(), os.SEEK_SET)


def settle_before_writing(thing: object) -> None:
    """Flush a buffered writer, so that what the host wrote comes before what the child will write."""
    flush = getattr(thing, "flush", None)
    if callable(flush):
        flush()
