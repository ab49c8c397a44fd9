"""How a finished run becomes the published set, and how that set is read back: the one place of both (E-42, E-43).

Owns the order of publishing and the meaning of ``manifest.json``, ``manifest-<run_id>.json`` and ``_SUCCESS``.  Must not
know formats, sources, or where a destination keeps its bytes.

The order, each step acknowledged before the next:

1. every part is there with the size that was recorded (W2, W3);
2. ``manifest-<run_id>.json``: what this run made, never changed after it was published;
3. ``manifest.json`` replaced in one step: **this is the commit** (W4).  Before it readers see the old set, after it the new.
   The destination replaces it only if it still is what this publication has seen: of two that saw the same, one fails;
4. ``manifest.json`` reads back byte for byte;
5. ``_SUCCESS`` replaced by the digest of ``manifest.json`` (W5).

The old marker is left alone until step 5, although it is stale between 3 and 5.  Removing it first would unpublish the old set
for readers who wait for a marker, for as long as a crashed run stays down; and it lies to nobody: a marker counts only
while it holds the digest of the manifest beside it.  A run that fails before step 3 changes nothing that a reader follows.
The crash table is in docs/reference/outputs.md, and tests kill a process at every line of it.

Everything here blocks, and is called in a thread, in one call: cancelling the awaiting task cannot stop it half-way.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec

from procflow_export.destinations.crash import crash_point
from procflow_export.destinations.port import Destination, StoredObject
from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError, DestinationError
from procflow_export.model.manifest import (
    MANIFEST_KEY,
    MARKER_KEY,
    RUN_MANIFEST_PREFIX,
    Continuation,
    Manifest,
    StoredCursor,
    decode_manifest,
    encode_manifest,
    joined,
    run_manifest_key,
)

_READ_BYTES: Final = 1024 * 1024
_MARKER_TRIES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What ``publish()`` did.

    Attributes:
        manifest_key: The immutable manifest of the run.
        digest: ``sha256:<hex>`` of the manifest's bytes, as the marker holds it.
        superseded: Parts that the manifest before named and this one does not; they are still there.
    """

    manifest_key: str
    digest: str
    superseded: tuple[str, ...]


class Marker(enum.Enum):
    """What ``_SUCCESS`` says about the manifest beside it."""

    FRESH = "fresh"
    STALE = "stale"
    """It belongs to an earlier manifest: a publication was cut off after its commit."""
    MISSING = "missing"


class Depth(enum.Enum):
    """How much ``read_published()`` looks at."""

    SIZES = "sizes"
    """Every part is there and as long as the manifest says."""
    CHECKSUMS = "checksums"
    """Every part is read whole, and its digest compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The published set, and whether it is what its manifest says.

    Attributes:
        manifest: The canonical manifest.
        digest: ``sha256:<hex>`` of its bytes.
        marker: What the marker says.
        problems: One sentence for each part that is not as the manifest says, in the order of the parts.
    """

    manifest: Manifest
    digest: str
    marker: Marker
    problems: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether the marker is fresh and every part is as the manifest says."""
        return self.marker is Marker.FRESH and not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Every object of a destination by its standing; nothing here is ever removed by publishing.

    Attributes:
        published: Parts that the canonical manifest names.
        superseded: Parts that only manifests of other runs name.
        unknown: Objects that no manifest names: parts of runs that never published, and files of others.
    """

    published: tuple[str, ...]
    superseded: tuple[str, ...]
    unknown: tuple[str, ...]


def publish(destination: Destination, manifest: Manifest, *, continuation: Continuation | None = None) -> Publication:
    """Make what a run made the published set of ``destination``, or add it to the set.

    Repeating it after a crash, with the same manifest or with that of a new run, completes the publication.

    Args:
        destination: Where the parts are.
        manifest: What the run made.
        continuation: Which set it adds to; without one the run replaces whatever was published.

    Raises:
        DataError: When the manifest contradicts itself; nothing was written.
        DestinationError: When a part is not as recorded, when the place belongs to another export (nothing was written
            then), or when the destination fails.  A note says so if the commit had happened already.
    """
    _require_consistent(manifest)
    seen = destination.read(MANIFEST_KEY)
    previous = _own_manifest(destination, seen, manifest.export)
    published = manifest if continuation is None else _added(destination, manifest, previous, continuation)
    _require_stored_parts(destination, published)
    crash_point("publish.parts_verified")

    manifest_key = run_manifest_key(manifest.run_id)
    _store_run_manifest(destination, manifest_key, encode_manifest(manifest), previous)
    crash_point("publish.run_manifest_stored")

    digest = _swap(destination, published, seen)
    current = {part.key for part in published.parts}
    superseded = [part.key for part in previous.parts if part.key not in current] if previous else []
    return Publication(manifest_key=manifest_key, digest=digest, superseded=tuple(superseded))


def replace_cursor(destination: Destination, manifest: Manifest, cursor: StoredCursor | None) -> None:
    """Give the published set ``manifest`` another cursor, or none; its parts stay as they are.

    Raises:
        DestinationError: When another run published meanwhile, or the destination fails.
    """
    seen = destination.read(MANIFEST_KEY)
    if _own_manifest(destination, seen, manifest.export) != manifest:
        raise _published_meanwhile(destination)
    _swap(destination, msgspec.structs.replace(manifest, cursor=cursor), seen)


