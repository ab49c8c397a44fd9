"""An object store as a destination.

Owns the order within one call: an upload is complete, acknowledged and compared before anybody is told (W1, W2), and a small
object replaces the one before it under the store's own condition (``replace``).  Must not know formats, manifests or the order
of a commit.

obstore's blocking interface is used, never its coroutines: a process that ends soon after one of those is aborted now and
then, its exit status lost (https://github.com/PyO3/pyo3-async-runtimes/issues/40).

Known hole: a server that ignores the conditions of HTTP (``If-Match``, ``If-None-Match``) lets every writer pass.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, cast

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from procflow_export.destinations.crash import crash_point
from procflow_export.destinations.keys import SMALL_OBJECT_MAX_BYTES, check_key
from procflow_export.destinations.port import ObjectInfo, Owner, StoredObject, Version
from procflow_export.destinations.stores.failures import STORE_ERRORS, explained, is_missing_bucket
from procflow_export.destinations.stores.part import MAX_PART_BYTES, StorePart
from procflow_export.destinations.stores.uploads import S3Uploads
from procflow_export.model.codes import Code
from procflow_export.model.destination import Verify
from procflow_export.model.errors import DestinationError

if TYPE_CHECKING:
    from obstore import GetResult, PutMode, UpdateVersion
    from obstore.store import ObjectStore

_READ_BYTES: Final = 1 << 20
_REFUSED: Final = (AlreadyExistsError, PreconditionError)


class StoreDestination:
    """A ``Destination`` below one prefix of a bucket.

    Args:
        store: An open store, whose keys are relative to the prefix.
        location: The prefix with its bucket, for people.
        verify: How a part is compared before it is recorded.
        owner: Whose unfinished uploads may be removed; without one none are.
        uploads: Where those are found; ``None`` where there is no way.
    """

    keeps_objects: bool = True
    max_part_bytes: int | None = MAX_PART_BYTES

    def __init__(
        self,
        store: ObjectStore,
        *,
        location: str,
        verify: Verify = Verify.SIZE,
        owner: Owner | None = None,
        uploads: S3Uploads | None = None,
    ) -> None:
        self._store = store
        self._verify = verify
        self._owner = owner
        self._uploads = uploads
        self.location = location

    @contextmanager
    def open_part(self, key: str) -> Iterator[StorePart]:
        part = StorePart(self._store, check_key(key), self.location, counts_blocks=self._verify is Verify.CONTENT)
        try:
            crash_point("part.writing")
            yield part
            crash_point("part.written")
            part.complete()
        except BaseException:
            part.abort()
            raise
        crash_point("part.stored")
        self._require_stored(part)
        part.seal()

    def put(self, key: str, data: bytes) -> None:
        self._put(key, data, "overwrite")

    def create(self, key: str, data: bytes) -> None:
        if not self.replace(key, data, expected=None):
            raise FileExistsError(key)

    def replace(self, key: str, data: bytes, *, expected: Version | None) -> bool:
        passing = _REFUSED if expected is None else (*_REFUSED, FileNotFoundError)
        try:
            self._put(key, data, _condition(expected), passing=passing)
        except passing:
            return False
        return True

    def get(self, key: str) -> bytes | None:
        found = self.read(key)
        return None if found is None else found.data

    def read(self, key: str) -> StoredObject | None:
        result = self._get(key)
        if result is None:
            return None
        meta = result.meta
        if meta["size"] > SMALL_OBJECT_MAX_BYTES:
            raise DestinationError(Code.DESTINATION_NOT_USABLE, f"{key} is larger than {SMALL_OBJECT_MAX_BYTES} bytes")
        with explained(f"read {key}", self.location):
            data = bytes(result.bytes())
        return StoredObject(data=data, version=Version(e_tag=meta["e_tag"], generation=meta["version"]))

    def head(self, key: str) -> ObjectInfo | None:
        check_key(key)
        try:
            with explained(f"look at {key}", self.location, passing=(FileNotFoundError,)):
                meta = obstore.head(self._store, key)
        except FileNotFoundError:
            return None
        return ObjectInfo(key=key, size_bytes=meta["size"])

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        # A store lists directories: what is left to compare is the name within the last of them.
        directory = prefix.rpartition("/")[0] or None
        found = []
        with explained("list objects", self.location):
            for page in obstore.list(self._store, directory):
                found += [
                    ObjectInfo(key=meta["path"], size_bytes=meta["size"])
                    for meta in page
                    if meta["path"].startswith(prefix)
                ]
        yield from sorted(found, key=lambda info: info.key)

    @contextmanager
    def open_object(self, key: str) -> Iterator[BinaryIO]:
        result = self._get(key)
        if result is None:
            raise FileNotFoundError(key)
        with io.BufferedReader(_Stream(result, key, self.location), _READ_BYTES) as file:
            yield cast("BinaryIO", file)

    def remove(self, key: str) -> None:
        check_key(key)
        with (
            contextlib.suppress(FileNotFoundError),
            explained(f"remove {key}", self.location, passing=(FileNotFoundError,)),
        ):
            obstore.delete(self._store, key)

    def remove_stale(self, stems: Collection[str] = ()) -> tuple[str, ...]:
        if self._owner is None or self._uploads is None or not stems:
            return ()
        return self._uploads.abort(stems, export=self._owner.export)

    def _put(self, key: str, data: bytes, mode: PutMode, *, passing: tuple[type[Exception], ...] = ()) -> None:
        """Store a small object, if need be with a second try.

        obstore repeats no put of which it cannot know whether it was done: after silence, or a connection that was cut.  What
        is stored whole and under its condition may be sent again; ``replace()`` says what a second try may find.
        """
        check_key(key)
        for is_last in (False, True):
            try:
                with explained(f"store {key}", self.location, passing=passing):
                    obstore.put(self._store, key, data, use_multipart=False, mode=mode)
                return
            except DestinationError as exc:
                if is_last or not exc.is_transient:
                    raise

    def _get(self, key: str) -> GetResult | None:
        check_key(key)
        try:
            with explained(f"read {key}", self.location, passing=(FileNotFoundError,)):
                return obstore.get(self._store, key)
        except FileNotFoundError as exc:
            if is_missing_bucket(exc):
                raise _missing_bucket(self.location) from None
            return None

    def _require_stored(self, part: StorePart) -> None:
        """Compare what the store has with what it was sent (W2).

        Raises:
            DestinationError: If the two differ; the object is removed then.
        """
        with explained(f"look at {part.key}", self.location):
            meta = obstore.head(self._store, part.key)
        problem = None
        if meta["size"] != part.size_bytes:
            problem = f"has {meta['size']} bytes, not {part.size_bytes}"
        elif self._verify is Verify.CONTENT and not part.is_digest(meta["e_tag"]):
            # Encrypted objects and other stores have tags that are no digests: then only reading it tells.
            actual = self._digest(part.key)
            problem = None if actual == part.checksum else f"has digest {actual}, not {part.checksum}"
        if problem is not None:
            with contextlib.suppress(*STORE_ERRORS):
                obstore.delete(self._store, part.key)
            raise DestinationError(Code.DESTINATION_MISMATCH, f"{part.key} at {self.location} {problem}")

    def _digest(self, key: str) -> str:
        digest = hashlib.sha256()
        with self.open_object(key) as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
        return f"sha256:{digest.hexdigest()}"


class _Stream(io.RawIOBase):
    """The bytes of an object, as they arrive."""

    def __init__(self, result: GetResult, key: str, location: str) -> None:
        super().__init__()
        self._blocks = iter(result.stream(min_chunk_size=_READ_BYTES))
        self._rest = memoryview(b"")
        self._key = key
        self._location = location

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # any writable buffer
        while not self._rest:
            with explained(f"read {self._key}", self._location):
                block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block).cast("B")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _condition(expected: Version | None) -> PutMode:
    """Return under which condition an object is replaced; a store that tells no version knows none."""
    if expected is None:
        return "create"
    condition: UpdateVersion = {}
    if expected.e_tag is not None:
        condition["e_tag"] = expected.e_tag
    if expected.generation is not None:
        condition["version"] = expected.generation
    return condition or "overwrite"


def _missing_bucket(location: str) -> DestinationError:
    return DestinationError(Code.DESTINATION_NOT_USABLE, f"the bucket of {location} does not exist")
