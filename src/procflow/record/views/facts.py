"""What is known of a whole run, as words beside words.

Owns which facts are told and how; a page and a command show the same.  Must not know how they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from procflow.record.fold.view import RunView
from procflow.record.views.looks import Look, ending_word, look_of
from procflow.record.views.summary import Summary
from procflow.record.views.words import duration_text, instant_text


def facts(view: RunView, figures: Summary) -> list[tuple[str, str]]:
    """Return name and value of everything that is known, in the order in which it is of interest; the ending is not among them."""
    run = view.run
    took = duration_text(figures.duration_ns)
    began = f"{instant_text(run.started_at_ms)} UTC"
    known = (
        ("record", f"{view.state.value}; {figures.health}"),
        ("began", f"{began}, {took} up to its last event" if look_of(run) is Look.OPEN else f"{began}, took {took}"),
        ("jobs", counts_text(figures.jobs)),
        ("calls", counts_text(figures.calls)),
        ("longest path", _path(figures)),
        ("asked to end", f"{run.cancel_reason} {run.cancel_signal or ''}".strip() if run.cancel_reason else ""),
        ("run", run.run_id or ""),
        ("host", f"{run.host}, pid {run.pid}" if run.host else ""),
        ("written by", f"procflow {run.procflow}, Python {run.python}, {run.platform}" if run.procflow else ""),
        *((run.meta or {}).items()),
    )
    return [(word, value) for word, value in known if value]


def counts_text(counts: Mapping[str, int]) -> str:
    """Return how many of what: ``3 succeeded, 1 failed``."""
    return ", ".join(f"{count} {word}" for word, count in counts.items())


def spans_text(pairs: Iterable[tuple[int, int]]) -> str:
    """Return stretches of numbers: ``3, 7 to 9``."""
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in pairs)


def _path(figures: Summary) -> str:
    if len(figures.critical_path) < 2:
        return ""
    return f"{' -> '.join(figures.critical_path)} ({duration_text(figures.critical_ns)})"


def ending_text(view: RunView) -> str:
    """Return how the run ended, in words."""
    look = look_of(view.run)
    return {Look.LOST: "lost: its writer died", Look.OPEN: "still open"}.get(look, ending_word(view.run))
