"""One part on its way to an object store: a multipart upload that becomes an object when it is complete.

Owns the blocks of an upload and the digests over them.  A store shows nothing of an upload before it is completed (W1), and
one that is abandoned is aborted; after SIGKILL its blocks stay, invisible, until ``remove_stale()`` or a rule of the bucket
removes them.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from typing import TYPE_CHECKING, Final

import obstore

from procflow_export.destinations.port import StoredPart
from procflow_export.destinations.stores.failures import STORE_ERRORS, explained

if TYPE_CHECKING:
    from obstore.store import ObjectStore

BLOCK_BYTES: Final = 8 << 20
BLOCKS_AT_ONCE: Final = 2
"""Blocks that travel at the same time, while a further one is filled."""
UPLOAD_BYTES: Final = (BLOCKS_AT_ONCE + 1) * BLOCK_BYTES
"""What one part on its way holds in memory."""
MAX_PART_BYTES: Final = 64 << 30
"""Where a part ends at the latest: S3 and GCS take 10 000 blocks, which are 78 GiB; the rest is room for a last row group."""


class StorePart:
    """A ``PartSink`` over a multipart upload.

    Args:
        store: Where to.
        key: Name of the object.
        location: The store, for messages.
        counts_blocks: Whether the store's own digest will be compared, which is made of those of its blocks.
    """

    def __init__(self, store: ObjectStore, key: str, location: str, *, counts_blocks: bool) -> None:
        self.key = key
        self.size_bytes = 0
        self._location = location
        self._hash = hashlib.sha256()
        self._blocks = _Blocks() if counts_blocks else None
        self._stored: StoredPart | None = None
        with explained(f"store {key}", location):
            self._writer = obstore.open_writer(store, key, buffer_size=BLOCK_BYTES, max_concurrency=BLOCKS_AT_ONCE)

    @property
    def stored(self) -> StoredPart:
        if self._stored is None:
            raise RuntimeError(f"part {self.key} is not stored")
        return self._stored

    @property
    def checksum(self) -> str:
        """Digest of what was written so far, as parts are recorded with it."""
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        view = memoryview(data).cast("B")
        # In blocks: a writer takes what it is given at once, and a row may be larger than all of a part's blocks.
        for start in range(0, len(view), BLOCK_BYTES):
            # obstore keeps what it is given, uncopied, until it is sent; whoever gave it may write into it before that.
            block = bytes(view[start : start + BLOCK_BYTES])
            with explained(f"store {self.key}", self._location):
                self._writer.write(block)
            self._hash.update(block)
            if self._blocks is not None:
                self._blocks.update(block)
        self.size_bytes += len(view)
        return len(view)

    def complete(self) -> None:
        """Have the store make an object of what it has received."""
        with explained(f"store {self.key}", self._location):
            self._writer.close()

    def abort(self) -> None:
        """Have the store forget what it has received; called where an exception is on its way."""
        # What goes wrong here is told by that exception, or comes of the same cause.
        with contextlib.suppress(*STORE_ERRORS):
            self._writer.__exit__(*sys.exc_info())

    def is_digest(self, e_tag: str | None) -> bool:
        """Whether an entity tag is the digest of what was written; if not, it may be no digest at all."""
        return e_tag is not None and self._blocks is not None and e_tag.strip('"').lower() in self._blocks.e_tags()

    def seal(self) -> None:
        """Say what was stored (W2)."""
        self._stored = StoredPart(key=self.key, size_bytes=self.size_bytes, checksum=self.checksum)


class _Blocks:
    """The digest that S3 and its relatives give an object that came in blocks: that of the digests of its blocks."""

    def __init__(self) -> None:
        self._whole = _md5()
        self._block = _md5()
        self._block_bytes = 0
        self._digests = b""

    def update(self, block: bytes) -> None:
        self._whole.update(block)
        data = memoryview(block)
        while data:
            piece = data[: BLOCK_BYTES - self._block_bytes]
            self._block.update(piece)
            self._block_bytes += len(piece)
            data = data[len(piece) :]
            if self._block_bytes == BLOCK_BYTES:
                self._end_block()

    def e_tags(self) -> tuple[str, str]:
        """Return the tags that the object may have, in one piece and in blocks."""
        if self._block_bytes:
            self._end_block()
        count = len(self._digests) // 16
        return self._whole.hexdigest(), f"{_md5(self._digests).hexdigest()}-{count}"

    def _end_block(self) -> None:
        self._digests += self._block.digest()
        self._block = _md5()
        self._block_bytes = 0


def _md5(data: bytes = b"") -> hashlib._Hash:
    return hashlib.md5(data, usedforsecurity=False)
