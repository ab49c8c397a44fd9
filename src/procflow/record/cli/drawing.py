"""``timeline``: a run as text, as a picture, as a page, as a trace."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Final

from procflow.record.cli.documents import span_document
from procflow.record.cli.face import Face
from procflow.record.cli.files import STANDARD_OUTPUT, write_file
from procflow.record.cli.sources import view_of_run
from procflow.record.cli.statuses import Status
from procflow.record.fold.view import RunView
from procflow.record.views.gantt import MIN_WIDTH, chart_lines
from procflow.record.views.page import page
from procflow.record.views.spans import timeline
from procflow.record.views.svg import svg
from procflow.record.views.trace import chrome_trace

DEFAULT_WIDTH: Final = 80


def timeline_command(parsed: argparse.Namespace, face: Face) -> Status:
    """Draw a run into the files that are named; if none is, as text."""
    view, _ = view_of_run(parsed)
    files = [name for name in (parsed.svg, parsed.html, parsed.chrome) if name is not None]
    if parsed.svg is not None:
        write_file(parsed.svg, svg(view).encode(), face)
    if parsed.html is not None:
        write_file(parsed.html, page(view).encode(), face)
    if parsed.chrome is not None:
        write_file(parsed.chrome, chrome_trace(view), face)
    if face.is_json and STANDARD_OUTPUT not in files:
        face.data({"spans": [span_document(span) for span in timeline(view)], "files": files})
    elif not files:
        face.lines(_chart(view, parsed, face))
    return Status.DONE


def _chart(view: RunView, parsed: argparse.Namespace, face: Face) -> Iterator[str]:
    width = parsed.width or max(face.width or DEFAULT_WIDTH, MIN_WIDTH)
    for line in chart_lines(view, width=width, has_calls=not parsed.jobs):
        yield f"{line.name}{face.paint(line.bar, line.look)}{line.ending}"
