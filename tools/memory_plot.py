"""Draw docs/assets/memory.svg: what a process of an export has in memory, second by second, for three tables that are hard on it.

The exports run for real, out of a PostgreSQL server of this run, by the tests' own queries; the size is what the kernel says of the
program while it runs.  The budget is a line across, and so is what four large cells may take beside it.
"""

from __future__ import annotations

import datetime as dt
import html
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.export.memory.shapes import CELL_MIB, LARGE, NARROW, WIDE
from tools.servers import running

PICTURE: Final = Path(__file__).resolve().parent.parent / "docs" / "assets" / "memory.svg"
BUDGET_MIB: Final = 256
SAMPLE_S: Final = 0.02
MIB: Final = 1 << 20

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 460, 64, 220, 56, 52
STEP_MIB: Final = 100
INK, PALE, BUDGET_INK = "#1c2226", "#d5d5cf", "#a03020"


@dataclass(frozen=True, slots=True)
class Shape:
    """One table: what it is called in the picture, the query for its rows, and the colour of its line."""

    title: str
    query: str
    colour: str


SHAPES: Final = (
    Shape(f"cells of {CELL_MIB} MiB", LARGE, "#7a4fa0"),
    Shape("1,000 columns", WIDE, "#3f6f9f"),
    Shape("10 million rows", NARROW, "#3d7a4a"),
)

Sample = tuple[float, float]
"""Seconds since the start, and MiB."""


def measured(query: str, url: str) -> list[Sample]:
    """Return the resident size of one export over time."""
    with tempfile.TemporaryDirectory(prefix="procflow-memory-") as folder:
        config: dict[str, Any] = {
            "source": {"type": "postgres", "url": url, "environment": "local", "tls": {"mode": "disable"}},
            "destination": {"type": "local", "path": "out"},
            "memory_mb": BUDGET_MIB,
            "exports": [{"name": "table", "query": query, "mode": "full", "format": "parquet"}],
        }
        Path(folder, "run.yaml").write_text(json.dumps(config), "utf-8")  # JSON is YAML
        command = [sys.executable, "-m", "procflow_export", "run", "run.yaml", "--quiet", "--engine", "in-process"]
        started = time.monotonic()
        with subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL) as process:
            samples: list[Sample] = []
            while process.poll() is None:
                if (size_bytes := resident_bytes(process.pid)) is not None:
                    samples.append((time.monotonic() - started, size_bytes / MIB))
                time.sleep(SAMPLE_S)
        if process.returncode:
            raise SystemExit(f"the export failed with status {process.returncode}")
        return samples


def resident_bytes(pid: int) -> int | None:
    """Return what a process has in memory; ``None`` when it has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return None


def drawing(lines: Sequence[tuple[Shape, Sequence[Sample]]], *, today: dt.date) -> Iterator[str]:
    """Yield the lines of the picture."""
    bound_mib = BUDGET_MIB + 4 * CELL_MIB
    most_s = max(samples[-1][0] for _, samples in lines)
    most_mib = -(-(bound_mib + 1) // STEP_MIB) * STEP_MIB
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(seconds: float) -> float:
        return round(LEFT + seconds / most_s * (right - LEFT), 1)

    def y(mib: float) -> float:
        return round(bottom - mib / most_mib * (bottom - TOP), 1)

    def text(
        left: float, base: float, words: str, *, colour: str = INK, anchor: str = "start", bold: bool = False
    ) -> str:
        weight = ' font-weight="600"' if bold else ""
        return f'<text x="{left}" y="{base}" fill="{colour}" text-anchor="{anchor}"{weight}>{html.escape(words)}</text>'

    title = "Memory of an exporting process over time"
    peaks = "; ".join(
        f"{shape.title}: {max(mib for _, mib in samples):.0f} MiB at its peak" for shape, samples in lines
    )
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-labelledby="memory-title memory-desc" font-family="ui-sans-serif, system-ui, sans-serif" font-size="13">'
    )
    yield f'<title id="memory-title">{title}</title><desc id="memory-desc">{html.escape(peaks)}; the budget is {BUDGET_MIB} MiB.</desc>'
    yield f'<rect x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}" rx="10" fill="#ffffff" stroke="{PALE}"/>'
    yield text(LEFT, 32, f"{title} (resident MiB, one worker, PostgreSQL to Parquet, {today})", bold=True)
    for mib in range(0, most_mib + 1, STEP_MIB):
        yield f'<path d="M{LEFT} {y(mib)}H{right}" stroke="{PALE}"/>' + text(
            LEFT - 8, y(mib) + 4, str(mib), anchor="end"
        )
    for second in range(0, int(most_s) + 1, max(1, round(most_s / 8))):
        yield text(x(second), bottom + 20, f"{second} s", anchor="middle")
    for mib, words in ((BUDGET_MIB, f"budget: {BUDGET_MIB} MiB"), (bound_mib, "budget and four cells")):
        yield f'<path d="M{LEFT} {y(mib)}H{right}" stroke="{BUDGET_INK}" stroke-dasharray="6 4"/>'
        yield text(right + 10, y(mib) + 4, words, colour=BUDGET_INK)
    for place, (shape, samples) in enumerate(lines):
        points = " ".join(f"{x(seconds)},{y(mib)}" for seconds, mib in samples)
        yield f'<polyline points="{points}" fill="none" stroke="{shape.colour}" stroke-width="1.8" stroke-linejoin="round"/>'
        peak = max(mib for _, mib in samples)
        yield text(right + 10, bottom - 60 + 22 * place, f"{shape.title}: {peak:.0f}", colour=shape.colour, bold=True)
    yield "</svg>"


def main() -> None:
    """Measure and draw."""
    with running("postgres") as urls:
        lines = [(shape, measured(shape.query, urls["postgres"])) for shape in SHAPES]
    PICTURE.write_text("\n".join(drawing(lines, today=dt.datetime.now(dt.UTC).date())) + "\n", "utf-8")
    print(f"drawn: {PICTURE}")


if __name__ == "__main__":
    main()
