"""``demo``: the sample shop, exported by child processes and read back by independent readers."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.text import Text

from procflow_export.cli.exporting import RunOnce, RunReport, retry_command, shown_python
from procflow_export.cli.face import Face
from procflow_export.cli.interrupts import Interrupts
from procflow_export.config.loading import load_config
from procflow_export.demo.compare import Comparison, compare_shop
from procflow_export.demo.config import demo_config
from procflow_export.demo.folder import DemoFolder, claimed_folder
from procflow_export.demo.shop import DEFAULT_ORDER_ITEMS, ShopSize, create_shop
from procflow_export.model.codes import ExitStatus
from procflow_export.ui import words

CHUNK_COUNT: Final = 6
_SHOWN_TABLE: Final = "order_items"


def demo_command(parsed: argparse.Namespace, face: Face, interrupts: Interrupts) -> int:
    """Make the shop, export it, compare, and say where everything is; return the exit status."""
    shop_size = ShopSize(order_items=parsed.rows or DEFAULT_ORDER_ITEMS)
    with claimed_folder(Path(parsed.output)) as folder:
        rows = sum(shop_size.row_counts().values())
        face.tell(f"making a shop of {words.plural(rows, 'row')} in {folder.database}")
        create_shop(folder.database, shop_size)
        shown_config = shlex.quote(os.path.relpath(folder.config))
        program = f"{shown_python()} -m procflow_export"
        text = demo_config(program=program, path=shown_config, chunk_count=CHUNK_COUNT)
        folder.config.write_text(text, encoding="utf-8")
        loaded = load_config(folder.config, params={}, environ=os.environ)
        run = RunOnce(
            loaded=loaded,
            face=face,
            interrupts=interrupts,
            engine=parsed.engine,
            max_units=parsed.processes,
            memory_mb=parsed.memory,
            retry_command=retry_command(program, loaded, params=()),
        )
        report = run.execute()
        comparisons = []
        if report.is_success:
            interrupts.release()  # reading back leaves nothing to put in order
            comparisons = compare_shop(folder)
            interrupts.hold()
        status = report.exit_status
        if any(comparison.differences for comparison in comparisons):
            status = ExitStatus.INTEGRITY
        _tell(face, folder, comparisons)
        if face.is_json:
            face.data(_data(folder, report, comparisons, status))
        return int(status)


def _tell(face: Face, folder: DemoFolder, comparisons: Sequence[Comparison]) -> None:
    if not comparisons:
        return
    rows = [Text()]
    for comparison in comparisons:
        rows += _compared(face, comparison)
    differ = any(comparison.differences for comparison in comparisons)
    if not (face.is_quiet and not differ):
        face.show(rows)
    if not face.is_quiet and not differ:
        face.show(_directions(folder))


def _compared(face: Face, comparison: Comparison) -> list[Text]:
    glyphs = face.glyphs
    is_equal = not comparison.differences
    mark = (glyphs.done, "green") if is_equal else (glyphs.failed, "bold red")
    readers = " and ".join(comparison.readers)
    title = Text.assemble(" ", mark, " ", (f"{comparison.table:<11}", ""), "  ")
    if is_equal:
        title.append(f"{readers} read what SQLite holds: {words.plural(comparison.row_count, 'row')}, ")
        title.append(f"{words.plural(comparison.column_count, 'column sum')}")
        return [title]
    title.append("differs from the source", style="bold red")
    return [title, *(Text(f"     {difference}") for difference in comparison.differences)]


def _directions(folder: DemoFolder) -> list[Text]:
    root = os.path.relpath(folder.root)
    table = f"{os.path.relpath(folder.data / _SHOWN_TABLE)}/"
    python = shlex.quote(shown_python())
    parts = "[d+p['key'] for p in json.load(open(d+'manifest.json'))['parts']]"
    arrow = f"import json, pyarrow.parquet as pq; d={table!r}; print(pq.read_table({parts}))"
    duck = (
        f"import json, duckdb; d={table!r}; print(duckdb.read_parquet({parts}).aggregate('product_id, sum(quantity)'))"
    )
    dim = "dim"
    parts_made = sorted(folder.data.glob("*/*.parquet"))
    return [
        Text(),
        Text.assemble(" ", ("files    ", dim), f"{root}/data/<table>/: the parts that each manifest.json names"),
        *(
            Text.assemble(f"   {os.path.relpath(part)}  ", (words.size(part.stat().st_size), dim))
            for part in parts_made
        ),
        Text.assemble(" ", ("config   ", dim), os.path.relpath(folder.config)),
        Text(),
        Text.assemble(" ", ("read them, following the manifest:", dim)),
        Text(f"   {python} -c {_quoted(arrow)}", style="cyan"),
        Text(f"   {python} -c {_quoted(duck)}", style="cyan"),
    ]


def _quoted(code: str) -> str:
    """Return ``code`` as one shell word; in double quotes where it holds nothing that a shell would touch there."""
    return shlex.quote(code) if set(code) & set('"$`\\!') else f'"{code}"'


def _data(
    folder: DemoFolder, report: RunReport, comparisons: Sequence[Comparison], status: ExitStatus
) -> dict[str, object]:
    return {
        "exit_status": int(status),
        "folder": str(folder.root),
        "run": report.as_data(),
        "comparisons": [
            {
                "table": comparison.table,
                "row_count": comparison.row_count,
                "column_count": comparison.column_count,
                "readers": comparison.readers,
                "parts": [str(part) for part in comparison.parts],
                "differences": comparison.differences,
            }
            for comparison in comparisons
        ],
    }
