"""A destination in memory: the peer that shows that nothing above the port depends on files."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from procflow_export.destinations.keys import SMALL_OBJECT_MAX_BYTES, check_key
from procflow_export.destinations.port import ObjectInfo, StoredObject, StoredPart, Version
from procflow_export.model.codes import Code
from procflow_export.model.errors import DestinationError


class MemoryDestination:
    """Objects in a dictionary; every store is one assignment."""

    keeps_objects: bool = True
    max_part_bytes: int | None = None

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self.location = "memory"

    @contextmanager
    def open_part(self, key: str) -> Iterator[MemoryPart]:
        part = MemoryPart(check_key(key))
        yield part
        data = part.buffer.getvalue()
        self.objects[key] = data
        part.seal(data)

    def put(self, key: str, data: bytes) -> None:
        self.objects[check_key(key)] = data

    def create(self, key: str, data: bytes) -> None:
        if check_key(key) in self.objects:
            raise FileExistsError(key)
        self.objects[key] = data

    def replace(self, key: str, data: bytes, *, expected: Version | None) -> bool:
        with self._lock:
            found = self.objects.get(check_key(key))
            if (None if found is None else _version(found)) != expected:
                return False
            self.objects[key] = data
            return True

    def read(self, key: str) -> StoredObject | None:
        data = self.objects.get(check_key(key))
        return None if data is None else StoredObject(data=data, version=_version(data))

    def get(self, key: str) -> bytes | None:
        data = self.objects.get(check_key(key))
        if data is not None and len(data) > SMALL_OBJECT_MAX_BYTES:
            raise DestinationError(Code.DESTINATION_NOT_USABLE, f"{key} is no small object")
        return data

    def head(self, key: str) -> ObjectInfo | None:
        data = self.objects.get(check_key(key))
        return None if data is None else ObjectInfo(key=key, size_bytes=len(data))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield ObjectInfo(key=key, size_bytes=len(self.objects[key]))

    @contextmanager
    def open_object(self, key: str) -> Iterator[BinaryIO]:
        if check_key(key) not in self.objects:
            raise FileNotFoundError(key)
        yield io.BytesIO(self.objects[key])

    def remove(self, key: str) -> None:
        self.objects.pop(check_key(key), None)

    def remove_stale(self, stems: Collection[str] = ()) -> tuple[str, ...]:
        return ()


class MemoryPart:
    """A part sink over a buffer."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.buffer = io.BytesIO()
        self._stored: StoredPart | None = None

    @property
    def size_bytes(self) -> int:
        return self.buffer.tell()

    @property
    def stored(self) -> StoredPart:
        if self._stored is None:
            raise RuntimeError("not stored")
        return self._stored

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        return self.buffer.write(data)

    def seal(self, data: bytes) -> None:
        checksum = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self._stored = StoredPart(key=self.key, size_bytes=len(data), checksum=checksum)


def _version(data: bytes) -> Version:
    return Version(generation=hashlib.sha256(data).hexdigest())