def _added(
    destination: Destination, manifest: Manifest, previous: Manifest | None, continuation: Continuation
) -> Manifest:
    """Return the set before with what the run made."""
    # The run's own set is there already when this publication is repeated after a crash.
    if previous is None or previous.run_id not in (continuation.run_id, manifest.run_id):
        raise _published_meanwhile(destination)
    published = joined(continuation.kept(previous), manifest)
    _require_consistent(published)
    return published


def _published_meanwhile(destination: Destination) -> DestinationError:
    return DestinationError(
        Code.PUBLISHED_MEANWHILE,
        f"what {destination.location} holds is not what this run went on from: another run published; nothing was changed",
    )


def _swap(destination: Destination, manifest: Manifest, seen: StoredObject | None) -> str:
    """Replace the published set, if it still is the one that was ``seen``, then its marker; return the manifest's digest."""
    data = encode_manifest(manifest)
    _commit(destination, data, seen)  # W4
    try:
        crash_point("publish.manifest_stored")
        current = _read_back(destination, data, seen)
        crash_point("publish.manifest_read_back")
        _settle_marker(destination, current)  # W5
        crash_point("publish.marker_stored")
    except DestinationError as exc:
        exc.add_note(f"the run is committed: {MANIFEST_KEY} names its parts; only {MARKER_KEY} is not up to date")
        raise
    return _digest(data)


def _commit(destination: Destination, data: bytes, seen: StoredObject | None) -> None:
    """Replace the manifest, if it still is the one that was seen."""
    expected = None if seen is None else seen.version
    try:
        if destination.replace(MANIFEST_KEY, data, expected=expected):
            return
    except DestinationError as exc:
        # An answer that was lost says nothing of what was done.
        if not _is_there(destination, data):
            exc.add_note(
                f"if the destination has done it all the same, {MANIFEST_KEY} names this run: the next run finds out"
            )
            raise
        return
    # A try that was repeated for a lost answer finds what the first one has stored.
    if not _is_there(destination, data):
        raise _published_meanwhile(destination)


def _is_there(destination: Destination, data: bytes) -> bool:
    try:
        return destination.get(MANIFEST_KEY) == data
    except DestinationError:
        return False


def _read_back(destination: Destination, data: bytes, seen: StoredObject | None) -> bytes:
    """Return the manifest that is there now: what was just stored, or what another run has put in its place since.

    Raises:
        DestinationError: If it is neither.
    """
    found = destination.get(MANIFEST_KEY)
    if found == data:
        return data
    is_old = seen is not None and found == seen.data
    if found is None or is_old or not _is_of_another_run(found, data):
        raise DestinationError(Code.DESTINATION_MISMATCH, f"{MANIFEST_KEY} does not read back as it was written")
    return found


def _is_of_another_run(found: bytes, data: bytes) -> bool:
    try:
        return decode_manifest(found).run_id != decode_manifest(data).run_id
    except msgspec.DecodeError:
        return False


def _settle_marker(destination: Destination, manifest: bytes) -> None:
    """Write the marker of the manifest that is there, and see that the two belong together.

    Another run may replace the manifest, or write its marker, between any two steps of this one.  Whoever writes a marker
    looks at the manifest after it, so that the last one leaves the right one.
    """
    for _ in range(_MARKER_TRIES):
        marker = _marker_bytes(_digest(manifest))
        destination.put(MARKER_KEY, marker)
        found = destination.get(MANIFEST_KEY)
        if found == manifest and destination.get(MARKER_KEY) == marker:
            return
        manifest = manifest if found is None else found
    raise DestinationError(Code.DESTINATION_MISMATCH, f"{MARKER_KEY} does not read back as it was written")


def finish_publication(destination: Destination) -> bool:
    """Write the marker that a crash after the commit left stale or missing; say whether there was anything to do.

    Raises:
        DestinationError: When parts of the published manifest are gone: such a set gets no fresh marker.
    """
    published = read_published(destination)
    if published is None or published.marker is Marker.FRESH:
        return False
    if published.problems:
        raise DestinationError(Code.DESTINATION_MISMATCH, published.problems[0])
    data = destination.get(MANIFEST_KEY)
    assert data is not None, "it was read just now, and is never removed"
    _settle_marker(destination, data)
    return True


def previous_manifest(destination: Destination, export: str) -> Manifest | None:
    """Return the canonical manifest, or ``None`` where nothing was published.

    Raises:
        DestinationError: When ``manifest.json`` is not one of ours or belongs to another export: replacing it would
            unpublish somebody's data.
    """
    return _own_manifest(destination, destination.read(MANIFEST_KEY), export)


def _own_manifest(destination: Destination, seen: StoredObject | None, export: str) -> Manifest | None:
    if seen is None:
        return None
    manifest = _decoded(seen.data)
    if manifest.export != export:
        raise DestinationError(
            Code.DESTINATION_NOT_USABLE,
            f"{destination.location} holds the published set of export {manifest.export!r}, not of {export!r}",
        )
    return manifest


