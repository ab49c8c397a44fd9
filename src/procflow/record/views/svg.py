"""A run as a picture: an SVG that needs nothing else, no script, no font, no style sheet.

Owns where things stand in the picture and how they are drawn.  Must not know files or browsers.

Each job has a band: its name, a strip for each attempt, below it its calls in as many lanes as ran at once, and how it ended.  Every
ending has a colour and something beside it: a hatching, a dashed edge, an open end, a sign.  So nothing depends on colours alone.
It is light or dark as its reader likes (``prefers-color-scheme``), and tells more when pointed at (``<title>``).
"""

from __future__ import annotations

from typing import Final

from procflow.record.fold.view import RunView
from procflow.record.views.axis import ticks
from procflow.record.views.layout import JobRows, Layout, layout, told
from procflow.record.views.looks import Look, ending_word, look_of
from procflow.record.views.markup import Markup, element, lines, text
from procflow.record.views.spans import Span
from procflow.record.views.style import SIGNS, STYLE, pattern_definitions
from procflow.record.views.words import columns_of, duration_text, instant_text

MIN_WIDTH: Final = 600

_NAMES: Final = 200.0
_ENDINGS: Final = 150.0
_EDGE: Final = 16.0
_HEAD: Final = 92.0
_PAD: Final = 5.0
_STRIP: Final = 7.0
_LANE: Final = 18.0
_BAR: Final = 15.0
_TEXT_LINE: Final = 16.0
_FOOT: Final = 46.0

_COLUMN: Final = 6.65
"""Width of a letter of 11 px, of a font whose letters have one width."""

_TITLE_COLUMN: Final = 9.1
"""The same of the title."""

_TOLD_COLUMNS: Final = 300
"""How much of a long text is told to who points at a bar."""

_SLIVER: Final = 1.5
"""The least width of a bar."""

_THIN: Final = 4.0
"""Below this a bar has the colour of its edge, and no edge."""


def svg(view: RunView, *, width: int = 1200) -> str:
    """Return the picture, ``width`` units wide and as high as the run needs.

    Raises:
        ValueError: If ``width`` is below ``MIN_WIDTH``.
    """
    if width < MIN_WIDTH:
        raise ValueError(f"width must be at least {MIN_WIDTH}, not {width}")
    return _Picture(view, float(width)).drawn()


