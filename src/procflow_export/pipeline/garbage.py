"""What lies at a destination without being part of the published set, and how it is removed on request.

Owns ``state gc``.  An export removes by itself only what a dead run of its own never published (see ``aftermath``); what was
published and is superseded stays until somebody asks, since a reader may hold an old manifest; and what no run of this state
made is shown and never touched.  Everything here blocks and is called in a thread, under the lease of the export.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from procflow_export.destinations import Destination, previous_manifest, run_manifests
from procflow_export.model.ledger import FileEntry
from procflow_export.model.manifest import MANIFEST_KEY, MARKER_KEY, Manifest, run_manifest_key
from procflow_export.pipeline.aftermath import never_published
from procflow_export.state import StateStore


class Why(StrEnum):
    """Why an object is not part of the published set."""

    SUPERSEDED = "superseded"
    """It was, until a later run published without it."""
    LEFTOVER = "leftover"
    """A run that never published left it."""
    UNKNOWN = "unknown"
    """No manifest names it, and no run of this state made it: it is never removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """One object that is not part of the published set.

    Attributes:
        key: Its key.
        size_bytes: Its size.
        why: Why it is not.
        since: When it was superseded, as far as is known; ``None`` where that does not matter.
        is_removable: Whether ``remove_garbage()`` removes it.
    """

    key: str
    size_bytes: int
    why: Why
    since: datetime | None
    is_removable: bool


def find_garbage(
    destination: Destination, store: StateStore, export: str, *, now: datetime, older_than: timedelta
) -> list[Garbage]:
    """Return every object beside the published set of ``export``, by key; a superseded one is removable at a certain age.

    Raises:
        DestinationError: If the place is another export's, or fails.
    """
    published = previous_manifest(destination, export)
    entries = store.exports(export=export)
    named = {MANIFEST_KEY, MARKER_KEY}
    if published is not None:
        named.update([run_manifest_key(published.run_id), *(part.key for part in published.parts)])
    manifests = run_manifests(destination)
    # The story of parts that are still in the set.
    named.update(key for key, manifest in manifests.items() if any(part.key in named for part in manifest.parts))
    never = never_published(entries, published, manifests)  # the lease is ours: nobody runs
    stems = tuple(entry.place.part_stem for entry in entries if entry.run_id in never)
    left = {run_manifest_key(run_id) for run_id in never}
    told = {key: manifest for key, manifest in manifests.items() if key not in left}
    superseded = {} if published is None else _superseded(told, published, named, store.files(export))
    found = []
    for info in destination.list():
        if info.key in named:
            continue
        why, since = Why.UNKNOWN, None
        if info.key in left or (stems and info.key.startswith(stems) and info.key not in superseded):
            why = Why.LEFTOVER
        elif info.key in superseded:
            why, since = Why.SUPERSEDED, superseded[info.key]
        is_old = since is None or now - since >= older_than
        found.append(
            Garbage(
                key=info.key,
                size_bytes=info.size_bytes,
                why=why,
                since=since,
                is_removable=why is not Why.UNKNOWN and is_old,
            )
        )
    return found


def remove_garbage(destination: Destination, store: StateStore, export: str, garbage: Iterable[Garbage]) -> None:
    """Remove what is removable of ``garbage``, and unfinished files and uploads.

    Parts go before the manifests that name them, so that a crash in between makes nothing unknown.
    """
    removable = sorted(
        (each.key for each in garbage if each.is_removable), key=lambda key: (key.startswith("manifest-"), key)
    )
    destination.remove_stale([entry.place.part_stem for entry in store.exports(export=export)])
    for key in removable:
        destination.remove(key)
    store.forget_files(export, removable)


def _superseded(
    manifests: Mapping[str, Manifest], published: Manifest, named: Collection[str], files: Iterable[FileEntry]
) -> dict[str, datetime]:
    """Return what manifests name that is not in the set, and those none of whose parts is, with the time since when."""
    noted = {file.key: _moment(file.superseded_at) for file in files if file.superseded_at is not None}
    found: dict[str, datetime] = {}
    for key, manifest in manifests.items():
        # Without a note of it, the time of the newest publication is the latest that it can have been; and what was made
        # after that may be published by somebody else at this moment.
        latest = max(_moment(published.finished_at), _moment(manifest.finished_at))
        ended = {part.key: noted.get(part.key, latest) for part in manifest.parts if part.key not in named}
        found |= ended
        if key not in named:
            found[key] = max(ended.values(), default=latest)
    return found


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
