"""What runs before this one left behind: adopted, gone on with, or swept away.

Owns the first look at a destination, under the lease of the export: nobody else works on it now, so every run of this state
that is not finished has died.  Three things follow, in this order:

1. **adopt** (W6): the manifest is the truth.  A run that had published before it could say so did publish;
2. **go on** (``--resume``): finished chunks of the last run are kept, if they can be;
3. **sweep**: parts and run manifests of runs that never published, and hidden files without a writer, are removed.

Only what this state knows to be left by a dead run of this export is removed; everything else is ``state gc``'s, and what was
published ever is nobody's but the operator's.  What was published ever is told by the manifests of runs, which lie at the
destination, and never by the ledger: others may have published there since, of whom it knows nothing.

A path with a day or a run in it has a place for each: every run is looked for at its own.  Everything here blocks and is
called in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import msgspec

from procflow_export.destinations import (
    Destination,
    Marker,
    finish_publication,
    marker_of,
    previous_manifest,
    run_manifest,
)
from procflow_export.model.destination import DestinationConfig
from procflow_export.model.errors import DestinationError
from procflow_export.model.ledger import ExportEntry, Standing
from procflow_export.model.manifest import RUN_MANIFEST_PREFIX, Manifest, run_manifest_key
from procflow_export.planning.plan import Target
from procflow_export.planning.resume import Unfinished, unfinished
from procflow_export.state import StateStore

ADOPTED = "ADOPTED"
"""Code of the warning that a run before had published without being able to say so."""
SET_GONE = "SET_GONE"
"""Code of the warning that a published set is no longer where it was."""
LEFTOVERS = "LEFTOVERS"
"""Code of the warning that something of a dead run could not be removed."""
PARTS_GONE = "PARTS_GONE"
"""Code of the warning that nothing is left of the parts that a run was to go on with."""

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
    entries = _adopt_elsewhere(target, store, open_place, past, entries, now)
    entries = _adopt(target, store, past, entries, now)
    past.work_s = next((entry.work_s for entry in entries if entry.standing is Standing.SUCCESS), None)
    if resume:
        _go_on(past, entries, store, destination, open_place)
    kept_run = past.left.run_id if past.left is not None else None
    kept = past.left.part_keys if past.left is not None else frozenset()
    destination.remove_stale()
    for entry in entries:
        if not entry.is_swept and entry.run_id != kept_run:
            sweep(entry, entries, store, open_place, past.remarks, keeping=kept)
    return past


def sweep(
    entry: ExportEntry,
    entries: Sequence[ExportEntry],
    store: StateStore,
    open_place: Places,
    remarks: list[Remark],
    *,
    keeping: Collection[str] = (),
) -> None:
    """Remove what a run left that no manifest names, and remember that.

    Args:
        entry: The run; it has ended.
        entries: All runs of the export that are remembered.
        store: What is remembered.
        open_place: Destinations.
        remarks: Is told what could not be removed.
        keeping: Keys of parts that another run has taken over.
    """
    try:
        removed = _sweep(entry, entries, store, open_place(entry.place.destination), keeping)
    except DestinationError as exc:
        # No manifest will name it: that it is still there is untidy, not wrong.
        remarks.append(Remark(code=LEFTOVERS, message=f"leftovers of run {entry.run_id} stay: {exc.message}"))
        return
    store.sweep(entry.run_id, entry.export, removed)


def never_published(
    entries: Iterable[ExportEntry], published: Manifest | None, manifest_keys: Collection[str]
) -> set[str]:
    """Return the ids of the runs that are known to have published nothing.

    A run that ended without a word did publish if it is named by the manifest; but somebody who does not share this state may
    have published in its place since.  Then nobody can tell of a run that had come to its own manifest.

    Args:
        entries: All runs of an export that are remembered; none of them is running.
        published: The published set of a destination.
        manifest_keys: Keys of the manifests of all runs there.
    """
    own = {run_manifest_key(entry.run_id): entry for entry in entries}
    current = None if published is None else run_manifest_key(published.run_id)
    has_others = any(key not in own for key in (*manifest_keys, *([] if current is None else [current])))
    return {
        entry.run_id
        for key, entry in own.items()
        if entry.standing is not Standing.SUCCESS and key != current and not (has_others and key in manifest_keys)
    }


def _sweep(
    entry: ExportEntry,
    entries: Sequence[ExportEntry],
    store: StateStore,
    destination: Destination,
    keeping: Collection[str],
) -> list[str]:
    destination.remove_stale((entry.place.part_stem,))
    manifest_keys = {info.key for info in destination.list(RUN_MANIFEST_PREFIX)}
    published = previous_manifest(destination, entry.export)
    never = never_published(entries, published, manifest_keys)
    found = {info.key for info in destination.list(entry.place.part_stem)}
    recorded = (
        part.key
        for chunk in store.chunks(entry.run_id, entry.export)
        if chunk.result is not None
        for part in chunk.result.parts
    )
    left = found.union(recorded).difference(keeping)
    if published is not None:
        left.difference_update(part.key for part in published.parts)
    for run_id in _family(entry, entries) - never if left else ():
        named = run_manifest(destination, run_id)
        if named is not None:
            left.difference_update(part.key for part in named.parts)
        elif run_id == entry.run_id:
            left.clear()  # it published, and nobody knows what
    removed = sorted(left)
    for key in removed:
        destination.remove(key)
    if entry.run_id in never:
        destination.remove(run_manifest_key(entry.run_id))
    return removed


def _family(entry: ExportEntry, entries: Iterable[ExportEntry]) -> set[str]:
    """Return the ids of all runs that may have parts in common with a run: some have gone on with others."""
    found = {entry.run_id}
    links = {frozenset((each.run_id, each.resumed_from)) for each in entries if each.resumed_from is not None}
    while near := {link for link in links if found & link}:
        links -= near
        found.update(*near)
    return found


def _finish_marker(destination: Destination, past: Past) -> None:
    """Write the marker that a crash after the commit left stale or missing (W5)."""
    if marker_of(destination) is Marker.FRESH:
        return
    try:
        finish_publication(destination)
    except DestinationError as exc:
        past.remarks.append(Remark(code=exc.code.value, message=f"the published set is damaged: {exc.message}"))


def _adopt_elsewhere(
    target: Target, store: StateStore, open_place: Places, past: Past, entries: list[ExportEntry], now: str
) -> list[ExportEntry]:
    """Adopt what runs before have published at places that are not this run's: oldest first, as they would have."""
    for entry in reversed(entries):
        if entry.is_swept or entry.standing is Standing.SUCCESS or entry.place.destination == target.destination:
            continue
        try:
            destination = open_place(entry.place.destination)
            manifest = previous_manifest(destination, entry.export)
        except DestinationError:
            continue  # who sweeps there says so
        if manifest is not None and manifest.run_id == entry.run_id:
            _finish_marker(destination, past)
            entries = _adopted(manifest, store, past, entries, now)
    return entries