class _Picture:
    def __init__(self, view: RunView, width: float) -> None:
        self._view = view
        self._layout: Layout = layout(view)
        self._width = width
        self._left = _EDGE + _NAMES
        self._chart = width - self._left - _ENDINGS - _EDGE
        self._scale = self._chart / max(self._layout.total_ns, 1)
        self._looks: set[Look] = set()

    def drawn(self) -> Markup:
        found = self._layout
        bands: list[Markup] = []
        rows: list[Markup] = []
        y = _HEAD
        if found.run is not None:
            rows += self._run_strip(found.run, y)
            y += _LANE
        for number, job in enumerate(found.jobs):
            height = _height(job)
            if number % 2 == 0:
                bands.append(_rect(0.0, y, self._width, height, class_="pf-band"))
            rows.append(element("g", *self._job(job, y)))
            y += height
        end = y + 4
        height = end + _FOOT + (_TEXT_LINE if found.left_out else 0)
        return element(
            "svg",
            element("style", STYLE),
            pattern_definitions(),
            _rect(0.0, 0.0, self._width, height, class_="pf-paper"),
            *bands,
            *self._grid(end),
            *self._head(),
            *rows,
            *self._foot(end),
            xmlns="http://www.w3.org/2000/svg", class_="pf", role="img", viewBox=f"0 0 {self._width:g} {height:g}",
            width=self._width, height=height, aria_label=f"timeline of the run {self._view.run.name or ''}",
        )  # fmt: skip

    def _head(self) -> list[Markup]:
        view, run = self._view, self._view.run
        look = look_of(run)
        self._looks.add(look)
        took = duration_text(self._layout.run.duration_ns) if self._layout.run is not None else "?"
        facts = [
            f"{SIGNS[look]} {ending_word(run)}",
            f"record {view.state.value}",
            f"began {instant_text(run.started_at_ms)} UTC",
            f"{took} up to its last event" if look is Look.OPEN else f"took {took}",
        ]
        if run.run_id:
            facts.append(f"run {run.run_id}")
        title_columns = int((self._width - 2 * _EDGE) / _TITLE_COLUMN)
        return [
            element("text", text(run.name or "a run without a name", columns=title_columns), x=_EDGE, y=28.0, class_="pf-title"),
            element("text", text(" · ".join(facts), columns=self._columns(self._width - 2 * _EDGE)), x=_EDGE, y=48.0, class_="pf-dim"),
        ]  # fmt: skip

    def _grid(self, end: float) -> list[Markup]:
        drawn: list[Markup] = []
        is_tall = end - _HEAD > 500
        for tick in ticks(self._layout.total_ns, at_most=max(int(self._chart / 90), 2)):
            x = self._left + tick.at_ns * self._scale
            drawn.append(element("line", x1=x, x2=x, y1=_HEAD - 8, y2=end, class_="pf-grid"))
            drawn.append(element("text", text(tick.label), x=x, y=_HEAD - 14, class_="pf-dim pf-tick"))
            if is_tall:
                drawn.append(element("text", text(tick.label), x=x, y=end + 12, class_="pf-dim pf-tick"))
        return drawn

    def _run_strip(self, run: Span, y: float) -> list[Markup]:
        bar = self._bar(run, y + 4, _STRIP + 2, label="")
        return [element("text", "run", x=_EDGE, y=y + 12, class_="pf-dim"), bar]

    def _job(self, job: JobRows, y: float) -> list[Markup]:
        last = job.last
        look = look_of(last)
        self._looks.add(look)
        name = element(
            "text",
            element("title", lines([job.job_id], columns=_TOLD_COLUMNS)),
            text(job.job_id, columns=self._columns(_NAMES - 10)),
            x=_EDGE, y=y + _PAD + 8, class_="pf-ink pf-name",
        )  # fmt: skip
        ending = f"{SIGNS[look]} {ending_word(last)}"
        if job.attempts and last.has_begun:
            ending += f" {duration_text(job.attempts[-1].duration_ns)}"
        if last.attempt > 1:
            ending += f" #{last.attempt}"
        right = self._left + self._chart + 10
        columns = self._columns(_ENDINGS - 10)
        drawn = [
            name,
            element("text", text(ending, columns=columns), x=right, y=y + _PAD + 8, class_=f"pf-word-{look.value}"),
        ]
        if not job.attempts and last.because:
            because = f"because of {', '.join(last.because)}"
            drawn.append(
                element(
                    "text", text(because, columns=self._columns(self._chart)), x=self._left + 4, y=y + _PAD + 8,
                    class_="pf-dim pf-aside",
                )
            )  # fmt: skip
        y += _PAD
        drawn += [self._bar(span, y + span.lane * (_STRIP + 3), _STRIP, label="") for span in job.attempts]
        y += _strips(job)
        drawn += [self._bar(span, y + span.lane * _LANE, _BAR, label=span.label) for span in job.calls]
        return drawn

    def _bar(self, span: Span, y: float, height: float, *, label: str) -> Markup:
        look = look_of(span.row)
        self._looks.add(look)
        x = self._left + span.start_ns * self._scale
        # Everything that was is seen, however short it was.
        length = max(span.duration_ns * self._scale, _SLIVER)
        x = min(x, self._left + self._chart - length)
        children = [element("title", lines(told(span), columns=_TOLD_COLUMNS))]
        if length < _THIN:
            children.append(_rect(x, y, length, height, class_=f"pf-sliver-{look.value}"))
        elif look is Look.OPEN:
            children += _open_ended(x, y, length, height)
        else:
            children.append(_rect(x, y, length, height, class_=f"pf-{look.value}", rx=2.0))
        sign = f"{SIGNS[look]} " if look in _SIGNED else ""
        columns = self._columns(length - 8)
        if label and columns >= 3 + len(sign):
            written = text(sign + label, columns=columns)
            children.append(_label(x, y, length, height, written, class_=f"pf-label pf-on-{look.value}"))
        elif label and sign and columns >= 1:
            children.append(_label(x, y, length, height, SIGNS[look], class_=f"pf-label pf-on-{look.value}"))
        return element("g", *children)

    def _foot(self, end: float) -> list[Markup]:
        drawn: list[Markup] = []
        x, y = self._left, end + 22
        for look in Look:
            if look not in self._looks:
                continue
            word = _MEANINGS[look]
            if look is Look.OPEN:
                drawn += _open_ended(x, y, 22.0, 12.0)
            elif look not in _WITHOUT_BAR:
                drawn.append(_rect(x, y, 22.0, 12.0, class_=f"pf-{look.value}", rx=2.0))
            x += 0 if look in _WITHOUT_BAR else 28
            drawn.append(element("text", text(f"{SIGNS[look]} {word}"), x=x, y=y + 10, class_="pf-dim"))
            x += (columns_of(word) + 5) * _COLUMN
        if self._layout.left_out:
            drawn.append(
                element("text", text(self._layout.left_out), x=self._left, y=y + 10 + _TEXT_LINE + 4, class_="pf-dim")
            )
        return drawn

    @staticmethod
    def _columns(length: float) -> int:
        return max(int(length / _COLUMN), 0)


