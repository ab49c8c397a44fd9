"""What a destination must do: keep parts and small objects, each visible whole or not at all.

Owns the ``Destination`` and ``PartSink`` contracts, which one conformance suite checks for every implementation, and the
values they return.  Must not know formats, sources, or in which order a run publishes (``commit`` does).

Who runs what where: **every method of a destination blocks and may be called from any thread**; nothing here touches an
event loop.  The caller (the pipeline) puts the calls on its own named thread limiter; a part is opened, written and
closed inside one thread call, so the file handle never crosses threads and cancelling the awaiting task cannot tear a
part.  Only ``open_destination()`` is async, because some stores need a loop to start and stop.

The invariants (spec E-42) that an implementation carries:

* **W1** a part is complete before it becomes visible: ``open_part`` shows the key only after a clean exit of its block;
* **W2** the store has acknowledged and verified a part before ``PartSink.stored`` can be read: size and digest in it are
  of the bytes that were stored, durably;
* **W4** ``put`` and ``replace`` replace an object in one atomic step: a reader sees the old bytes or the new ones, never a
  mixture; and of several ``replace`` that expect the same version, one succeeds.

There is no ``delete``: published data is never removed by an export (superseded parts are listed; ``state gc`` decides).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """An object that a destination shows under ``key``."""

    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """Which of the contents that a key has had: what ``replace()`` expects to find.

    ``e_tag`` and ``generation`` are as the destination tells them, and mean nothing elsewhere.
    """

    e_tag: str | None = None
    generation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """A small object whole, and which version of it this is."""

    data: bytes
    version: Version


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPart:
    """A part that is durable: what may be recorded (W2, W3).

    ``checksum`` is ``sha256:`` and 64 hexadecimal digits, computed over the bytes while they were written.
    """

    key: str
    size_bytes: int
    checksum: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose temporary files these are: one run of one export.  Both words are written into temporary names."""

    export: str
    run_id: str


class PartSink(Protocol):
    """One part being stored; a forward-only byte sink that counts and hashes."""

    @property
    def key(self) -> str: ...

    @property
    def size_bytes(self) -> int:
        """Bytes taken so far."""
        ...

    @property
    def stored(self) -> StoredPart:
        """The durable part; only after its ``open_part`` block was left without an exception.

        Raises:
            RuntimeError: If read earlier, or after the part was abandoned.
        """
        ...

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Store all of ``data`` and return its length.

        Raises:
            ExportError: When the store refuses: full disk, no permission, connection lost.
        """
        ...


@runtime_checkable
class Destination(Protocol):
    """A place for the published set of one export.  Keys are relative, ``/``-separated, without ``.`` or ``..``.

    ``location`` names the place for people and manifests, without secrets.
    """

    @property
    def location(self) -> str: ...

    @property
    def keeps_objects(self) -> bool:
        """Whether what was stored can be found again; where not, nothing is published."""
        ...

    @property
    def max_part_bytes(self) -> int | None:
        """Size at which a part ends at the latest; ``None`` where there is none."""
        ...

    def open_part(self, key: str) -> AbstractContextManager[PartSink]:
        """Store a part under ``key``: visible whole after a clean exit, not at all after an exception (W1).

        A part that exists under the key is replaced in one step: part names carry the run, so only a retry of the same
        work unit can meet one.  After SIGKILL nothing is visible; see ``remove_stale()``.
        """
        ...

    def put(self, key: str, data: bytes) -> None:
        """Store a small object durably, replacing what is there in one atomic step (W4)."""
        ...

    def create(self, key: str, data: bytes) -> None:
        """Store a small object durably, only if the key is free.

        Raises:
            FileExistsError: When the key is taken; nothing was changed.
        """
        ...

    def replace(self, key: str, data: bytes, *, expected: Version | None) -> bool:
        """Store a small object durably, in one atomic step, if what is there is the ``expected`` version; say whether it was.

        ``None`` expects nothing to be there.  A ``False`` changed nothing, with one exception: where the answer to a first
        try was lost, a second may find the very bytes that the first has stored.
        """
        ...

    def read(self, key: str) -> StoredObject | None:
        """Like ``get()``, and which version it is."""
        ...

    def get(self, key: str) -> bytes | None:
        """Return a small object whole, or ``None`` where there is none.

        Raises:
            ExportError: When it is larger than ``SMALL_OBJECT_MAX_BYTES``.
        """
        ...

    def head(self, key: str) -> ObjectInfo | None:
        """Return size and key of an object, or ``None`` where there is none."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the visible objects whose key starts with ``prefix``, ordered by key; temporary files are not shown."""
        ...

    def open_object(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Read an object of any size from its start.

        Raises:
            FileNotFoundError: When there is none.
        """
        ...

    def remove(self, key: str) -> None:
        """Remove an object; nothing happens where there is none.

        For parts that no manifest names: what was published stays.
        """
        ...

    def remove_stale(self, stems: Collection[str] = ()) -> tuple[str, ...]:
        """Remove what dead runs of this owner's export left unfinished, and return the names that were removed.

        Touches neither objects that are visible, nor files of other exports, nor files that a live process is writing.
        A destination that was opened without an owner removes nothing.

        Args:
            stems: What the names of parts of runs begin with that are known to be dead, for a destination that cannot tell by
                itself.
        """
        ...