def read_published(destination: Destination, *, depth: Depth = Depth.SIZES) -> Published | None:
    """Return the published set with its marker and parts checked, or ``None`` where nothing was published.

    Raises:
        DestinationError: When ``manifest.json`` cannot be read as a manifest.
    """
    data = destination.get(MANIFEST_KEY)
    if data is None:
        return None
    manifest = _decoded(data)
    digest = _digest(data)
    marker = _marker_beside(destination, digest)
    problems = _part_problems(destination, manifest)
    if depth is Depth.CHECKSUMS:
        sound = [part for part in manifest.parts if part.key not in problems]
        for part in sound:
            actual = _object_digest(destination, part.key)
            if actual != part.checksum:
                problems[part.key] = f"part {part.key} has digest {actual}, not {part.checksum}"
    return Published(manifest=manifest, digest=digest, marker=marker, problems=tuple(problems.values()))


def marker_of(destination: Destination) -> Marker:
    """Return what the marker says about the manifest beside it; ``MISSING`` too where nothing was published."""
    data = destination.get(MANIFEST_KEY)
    return Marker.MISSING if data is None else _marker_beside(destination, _digest(data))


def run_manifest(destination: Destination, run_id: str) -> Manifest | None:
    """Return the manifest of one run, if it left one."""
    data = destination.get(run_manifest_key(run_id))
    return None if data is None else _decoded(data)


def run_manifests(destination: Destination) -> dict[str, Manifest]:
    """Return the manifest of every run that left one, by key."""
    found = {}
    for info in destination.list(RUN_MANIFEST_PREFIX):
        data = destination.get(info.key) if info.key.endswith(".json") else None
        if data is not None:
            found[info.key] = _decoded(data)
    return found


def take_inventory(destination: Destination) -> Inventory:
    """Sort every object of ``destination`` by what names it; reads every manifest."""
    keys = [info.key for info in destination.list()]
    canonical = destination.get(MANIFEST_KEY)
    published = {part.key for part in _decoded(canonical).parts} if canonical is not None else set()
    manifests = run_manifests(destination)
    named = {part.key for manifest in manifests.values() for part in manifest.parts}
    own = manifests.keys() | {MANIFEST_KEY, MARKER_KEY}
    rest = [key for key in keys if key not in own and key not in published]
    return Inventory(
        published=tuple(key for key in keys if key in published),
        superseded=tuple(key for key in rest if key in named),
        unknown=tuple(key for key in rest if key not in named),
    )


def _require_consistent(manifest: Manifest) -> None:
    keys = [part.key for part in manifest.parts]
    if len(set(keys)) != len(keys):
        raise DataError(Code.ROW_COUNT_MISMATCH, "the manifest names a part twice")
    if sum(part.row_count for part in manifest.parts) != manifest.row_count:
        raise DataError(Code.ROW_COUNT_MISMATCH, "the rows of the parts do not add up to the rows of the manifest")


def _require_stored_parts(destination: Destination, manifest: Manifest) -> None:
    problems = list(_part_problems(destination, manifest).values())
    if problems:
        error = DestinationError(Code.DESTINATION_MISMATCH, f"{problems[0]}; nothing was published")
        for problem in problems[1:10]:
            error.add_note(problem)
        raise error


def _part_problems(destination: Destination, manifest: Manifest) -> dict[str, str]:
    """What is wrong with which part, by one listing: a look at each object costs a round trip at a store."""
    sizes = {info.key: info.size_bytes for info in destination.list()}
    problems = {}
    for part in manifest.parts:
        size_bytes = sizes.get(part.key)
        if size_bytes is None:
            problems[part.key] = f"part {part.key} is missing"
        elif size_bytes != part.size_bytes:
            problems[part.key] = f"part {part.key} has {size_bytes} bytes, not {part.size_bytes}"
    return problems


def _store_run_manifest(destination: Destination, key: str, data: bytes, previous: Manifest | None) -> None:
    try:
        destination.create(key, data)
    except FileExistsError:
        if destination.get(key) == data:
            return
        # A run that was resumed after a crash tells a different story, and may, as long as the first was not committed.
        if previous is not None and run_manifest_key(previous.run_id) == key:
            raise DestinationError(Code.DESTINATION_MISMATCH, f"{key} is published already and cannot change") from None
        destination.put(key, data)


def _marker_beside(destination: Destination, digest: str) -> Marker:
    stored = destination.get(MARKER_KEY)
    if stored is None:
        return Marker.MISSING
    return Marker.FRESH if stored == _marker_bytes(digest) else Marker.STALE


def _marker_bytes(digest: str) -> bytes:
    return f"{digest}\n".encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _object_digest(destination: Destination, key: str) -> str:
    digest = hashlib.sha256()
    with destination.open_object(key) as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _decoded(data: bytes) -> Manifest:
    try:
        return decode_manifest(data)
    except msgspec.DecodeError as exc:
        raise DestinationError(
            Code.DESTINATION_NOT_USABLE, f"{MANIFEST_KEY} is there, but is no manifest of this program: {exc}"
        ) from exc