_SIGNED: Final = frozenset({Look.BAD, Look.STOPPED, Look.LOST})
_WITHOUT_BAR: Final = frozenset({Look.SKIPPED, Look.WAITING})
_MEANINGS: Final = {
    Look.FINE: "ended well",
    Look.BAD: "failed",
    Look.STOPPED: "cancelled or out of time",
    Look.OPEN: "still open",
    Look.LOST: "open when the writer died",
    Look.SKIPPED: "skipped",
    Look.WAITING: "not yet begun",
}


def _height(job: JobRows) -> float:
    lanes = max((span.lane + 1 for span in job.calls), default=0)
    return max(2 * _PAD + _strips(job) + lanes * _LANE, _PAD + _TEXT_LINE)


def _strips(job: JobRows) -> float:
    return (_STRIP + 3) * max((span.lane + 1 for span in job.attempts), default=0)


def _rect(x: float, y: float, width: float, height: float, **attributes: object) -> Markup:
    return element("rect", x=x, y=y, width=width, height=height, **attributes)


def _open_ended(x: float, y: float, length: float, height: float) -> list[Markup]:
    """Return a bar without a right edge, whose end points on."""
    right, middle = x + length, y + height / 2
    tip = min(height / 2, length / 2, 5.0)
    outline = f"M{right - tip:.2f} {y:.2f}H{x:.2f}V{y + height:.2f}H{right - tip:.2f}"
    arrow = f"L{right:.2f} {middle:.2f}Z"
    return [
        element("path", d=outline + arrow, class_="pf-open-inside"),
        element("path", d=outline, class_="pf-open"),
        element(
            "path",
            d=f"M{right - tip:.2f} {y:.2f}L{right:.2f} {middle:.2f}L{right - tip:.2f} {y + height:.2f}",
            class_="pf-open",
        ),
    ]


def _label(x: float, y: float, length: float, height: float, written: Markup, *, class_: str) -> Markup:
    if written.isascii():
        return element("text", written, x=x + 4, y=y + height - 4, class_=class_)
    # Letters of other scripts may be wider than expected; a nested picture cuts them off.
    inner = element("text", written, x=4.0, y=height - 4, class_=class_)
    return element("svg", inner, x=x, y=y, width=length, height=height)
