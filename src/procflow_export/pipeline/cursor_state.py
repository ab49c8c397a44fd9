"""What is stored of an export's progress, and the two ways to change that by hand.

Owns ``show``, ``accept`` and ``reset`` of a cursor (spec E-13), over the published set's manifest, which the state follows (W6).  A
source is opened for its identity alone: nothing here connects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import anyio
import anyio.to_thread
import msgspec

from procflow_export.destinations import open_destination, replace_cursor
from procflow_export.model.codes import Code
from procflow_export.model.errors import MisuseError, PlanError
from procflow_export.model.manifest import CursorOwner, Manifest, StoredCursor
from procflow_export.model.times import rfc3339
from procflow_export.pipeline.machine import utc_now
from procflow_export.pipeline.prepare import published_set
from procflow_export.planning.cursors import changes_of, is_acceptable
from procflow_export.planning.plan import Target
from procflow_export.sources import open_source
from procflow_export.state import StateStore


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorState:
    """What is known of one export.

    Attributes:
        target: The export as it is configured now.
        owner: What a cursor of it belongs to now.
        published: The published set; ``None`` when there is none.
    """

    target: Target
    owner: CursorOwner
    published: Manifest | None

    @property
    def cursor(self) -> StoredCursor | None:
        """The stored cursor, whomever it belongs to."""
        return None if self.published is None else self.published.cursor

    @property
    def changes(self) -> list[str]:
        """What makes the stored cursor another export's; empty when it is its own, or there is none."""
        return [] if self.cursor is None else changes_of(self.cursor.owner, self.owner)


async def cursor_state(target: Target, environ: Mapping[str, str], threads: anyio.CapacityLimiter) -> CursorState:
    """Return what is stored for an export.

    Raises:
        ExportError: If the configuration of the source leads nowhere, or the destination cannot be read.
    """
    async with open_source(target.source, environ=environ) as source:
        owner = target.owner(source.identity)
    return CursorState(target=target, owner=owner, published=await published_set(target, threads))


async def accept_cursor(state: CursorState, store: StateStore, threads: anyio.CapacityLimiter) -> None:
    """Make the stored cursor the export's own, as it is configured now; position and parts stay.

    Raises:
        MisuseError: If there is no cursor, or it is its own already.
        PlanError: If the position would mean something else for the export as it is now.
        DestinationError: If the destination failed, or another run published meanwhile.
        StateError: If a run works on the export, or the state cannot be used.
    """
    cursor = _stored(state)
    if not state.changes:
        raise MisuseError(f"the cursor of {state.target.export.name!r} is its own: there is nothing to accept")
    if not state.target.export.is_cumulative or not is_acceptable(cursor.owner, state.owner):
        error = PlanError(
            Code.CURSOR_NOT_OWNED, f"the position of the stored cursor cannot be kept: {'; '.join(state.changes)}"
        )
        error.add_note("`state reset` lets the next run export everything anew and replace the set")
        raise error
    await _replace(state, msgspec.structs.replace(cursor, owner=state.owner), store, threads)


async def reset_cursor(state: CursorState, store: StateStore, threads: anyio.CapacityLimiter) -> None:
    """Forget the stored cursor: the next run exports everything anew, and replaces the set, which is read until then.

    Raises:
        MisuseError: If there is no cursor.
        DestinationError: If the destination failed, or another run published meanwhile.
        StateError: If a run works on the export, or the state cannot be used.
    """
    _stored(state)
    await _replace(state, None, store, threads)


def _stored(state: CursorState) -> StoredCursor:
    if state.cursor is None:
        raise MisuseError(f"no cursor is stored for {state.target.export.name!r}: the next run exports everything")
    return state.cursor


async def _replace(
    state: CursorState, cursor: StoredCursor | None, store: StateStore, threads: anyio.CapacityLimiter
) -> None:
    published, export = state.published, state.target.export.name
    assert published is not None, "a cursor is part of a published set"
    async with open_destination(state.target.destination, environ=state.target.environ) as destination:

        def replace() -> None:
            with store.leased(export, None):
                replace_cursor(destination, published, cursor)
                store.publish(published.run_id, export, cursor, (), rfc3339(utc_now()))

        await anyio.to_thread.run_sync(replace, limiter=threads)
