"""Draw docs/assets/cards.svg: the cards of a real run of the demo's export, as a moving picture.

The export runs for real, through child processes.  Its events are kept, and the cards are drawn from them as the terminal
display would have drawn them, so the picture shows what happened and nothing else.  A viewer without animation shows one
frame from the middle of the run.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME as THEME
from rich.text import Text

from procflow_export import Exporter, RunEvent
from procflow_export.demo.config import demo_config
from procflow_export.demo.shop import ShopSize, create_shop
from procflow_export.engines.processes import ProcessEngine
from procflow_export.ui.board import Board
from procflow_export.ui.layout import render_board
from procflow_export.ui.summary import render_summary

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "assets" / "cards.svg"
COLUMNS = 92
FRAMES = 14
FRAME_S = 0.7
LAST_FRAME_S = 5.0
CELL_WIDTH, LINE_HEIGHT, FONT_SIZE, MARGIN, BAR = 8.4, 20, 14, 16, 34
NS_PER_S = 1e9
NO_BREAK = "\N{NO-BREAK SPACE}"
"""Several spaces in a row are one in SVG."""

Frame = list[Text]


async def run_export(config: Path, processes: int) -> list[RunEvent]:
    """Return the events of one run."""
    async with Exporter(config, engine=ProcessEngine(max_units=processes)) as exporter:
        events = [event async for event in exporter.run()]
    if exporter.result.exit_status:
        raise SystemExit(f"the export failed with status {int(exporter.result.exit_status)}")
    return events


def record_run(order_items: int, processes: int) -> list[RunEvent]:
    """Return the events of one export of the sample shop."""
    with tempfile.TemporaryDirectory(prefix="procflow-cards-") as folder:
        create_shop(Path(folder, "shop.sqlite"), ShopSize(order_items=order_items))
        config = Path(folder, "shop.yaml")
        config.write_text(demo_config(program="procflow-export", path="shop.yaml", chunk_count=8), "utf-8")
        return asyncio.run(run_export(config, processes))


def draw_frames(events: Sequence[RunEvent]) -> list[Frame]:
    """Return the cards at equal distances in time, and the summary at the end."""
    end_s = events[-1].mono_ns / NS_PER_S
    moments = [end_s * (index + 1) / (FRAMES + 1) for index in range(FRAMES)]
    board, waiting = Board(), list(events)
    frames: list[Frame] = []
    for moment in moments:
        while waiting and waiting[0].mono_ns / NS_PER_S <= moment:
            board.apply(waiting.pop(0))
        frames.append(render_board(board, width=COLUMNS, height=24, now_s=moment))
    for event in waiting:
        board.apply(event)
    frames.append(render_summary(board, width=COLUMNS, next_command=lambda _: ""))
    return frames


def _spans(console: Console, row: Text) -> Iterator[tuple[int, str, Style]]:
    column = 0
    for text, style, _ in row.render(console):
        # Word groups get places of their own, so that a font of another width cannot shift a column.
        for words in re.finditer(r"\S+(?: \S+)*", text):
            yield column + cell_len(text[: words.start()]), words[0], style or Style.null()
        column += cell_len(text)


def _frame(console: Console, rows: Frame) -> Iterator[str]:
    for number, row in enumerate(rows):
        baseline = BAR + MARGIN + number * LINE_HEIGHT + FONT_SIZE
        for column, text, style in _spans(console, row):
            color = style.color.get_truecolor(THEME) if style.color is not None else THEME.foreground_color
            extra = ' font-weight="bold"' if style.bold else ""
            extra += ' opacity="0.65"' if style.dim else ""
            left, width = MARGIN + column * CELL_WIDTH, cell_len(text) * CELL_WIDTH
            yield (
                f'<text x="{left:.1f}" y="{baseline}" textLength="{width:.1f}" fill="{color.hex}"{extra}>'
                f"{html.escape(text).replace(' ', NO_BREAK)}</text>"
            )


def picture(frames: Sequence[Frame], title: str) -> str:
    """Return the SVG: every frame a group, shown in turn by CSS."""
    console = Console(width=COLUMNS, color_system="truecolor", force_terminal=True, legacy_windows=False)
    width = round(COLUMNS * CELL_WIDTH + 2 * MARGIN)
    height = BAR + 2 * MARGIN + max(len(rows) for rows in frames) * LINE_HEIGHT
    total_s = (len(frames) - 1) * FRAME_S + LAST_FRAME_S
    step = 100 * FRAME_S / total_s
    still = len(frames) * 2 // 3
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">',
        "<style>",
        "text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; }",
        f".f {{ visibility: hidden; }} #f{still} {{ visibility: visible; }}",
        "@media (prefers-reduced-motion: no-preference) {",
        f"@keyframes turn {{ 0% {{ visibility: visible; }} {step:.3f}%, 100% {{ visibility: hidden; }} }}",
        f"@keyframes end {{ 0% {{ visibility: visible; }} {100 * LAST_FRAME_S / total_s:.3f}%, 100% {{ visibility: hidden; }} }}",
        f".f {{ animation: turn {total_s:.2f}s step-end infinite; }}",
        f"#f{still} {{ visibility: hidden; }}",
        *(f"#f{index} {{ animation-delay: {index * FRAME_S:.2f}s; }}" for index in range(len(frames))),
        f"#f{len(frames) - 1} {{ animation-name: end; }}",
        "}",
        "</style>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{THEME.background_color.hex}"/>',
        *(
            f'<circle cx="{20 + 18 * i}" cy="18" r="6" fill="{c}"/>'
            for i, c in enumerate(("#ff5f57", "#febc2e", "#28c840"))
        ),
        f'<text x="{width / 2}" y="23" text-anchor="middle" fill="#9a9a9a">{html.escape(title)}</text>',
    ]
    for index, rows in enumerate(frames):
        lines += [f'<g class="f" id="f{index}">', *_frame(console, rows), "</g>"]
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_200_000, help="rows of the largest table (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="worker processes (default: %(default)s)")
    arguments = parser.parse_args()
    events = record_run(arguments.rows, arguments.processes)
    PICTURE.write_text(picture(draw_frames(events), "python -m procflow_export run shop.yaml"), "utf-8")
    print(f"wrote {PICTURE} ({PICTURE.stat().st_size / 1024:.0f} KiB, {len(events)} events)", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
