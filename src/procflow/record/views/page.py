"""A run as a page: one HTML file with its picture, its figures and its tables.

Owns what stands on the page and in which order.  Must not know files or browsers.  The page needs nothing from elsewhere and runs no
script; its policy forbids both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from procflow.record.fold.rows import CallRow, JobRow, NoteRow, RunRow
from procflow.record.fold.view import RunView
from procflow.record.views.facts import ending_text, facts
from procflow.record.views.layout import MAX_CALLS
from procflow.record.views.looks import Look, ending_word, look_of
from procflow.record.views.markup import Markup, element, text
from procflow.record.views.spans import job_label
from procflow.record.views.style import BAND, DIM, FONT, INK, LINE, PAPER, SIGNS
from procflow.record.views.summary import Summary, summary
from procflow.record.views.svg import svg
from procflow.record.views.words import bytes_text, counted, duration_text

_TEXT_COLUMNS: Final = 400
_NOTES: Final = 200


def page(view: RunView) -> str:
    """Return the page as a whole document; a run of more calls than a picture shows has the same calls in its table."""
    run, figures = view.run, summary(view)
    name = run.name or "a run without a name"
    body = [
        element("h1", text(name, columns=_TEXT_COLUMNS)),
        _facts(view, figures),
        _figure(view),
        *_problems(view),
        _jobs(view),
        _calls(view),
        *_notes(view.notes),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="color-scheme" content="light dark">'
    )
    title = element("title", text(f"{SIGNS[look_of(run)]} {name}", columns=100))
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}{title}<style>{_STYLE}</style></head>\n<body>{"".join(body)}</body></html>\n'


def _facts(view: RunView, figures: Summary) -> Markup:
    known = [("ended", f"{SIGNS[look_of(view.run)]} {ending_text(view)}"), *facts(view, figures)]
    return element(
        "dl",
        *(
            element("div", element("dt", text(word, columns=60)), element("dd", text(value, columns=_TEXT_COLUMNS)))
            for word, value in known
        ),
    )


def _figure(view: RunView) -> Markup:
    return element("figure", svg(view))


def _problems(view: RunView) -> list[Markup]:
    """Return the calls to look at first, if there are any."""
    bad = [call for call in view.calls.values() if look_of(call) is not Look.FINE]
    if not bad:
        return []
    return [element("h2", "What did not end well"), _call_table(bad[:MAX_CALLS])]


def _jobs(view: RunView) -> Markup:
    counts: dict[tuple[str, int], int] = {}
    for call in view.calls.values():
        counts[call.key.job] = counts.get(call.key.job, 0) + 1
    rows = [
        (
            row,
            (
                job_label(key),
                ending_word(row),
                duration_text(row.start_mono_ns) if row.start_mono_ns is not None else "",
                duration_text(row.duration_ns) if row.duration_ns is not None and row.has_begun else "",
                str(counts.get(key, 0)),
                ", ".join(row.after),
                _said(row),
            ),
        )
        for key, row in view.jobs.items()
    ]
    head = ("job", "ended", "began at", "took", "calls", "after", "why")
    return element("h2", counted(len(rows), "attempt")) + _table(head, rows)


def _calls(view: RunView) -> Markup:
    calls = list(view.calls.values())
    shown = calls[:MAX_CALLS]
    words = counted(len(calls), "call") + (
        f", the first {len(shown)} of which are here" if len(shown) < len(calls) else ""
    )
    summary_line = element("summary", element("h2", text(words)))
    return element("details", summary_line, _call_table(shown))


def _call_table(calls: Sequence[CallRow]) -> Markup:
    rows = [
        (
            call,
            (
                job_label(call.key.job),
                str(call.sh),
                call.cmd or "",
                ending_word(call),
                duration_text(call.start_mono_ns) if call.start_mono_ns is not None else "",
                duration_text(call.duration_ns) if call.duration_ns is not None else "",
                bytes_text(call.stdout_bytes) if call.stdout_bytes is not None else "",
                bytes_text(call.stderr_bytes) if call.stderr_bytes is not None else "",
                _said(call),
            ),
        )
        for call in calls
    ]
    return _table(("job", "call", "command", "ended", "began at", "took", "stdout", "stderr", "why"), rows)


def _notes(notes: Sequence[NoteRow]) -> list[Markup]:
    if not notes:
        return []
    rows = [(None, (note.job_id or "", note.key, msgspec.json.encode(note.value).decode())) for note in notes[:_NOTES]]
    words = counted(len(notes), "note") + (f", the first {_NOTES} of which are here" if len(notes) > _NOTES else "")
    return [element("h2", text(words)), _table(("job", "key", "value"), rows)]


def _said(row: JobRow | CallRow) -> str:
    if row.error is not None:
        return f"{row.error.type}: {row.error.message}"
    return f"because of {', '.join(row.because)}" if isinstance(row, JobRow) and row.because else ""


def _table(head: Sequence[str], rows: Sequence[tuple[RunRow | JobRow | CallRow | None, Sequence[str]]]) -> Markup:
    lines = [
        element(
            "tr",
            *(element("th", text(word), scope="col", class_="number" if word in _NUMBERS else None) for word in head),
        )
    ]
    for row, cells in rows:
        look = look_of(row) if row is not None else None
        written = []
        for word, cell in zip(head, cells, strict=True):
            is_ending = word == "ended" and look is not None
            sign = f"{SIGNS[look]} " if is_ending and look is not None else ""
            class_ = f"pf-ended-{look.value}" if is_ending and look is not None else _class(word)
            written.append(element("td", text(sign + cell, columns=_TEXT_COLUMNS), class_=class_))
        lines.append(element("tr", *written))
    return element("div", element("table", *lines), class_="wide")


def _class(word: str) -> str | None:
    return "number" if word in _NUMBERS else "code" if word in _CODE else None


_NUMBERS: Final = frozenset({"began at", "took", "calls", "call", "stdout", "stderr"})
_CODE: Final = frozenset({"command", "value"})
"""Cells that hold code; their heads do not."""


def _colours(shade: int) -> str:
    names = (("paper", PAPER), ("ink", INK), ("dim", DIM), ("line", LINE), ("band", BAND))
    return ":root{" + "".join(f"--{name}:{pair[shade]};" for name, pair in names) + "}"


_STYLE: Final = (
    _colours(0)
    + f"@media(prefers-color-scheme:dark){{{_colours(1)}}}"
    + "body{font:14px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0 auto;max-width:1240px;padding:16px 20px 48px}"
    "h1{font-size:22px;margin:8px 0;overflow-wrap:anywhere}h2{font-size:16px;margin:28px 0 8px}summary h2{display:inline-block;margin-bottom:8px}"
    "summary{cursor:pointer}"
    "dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(360px,1fr));gap:2px 24px;margin:0 0 16px}"
    "dl div{display:flex;gap:10px;min-width:0}dt{color:var(--dim);flex:0 0 96px;overflow-wrap:anywhere}dd{margin:0;min-width:0;overflow-wrap:anywhere}"
    "figure{margin:0;border:1px solid var(--line);border-radius:6px;overflow-x:auto}figure>svg{display:block;min-width:900px;width:100%;height:auto}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px}"
    "th,td{text-align:left;vertical-align:top;padding:4px 10px;border-bottom:1px solid var(--line)}th{color:var(--dim);font-weight:600;white-space:nowrap}"
    "tr:hover td{background:var(--band)}.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}"
    f".code{{font-family:{FONT};font-size:12px;overflow-wrap:anywhere;min-width:220px}}"
    "td{overflow-wrap:anywhere;unicode-bidi:isolate}td:first-child{min-width:90px}[class^=pf-ended]{white-space:nowrap;font-weight:600}"
    ".pf-ended-bad{color:light-dark(#b1341a,#ff9479)}.pf-ended-stopped{color:light-dark(#8a6100,#f0c04d)}"
    ".pf-ended-lost{color:light-dark(#7a3aa0,#cfa4ec)}.pf-ended-open{color:light-dark(#1f7a4d,#63d39b)}"
    ".pf-ended-fine,.pf-ended-skipped,.pf-ended-waiting{color:var(--dim);font-weight:400!important}"
)
