"""What runs before this one left behind: adopted, gone on with, or swept away.

Owns the first look at a destination, under the lease of the export: nobody else works on it now, so every run of this state
that is not finished has died.  Three things follow, in this order:

1. **adopt** (W6): the manifest is the truth.  A run that had published before it could say so did publish;
2. **go on** (``--resume``): finished chunks of the last run are kept, if they can be;
3. **sweep**: parts and run manifests of runs that never published, and hidden files without a writer, are removed.

Only what this state knows to be left by a dead run of this export is removed; everything else is ``state gc``'s, and what was
published ever is nobody's but the operator's.  Everything here blocks and is called in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import msgspec

from procflow_export.destinations import Destination, Marker, finish_publication, marker_of, previous_manifest
from procflow_export.model.destination import DestinationConfig
from procflow_export.model.errors import DestinationError
from procflow_export.model.ledger import ExportEntry, Standing
from procflow_export.model.manifest import Manifest, run_manifest_key
from procflow_export.planning.plan import Target
from procflow_export.planning.resume import Unfinished, unfinished
from procflow_export.state import StateStore

ADOPTED = "ADOPTED"
"""Code of the warning that a run before had published without being able to say so."""
SET_GONE = "SET_GONE"
"""Code of the warning that a published set is no longer where it was."""
LEFTOVERS = "LEFTOVERS"
"""Code of the warning that something of a dead run could not be removed."""

Places: TypeAlias = Callable[[DestinationConfig], Destination]
"""Returns an open destination; raises what opening it raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Something that the operator should know of the runs before."""

    code: str
    message: str


@dataclass(slots=True, kw_only=True)
class Past:
    """What the runs before mean for this one.

    Attributes:
        published: The published set.
        left: What the last run left to go on with, if that is wanted.
        done_by: The run that was cut off, but had done this export already; only if going on is wanted.
        work_s: Seconds that the last published run's units took; ``None`` if there was none.
        remarks: What the operator should know.
    """

    published: Manifest | None = None
    left: Unfinished | None = None
    done_by: str | None = None
    work_s: float | None = None
    remarks: list[Remark] = field(default_factory=list)


def look_back(
    target: Target,
    store: StateStore,
    open_place: Places,
    *,
    now: str,
    resume: bool,
) -> Past:
    """Adopt, decide, and sweep.

    Args:
        target: The export.
        store: What is remembered.
        open_place: The destinations of this run and of those before.
        now: The time, RFC 3339.
        resume: Whether the run goes on with what the last one left.

    Raises:
        DestinationError: If another export publishes there, or the place cannot be used.
        StateError: If the state cannot be used.
    """
    export = target.export.name
    destination = open_place(target.destination)
    past = Past(published=previous_manifest(destination, export))
    _finish_marker(destination, past)
    entries = [_ended(entry) for entry in store.exports(export=export) if entry.run_id != target.run_id]
    entries = _adopt(target, store, past, entries, now)
    past.work_s = next((entry.work_s for entry in entries if entry.standing is Standing.SUCCESS), None)
    last = entries[0] if resume and entries else None
    if last is not None and last.standing in (Standing.SUCCESS, Standing.SKIPPED) and _was_cut_off(store, last.run_id):
        past.done_by = last.run_id
    elif last is not None and last.standing.is_unfinished:
        past.left = _still_there(unfinished(last, store.chunks(last.run_id, export)), destination)
    kept_run = past.left.run_id if past.left is not None else None
    kept = past.left.part_keys if past.left is not None else frozenset()
    destination.remove_stale()
    for entry in entries:
        if not entry.is_swept and entry.run_id != kept_run:
            sweep(entry, store, open_place, past.remarks, entries, keeping=kept)
    return past


def sweep(
    entry: ExportEntry,
    store: StateStore,
    open_place: Places,
    remarks: list[Remark],
    entries: Iterable[ExportEntry] = (),
    *,
    keeping: Collection[str] = (),
) -> None:
    """Remove what a run left that no manifest names, and remember that.

    Args:
        entry: The run; it has ended.
        store: What is remembered.
        open_place: Destinations.
        remarks: Is told what could not be removed.
        entries: All runs of the export that are remembered.
        keeping: Keys of parts that another run has taken over.
    """
    try:
        destination = open_place(entry.place.destination)
        removed = _sweep(entry, store, destination, {each.run_id for each in entries}, keeping)
    except DestinationError as exc:
        # No manifest will name it: that it is still there is untidy, not wrong.
        remarks.append(Remark(code=LEFTOVERS, message=f"leftovers of run {entry.run_id} stay: {exc.message}"))
        return
    if removed is not None:
        store.sweep(entry.run_id, entry.export, removed)


def _sweep(
    entry: ExportEntry, store: StateStore, destination: Destination, known: Collection[str], keeping: Collection[str]
) -> list[str] | None:
    manifest = previous_manifest(destination, entry.export)
    is_published = entry.standing is Standing.SUCCESS
    if manifest is not None and manifest.run_id != entry.run_id and manifest.run_id not in known and not is_published:
        # Somebody who does not share this state has published in between, perhaps after this run did: not ours to judge.
        return None
    destination.remove_stale((entry.place.part_stem,))
    named = set(keeping)
    if manifest is not None:
        named.update(part.key for part in manifest.parts)
    named.update(file.key for file in store.files(entry.export) if file.superseded_at is not None)
    recorded = (
        part.key
        for chunk in store.chunks(entry.run_id, entry.export)
        if chunk.result is not None
        for part in chunk.result.parts
    )
    found = {info.key for info in destination.list(entry.place.part_stem)}
    removed = sorted(found.union(recorded) - named)
    for key in removed:
        destination.remove(key)
    if not is_published:
        destination.remove(run_manifest_key(entry.run_id))
    return removed


def _finish_marker(destination: Destination, past: Past) -> None:
    """Write the marker that a crash after the commit left stale or missing (W5)."""
    if past.published is None or marker_of(destination) is Marker.FRESH:
        return
    try:
        finish_publication(destination)
    except DestinationError as exc:
        past.remarks.append(Remark(code=exc.code.value, message=f"the published set is damaged: {exc.message}"))


def _adopt(target: Target, store: StateStore, past: Past, entries: list[ExportEntry], now: str) -> list[ExportEntry]:
    """Let the state follow the manifest (W6); return the entries as they are then."""
    export = target.export.name
    seen = store.cursor(export)
    manifest = past.published
    if manifest is None:
        by = None if seen is None else next((entry for entry in entries if entry.run_id == seen.run_id), None)
        if by is not None and by.place.destination == target.destination:
            message = (
                f"the set that run {by.run_id} published is gone from its destination: everything is exported anew"
            )
            past.remarks.append(Remark(code=SET_GONE, message=message))
        return entries
    if seen is not None and (seen.run_id, seen.cursor) == (manifest.run_id, manifest.cursor):
        return entries
    store.publish(manifest.run_id, export, manifest.cursor, (), now)
    for at, entry in enumerate(entries):
        if entry.run_id == manifest.run_id and entry.standing is not Standing.SUCCESS:
            message = f"run {entry.run_id} had published before it ended: its set is adopted"
            past.remarks.append(Remark(code=ADOPTED, message=message))
            entries[at] = msgspec.structs.replace(entry, standing=Standing.SUCCESS)
    return entries


def _ended(entry: ExportEntry) -> ExportEntry:
    """Return the entry of a run that cannot be running: the lease is ours."""
    is_dead = entry.standing is Standing.RUNNING
    return msgspec.structs.replace(entry, standing=Standing.DIED) if is_dead else entry


def _was_cut_off(store: StateStore, run_id: str) -> bool:
    """Whether a run ended before all of its exports were published."""
    run = store.run(run_id)
    return run is not None and run.standing is not Standing.SUCCESS


def _still_there(left: Unfinished | None, destination: Destination) -> Unfinished | None:
    """Return what is left without the chunks whose parts are not as they were recorded (lesson 7: the ledger says which)."""
    if left is None:
        return None
    sizes = {info.key: info.size_bytes for info in destination.list()}
    results = {
        chunk: result
        for chunk, result in left.results.items()
        if all(sizes.get(part.key) == part.size_bytes for part in result.parts)
    }
    return replace(left, results=results) if results else None
