"""What the state remembers, as rows of text: runs, files, chunks, and what lies beside a published set.

Pure: owns the words and the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.text import Text

from procflow_export.model.ledger import ChunkEntry, ChunkStanding, ExportEntry, FileEntry, RunEntry, Standing
from procflow_export.ui import words
from procflow_export.ui.clean import one_line

if TYPE_CHECKING:
    from procflow_export.pipeline.garbage import Garbage

MAX_LISTED: Final = 1_000
"""Rows of one list that are shown to people; ``--json`` has them all."""
_STYLES: Final = {
    Standing.SUCCESS: "green",
    Standing.SKIPPED: "dim",
    Standing.RUNNING: "cyan",
    Standing.FAILED: "bold red",
    Standing.DIED: "bold red",
    Standing.CANCELLED: "yellow",
}


def run_rows(run: RunEntry, entries: Sequence[ExportEntry], *, is_live: bool) -> list[Text]:
    """Return a run and its exports; one that is running and holds no lease has died."""
    standing = _standing(run.standing, is_live=is_live)
    title = Text.assemble(" ", (run.run_id, "bold"), "  ", (standing.value, _STYLES[standing]))
    title.append(f"  {run.started_at}  {run.engine}, process {run.pid} on {one_line(run.host)}")
    rows = [title]
    for entry in entries:
        own = _standing(entry.standing, is_live=is_live)
        row = Text.assemble("   ", (own.value.ljust(10), _STYLES[own]), f"{one_line(entry.export)}  {entry.mode}")
        if own is Standing.SUCCESS and entry.finished_at is not None:
            row.append(f", {words.plural(entry.row_count, 'row')} in {words.plural(entry.part_count, 'part')}")
        if entry.resumed_from is not None:
            row.append(f", went on with run {entry.resumed_from}")
        if entry.code is not None:
            row.append(f"  {entry.code}: {one_line(entry.message or '')}")
        rows.append(row)
    return rows


def file_rows(export: str, files: Sequence[FileEntry]) -> list[Text]:
    """Return the parts that are remembered of an export."""
    rows = [Text.assemble(" ", (one_line(export), "bold"), f"  {words.plural(len(files), 'file')}")]
    for file in files[:MAX_LISTED]:
        row = Text.assemble("   ", one_line(file.key), f"  {words.plural(file.row_count, 'row')}")
        row.append(f", {words.size(file.size_bytes)}, {file.recorded_at}")
        if file.superseded_at is not None:
            row.append(f", superseded {file.superseded_at}", style="dim")
        rows.append(row)
    return [*rows, *_further(len(files))]


def chunk_rows(export: str, entry: ExportEntry | None, chunks: Sequence[ChunkEntry]) -> list[Text]:
    """Return the chunks of the newest run of an export."""
    title = Text.assemble(" ", (one_line(export), "bold"))
    if entry is None:
        return [title.append("  no run is remembered")]
    done = sum(chunk.standing is ChunkStanding.DONE for chunk in chunks)
    total = "?" if entry.plan is None else words.whole(entry.plan.chunk_count)
    rows = [title.append(f"  run {entry.run_id}, {words.whole(done)} of {total} chunks done")]
    for chunk in chunks[:MAX_LISTED]:
        row = Text(f"   {chunk.chunk:>6}  {chunk.standing.value.ljust(8)}{chunk.changed_at}")
        if chunk.result is not None:
            parts = len(chunk.result.parts)
            row.append(f"  {words.plural(chunk.result.row_count, 'row')} in {words.plural(parts, 'part')}")
        if chunk.attempts > 1:
            row.append(f", attempt {chunk.attempts}")
        if chunk.code is not None:
            row.append(f"  {chunk.code}", style="red")
        rows.append(row)
    return [*rows, *_further(len(chunks))]


def garbage_rows(export: str, garbage: Sequence[Garbage], *, removed: bool) -> list[Text]:
    """Return what lies beside the published set of an export, and what became of it."""
    title = Text.assemble(" ", (one_line(export), "bold"))
    if not garbage:
        return [title.append("  nothing beside the published set")]
    size = words.size(sum(each.size_bytes for each in garbage))
    rows = [title.append(f"  {words.plural(len(garbage), 'object')} beside the published set, {size}")]
    for each in garbage[:MAX_LISTED]:
        fate = "stays" if not each.is_removable else "removed" if removed else "removable"
        row = Text.assemble("   ", (fate.ljust(10), "dim" if fate == "stays" else "yellow"), each.why.value.ljust(11))
        rows.append(row.append(f"{one_line(each.key)}  {words.size(each.size_bytes)}"))
    return [*rows, *_further(len(garbage))]


def _standing(standing: Standing, *, is_live: bool) -> Standing:
    return Standing.DIED if standing is Standing.RUNNING and not is_live else standing


def _further(count: int) -> list[Text]:
    left_out = count - MAX_LISTED
    return [Text(f"   … and {words.whole(left_out)} more: `--json` has them all", style="dim")] if left_out > 0 else []
