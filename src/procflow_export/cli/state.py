"""``state``: what is remembered of runs, what lies at destinations, and what to do when an export was edited."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
from rich.text import Text

from procflow_export.cli.exporting import BACKEND
from procflow_export.cli.face import Face
from procflow_export.cli.interrupts import STATUS_OF, Interrupts
from procflow_export.cli.run import loaded_config
from procflow_export.config.sizes import parse_duration_s
from procflow_export.config.structs import LoadedConfig
from procflow_export.exporter import Exporter
from procflow_export.model.errors import MisuseError
from procflow_export.pipeline.cursor_state import CursorState, accept_cursor, cursor_state, reset_cursor
from procflow_export.pipeline.garbage import Garbage
from procflow_export.pipeline.prepare import collect_garbage
from procflow_export.planning.keys import described
from procflow_export.planning.plan import Target
from procflow_export.state import StateStore, open_state
from procflow_export.ui import words
from procflow_export.ui.clean import one_line
from procflow_export.ui.remembered import chunk_rows, file_rows, garbage_rows, run_rows

MAX_AT_ONCE = 4
_READING = ("show", "runs", "files", "chunks")
_T = TypeVar("_T")


def state_command(parsed: argparse.Namespace, face: Face, interrupts: Interrupts) -> int:
    """Do one action of ``state``; return the exit status."""
    loaded = loaded_config(parsed, face)
    interrupts.hold()
    anyio.run(partial(_act, parsed, loaded, face, interrupts), backend=BACKEND)
    return 0 if interrupts.first is None else STATUS_OF[interrupts.first]


async def _act(parsed: argparse.Namespace, loaded: LoadedConfig, face: Face, interrupts: Interrupts) -> None:
    # The exporter gives the targets, and knows misspelt names: nothing is started.
    async with Exporter(loaded, exports=parsed.exports or None) as exporter:
        targets = exporter.targets
    with anyio.CancelScope() as scope, ExitStack() as opening:
        interrupts.attach(scope.cancel)
        directory = Path(parsed.state) if parsed.state is not None else loaded.state_directory
        if parsed.action in _READING and directory is not None and not directory.is_dir():
            directory = None  # to look makes nothing
        store = await anyio.to_thread.run_sync(opening.enter_context, open_state(directory))
        action = _Action(parsed=parsed, targets=targets, store=store, face=face)
        data = await _ACTIONS[parsed.action](action)
        if face.is_json:
            face.data({"action": parsed.action, "state": store.location} | data)


@dataclass(frozen=True, slots=True)
class _Action:
    parsed: argparse.Namespace
    targets: Sequence[Target]
    store: StateStore
    face: Face

    @property
    def threads(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(MAX_AT_ONCE)

    async def ask(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await anyio.to_thread.run_sync(partial(function, *arguments))

    def show(self, rows: Sequence[Text]) -> None:
        if not self.face.is_quiet:
            self.face.show(rows)

    async def cursors(self) -> list[CursorState]:
        return [await cursor_state(target, os.environ, self.threads) for target in self.targets]


async def _show(action: _Action) -> dict[str, object]:
    states = await action.cursors()
    for state in states:
        action.show(_cursor_rows(state))
    return {"exports": [_cursor_data(state) for state in states]}


async def _accept(action: _Action) -> dict[str, object]:
    states = await action.cursors()
    for state in states:
        await accept_cursor(state, action.store, action.threads)
        action.face.tell(f"{one_line(state.target.export.name)}: the cursor is its own again; the next run goes on")
    return {"exports": [_cursor_data(state) for state in states]}


async def _reset(action: _Action) -> dict[str, object]:
    states = await action.cursors()
    for state in states:
        await reset_cursor(state, action.store, action.threads)
        action.face.tell(
            f"{one_line(state.target.export.name)}: the cursor is forgotten; the next run exports everything and"
            " replaces the published set, which stays until then"
        )
    return {"exports": [_cursor_data(state) for state in states]}


async def _runs(action: _Action) -> dict[str, object]:
    runs = await action.ask(partial(action.store.runs, limit=action.parsed.limit))
    found = []
    for run in runs:
        entries = await action.ask(partial(action.store.exports, run_id=run.run_id))
        live = [await action.ask(action.store.lease, name) for name in run.exports]
        is_live = any(lease is not None and lease.run_id == run.run_id for lease in live)
        action.show(run_rows(run, entries, is_live=is_live))
        found.append({"run": run, "exports": entries, "is_live": is_live})
    if not runs:
        action.face.tell(f"no run is remembered in {one_line(action.store.location)}")
    return {"runs": found}


async def _files(action: _Action) -> dict[str, object]:
    found = {}
    for target in action.targets:
        files = found[target.export.name] = await action.ask(action.store.files, target.export.name)
        action.show(file_rows(target.export.name, files))
    return {"exports": found}


async def _chunks(action: _Action) -> dict[str, object]:
    found = {}
    for target in action.targets:
        name = target.export.name
        entries = await action.ask(partial(action.store.exports, export=name))
        entry = entries[0] if entries else None
        chunks = [] if entry is None else await action.ask(action.store.chunks, entry.run_id, name)
        action.show(chunk_rows(name, entry, chunks))
        found[name] = {"run": entry, "chunks": chunks}
    return {"exports": found}


async def _gc(action: _Action) -> dict[str, object]:
    older_than = timedelta(seconds=_age_s(action.parsed.older_than))
    found: dict[str, list[Garbage]] = {}
    for target in action.targets:
        garbage = await collect_garbage(
            target, action.store, action.threads, older_than=older_than, removes=action.parsed.remove
        )
        found[target.export.name] = garbage
        action.show(garbage_rows(target.export.name, garbage, removed=action.parsed.remove))
    if not action.parsed.remove and any(each.is_removable for garbage in found.values() for each in garbage):
        action.face.tell("nothing was removed: `--remove` does it")
    return {"removed": action.parsed.remove, "exports": found}


_ACTIONS = {
    "show": _show,
    "runs": _runs,
    "files": _files,
    "chunks": _chunks,
    "accept": _accept,
    "reset": _reset,
    "gc": _gc,
}


def _age_s(text: str) -> float:
    try:
        return parse_duration_s(text)
    except ValueError:
        raise MisuseError(f"--older-than takes an age such as 30m, 12h or 7d, not {text!r}") from None


def _cursor_rows(state: CursorState) -> list[Text]:
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


def _cursor_data(state: CursorState) -> dict[str, object]:
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
