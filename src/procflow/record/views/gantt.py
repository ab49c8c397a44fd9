"""A run as a chart of text.

Owns how spans are drawn with characters.  Must not know terminals: the caller says how wide it may be.

One line for each attempt, and below it one for each of its calls.  No colour is needed, every character is ASCII but in names that
are not: ``=`` ended well, ``#`` ended badly, ``->`` still open, ``~?`` lost.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from procflow.record.fold.rows import CallRow, JobKey, JobRow, RunRow
from procflow.record.fold.view import RunView
from procflow.record.views.looks import Look, ending_word, look_of
from procflow.record.views.spans import Span, SpanKind, job_label, timeline
from procflow.record.views.words import duration_text, fitted

MIN_WIDTH: Final = 40

_TIME_COLUMNS: Final = 7
_WORD_COLUMNS: Final = 9
_FRAME_COLUMNS: Final = 4  # a bar on each side of the chart, and two spaces


class ChartLine(NamedTuple):
    """One line of the chart, in the pieces that may have colours of their own; together they are the whole line."""

    name: str
    bar: str
    ending: str
    look: Look


def gantt(view: RunView, *, width: int = 80) -> str:
    """Return the chart, with a newline behind each of its lines, none of which is wider than ``width``.

    Raises:
        ValueError: If ``width`` is below ``MIN_WIDTH``.
    """
    return "".join(f"{line.name}{line.bar}{line.ending}\n" for line in chart_lines(view, width=width))


def chart_lines(view: RunView, *, width: int = 80, has_calls: bool = True) -> list[ChartLine]:
    """Return the lines of the chart; without ``has_calls`` only those of the run and its attempts.

    Raises:
        ValueError: If ``width`` is below ``MIN_WIDTH``.
    """
    if width < MIN_WIDTH:
        raise ValueError(f"width must be at least {MIN_WIDTH}, not {width}")
    spans = timeline(view)
    run = next((span for span in spans if span.kind is SpanKind.RUN), None)
    total_ns = max([span.end_ns for span in spans], default=0)
    names = max(width // 3 - 2, 10)
    chart = width - names - _FRAME_COLUMNS - _TIME_COLUMNS - _WORD_COLUMNS
    if chart < 12:
        names, chart = names - (12 - chart), 12

    def line(name: str, span: Span | None, row: RunRow | JobRow | CallRow) -> ChartLine:
        bar = _bar(span, total_ns, chart) if span is not None else " " * chart
        time = duration_text(span.duration_ns) if span is not None else ""
        ending = f"|{time:>{_TIME_COLUMNS}} {fitted(ending_word(row), _WORD_COLUMNS)}".rstrip()
        return ChartLine(f"{fitted(name, names)} |", bar, ending, look_of(row))

    by_key = {span.key: span for span in spans}
    lines = [line(view.run.name or "run", run, view.run)]
    calls: dict[JobKey, list[CallRow]] = {}
    for call in view.calls.values():
        calls.setdefault(call.key.job, []).append(call)
    for key, job in view.jobs.items():
        lines.append(line(f" {job_label(key)}", by_key.get(key), job))
        if has_calls:
            lines += [
                line(f"  {call.cmd or call.sh}", by_key.get(call.key), call)
                for call in sorted(calls.get(key, []), key=lambda call: call.sh)
            ]
    return lines


def _bar(span: Span, total_ns: int, columns: int) -> str:
    total_ns = max(total_ns, 1)
    first = min(span.start_ns * columns // total_ns, columns - 1)
    # Everything that was is seen, however short it was.
    last = min(max(-(-span.end_ns * columns // total_ns), first + 1), columns)
    length = last - first
    if span.is_lost:
        drawn = "~" * (length - 1) + "?"
    elif span.is_open:
        drawn = "-" * (length - 1) + ">"
    else:
        drawn = ("=" if look_of(span.row) is Look.FINE else "#") * length
    return " " * first + drawn + " " * (columns - last)