def _adopt(target: Target, store: StateStore, past: Past, entries: list[ExportEntry], now: str) -> list[ExportEntry]:
    """Let the state follow the manifest (W6); return the entries as they are then."""
    seen = store.cursor(target.export.name)
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
    return _adopted(manifest, store, past, entries, now)


def _adopted(
    manifest: Manifest, store: StateStore, past: Past, entries: list[ExportEntry], now: str
) -> list[ExportEntry]:
    store.publish(manifest.run_id, manifest.export, manifest.cursor, (), now)
    adopted = []
    for entry in entries:
        if entry.run_id == manifest.run_id and entry.standing is not Standing.SUCCESS:
            message = f"run {entry.run_id} had published before it ended: its set is adopted"
            past.remarks.append(Remark(code=ADOPTED, message=message))
            adopted.append(msgspec.structs.replace(entry, standing=Standing.SUCCESS))
        else:
            adopted.append(entry)
    return adopted


def _go_on(
    past: Past, entries: list[ExportEntry], store: StateStore, destination: Destination, open_place: Places
) -> None:
    """Find out what the last run left to do."""
    last = _last(entries)
    if last is None:
        return
    if last.standing in (Standing.SUCCESS, Standing.SKIPPED):
        if _was_cut_off(store, last.run_id) and _is_done(last, open_place):
            past.done_by = last.run_id
        return
    left = unfinished(last, store.chunks(last.run_id, last.export))
    past.left = _still_there(left, destination)
    if left is not None and past.left is None:
        message = f"no part that run {left.run_id} had finished is at {destination.location}: everything is read again"
        past.remarks.append(Remark(code=PARTS_GONE, message=message))


def _last(entries: list[ExportEntry]) -> ExportEntry | None:
    """Return the run that there is to go on with: one that died before it had a plan is still going on with another."""
    runs = {entry.run_id: entry for entry in entries}
    last = entries[0] if entries else None
    while last is not None and last.plan is None and last.standing.is_unfinished:
        last = None if last.resumed_from is None else runs.get(last.resumed_from)
    return last


def _is_done(last: ExportEntry, open_place: Places) -> bool:
    """Whether what the last run published, or found to be all there is, is still there."""
    try:
        manifest = previous_manifest(open_place(last.place.destination), last.export)
    except DestinationError:
        return False
    return manifest is not None and (last.standing is Standing.SKIPPED or manifest.run_id == last.run_id)


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
