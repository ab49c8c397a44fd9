"""Standard output as a destination: one part, written once, for whatever reads the other end of the pipe.

Owns the descriptor for the length of a part.  Nothing of a destination's other promises holds: what was written is seen at once and
cannot be taken back, nothing is kept, so nothing is published and nothing is exactly once.  A second part in a stream would be
the middle of no file, so there is none; and bytes that were written are never written again, so whoever plans the work gives
it one attempt (see ``Target.max_attempts``).
"""

# ruff: noqa: ARG002  # the contract has parameters that a stream has no use for

from __future__ import annotations

import errno
import hashlib
import io
import os
import select
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

from procflow_export.destinations.keys import check_key
from procflow_export.destinations.port import ObjectInfo, StoredObject, StoredPart, Version
from procflow_export.model.codes import Code
from procflow_export.model.errors import DestinationError

_STDOUT_FD: Final = 1
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class StandardOutput:
    """A ``Destination`` that keeps nothing.

    Args:
        fd: The descriptor; it stays open.
    """

    location: str = "stdout"
    max_part_bytes: int | None = None
    keeps_objects: bool = False

    def __init__(self, fd: int = _STDOUT_FD) -> None:
        self._fd = fd
        self._is_used = False

    @contextmanager
    def open_part(self, key: str) -> Iterator[StreamPart]:
        check_key(key)
        if self._is_used:
            raise DestinationError(Code.DESTINATION_NOT_USABLE, "standard output takes one part, and has had it")
        self._is_used = True
        part = StreamPart(key, self._fd)
        yield part
        part.seal()

    def put(self, key: str, data: bytes) -> None:
        raise _keeps_nothing(key)

    def create(self, key: str, data: bytes) -> None:
        raise _keeps_nothing(key)

    def replace(self, key: str, data: bytes, *, expected: Version | None) -> bool:
        raise _keeps_nothing(key)

    def read(self, key: str) -> StoredObject | None:
        check_key(key)
        return None

    def get(self, key: str) -> bytes | None:
        check_key(key)
        return None

    def head(self, key: str) -> ObjectInfo | None:
        check_key(key)
        return None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return iter(())

    @contextmanager
    def open_object(self, key: str) -> Iterator[BinaryIO]:
        if check_key(key):
            raise FileNotFoundError(key)
        yield io.BytesIO()

    def remove(self, key: str) -> None:
        check_key(key)

    def remove_stale(self, stems: Collection[str] = ()) -> tuple[str, ...]:
        return ()


class StreamPart:
    """A ``PartSink`` over a descriptor."""

    def __init__(self, key: str, fd: int) -> None:
        self.key = key
        self.size_bytes = 0
        self._fd = fd
        self._hash = hashlib.sha256()
        self._stored: StoredPart | None = None

    @property
    def stored(self) -> StoredPart:
        if self._stored is None:
            raise RuntimeError(f"part {self.key} is not written")
        return self._stored

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        view = memoryview(data).cast("B")
        rest = view
        while rest:
            rest = rest[self._write_some(rest) :]
        self._hash.update(view)
        self.size_bytes += len(view)
        return len(view)

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            select.select([], [self._fd], [])  # somebody else has made it non-blocking
            return 0
        except BrokenPipeError as exc:
            raise DestinationError(
                Code.DESTINATION_FAILED, f"whoever read standard output went away after {self.size_bytes} bytes"
            ) from exc
        except OSError as exc:
            code = Code.DESTINATION_FULL if exc.errno in _FULL else Code.DESTINATION_FAILED
            raise DestinationError(
                code, f"standard output cannot be written: {exc.strerror or type(exc).__name__}"
            ) from exc

    def seal(self) -> None:
        """Say what was written."""
        checksum = f"sha256:{self._hash.hexdigest()}"
        self._stored = StoredPart(key=self.key, size_bytes=self.size_bytes, checksum=checksum)


def _keeps_nothing(key: str) -> DestinationError:
    return DestinationError(Code.DESTINATION_NOT_USABLE, f"standard output keeps nothing: {key} cannot be stored")
