"""``state``: how far exports that go on from run to run have come, and what to do when one was edited."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial

import anyio
from rich.text import Text

from procflow_export.cli.exporting import BACKEND
from procflow_export.cli.face import Face
from procflow_export.cli.interrupts import STATUS_OF, Interrupts
from procflow_export.cli.run import loaded_config
from procflow_export.config.structs import LoadedConfig
from procflow_export.exporter import Exporter
from procflow_export.pipeline.cursor_state import CursorState, accept_cursor, cursor_state, reset_cursor
from procflow_export.planning.keys import described
from procflow_export.ui import words
from procflow_export.ui.clean import one_line

MAX_AT_ONCE = 4


def state_command(parsed: argparse.Namespace, face: Face, interrupts: Interrupts) -> int:
    """Show, accept or reset the cursors of exports; return the exit status."""
    loaded = loaded_config(parsed, face)
    interrupts.hold()
    anyio.run(partial(_act, parsed.action, loaded, parsed.exports, face, interrupts), backend=BACKEND)
    return 0 if interrupts.first is None else STATUS_OF[interrupts.first]


async def _act(action: str, loaded: LoadedConfig, names: Sequence[str], face: Face, interrupts: Interrupts) -> None:
    # The exporter gives the targets, and knows misspelt names: nothing is started.
    async with Exporter(loaded, exports=names or None) as exporter:
        targets = exporter.targets
    threads = anyio.CapacityLimiter(MAX_AT_ONCE)
    with anyio.CancelScope() as scope:
        interrupts.attach(scope.cancel)
        states = [await cursor_state(target, os.environ, threads) for target in targets]
        for state in states:
            if action == "accept":
                await accept_cursor(state, threads)
                face.tell(f"{one_line(state.target.export.name)}: the cursor is its own again; the next run goes on")
            elif action == "reset":
                await reset_cursor(state, threads)
                face.tell(
                    f"{one_line(state.target.export.name)}: the cursor is forgotten; the next run exports everything and"
                    " replaces the published set, which stays until then"
                )
            elif not face.is_quiet:
                face.show(_rows(state))
        if face.is_json:
            face.data({"exports": [_data(state) for state in states], "action": action})


def _rows(state: CursorState) -> list[Text]:
    title = Text.assemble(" ", (one_line(state.target.export.name), "bold"), f"  {state.owner.mode}")
    published = state.published
    if published is None:
        return [title.append(", nothing is published")]
    title.append(f", {words.plural(published.row_count, 'row')} in {words.plural(len(published.parts), 'part')}")
    cursor = state.cursor
    if cursor is None:
        return [title.append(", no cursor")]
    position = "before the first row" if cursor.position is None else ", ".join(map(str, cursor.position))
    rows = [title, Text.assemble("   ", ("cursor    ", "dim"), one_line(f"{described(cursor.key)}: {position}"))]
    rows += [Text.assemble("   ", ("not its own  ", "bold yellow"), one_line(change)) for change in state.changes]
    return rows


def _data(state: CursorState) -> dict[str, object]:
    published, cursor = state.published, state.cursor
    return {
        "export": state.target.export.name,
        "mode": state.owner.mode,
        "run_id": None if published is None else published.run_id,
        "row_count": 0 if published is None else published.row_count,
        "part_count": 0 if published is None else len(published.parts),
        "cursor": cursor,
        "changes": state.changes,
    }
