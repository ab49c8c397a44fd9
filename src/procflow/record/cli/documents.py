"""The JSON documents of the commands.

Owns their shapes: fields of rows are those of the record's own rows, and what has its default value is left out.
"""

from __future__ import annotations

import msgspec

from procflow.record.fold.view import RunView
from procflow.record.reading.reader import Health
from procflow.record.retention.choice import ListedRecord
from procflow.record.views.open_work import OpenWork
from procflow.record.views.spans import Span
from procflow.record.views.summary import Summary


def run_document(path: str, view: RunView, figures: Summary) -> dict[str, object]:
    """Return everything that is known of a run."""
    return {
        "path": path,
        "state": view.state.value,
        "run": view.run,
        "summary": {
            "outcome": figures.outcome,
            "duration_ns": figures.duration_ns,
            "jobs": dict(figures.jobs),
            "calls": dict(figures.calls),
            "slowest": [call.key for call in figures.slowest],
            "critical_path": figures.critical_path,
            "critical_ns": figures.critical_ns,
            "health": figures.health,
        },
        "health": health_document(view.health),
        "jobs": list(view.jobs.values()),
        "calls": list(view.calls.values()),
        "notes": view.notes,
    }


def health_document(health: Health) -> dict[str, object]:
    """Return the health of a record, every field of it."""
    fields: dict[str, object] = msgspec.to_builtins(health)
    return {"is_clean": health.is_clean, **fields, "missing": health.missing}


def open_document(path: str, view: RunView, elapsed_ns: int, work: list[OpenWork]) -> dict[str, object]:
    """Return what is open in a run."""
    return {
        "path": path,
        "run_id": view.run.run_id,
        "name": view.run.name,
        "state": view.state.value,
        "elapsed_ns": elapsed_ns,
        "jobs": [
            {
                "job_id": one.job.job_id,
                "attempt": one.job.attempt,
                "elapsed_ns": one.elapsed_ns,
                "calls": [
                    {"sh": call.sh, "cmd": call.cmd, "cwd": call.cwd, "pid": call.pid, "elapsed_ns": elapsed_ns}
                    for call, elapsed_ns in one.calls
                ],
            }
            for one in work
        ],
    }


def listed_document(record: ListedRecord) -> dict[str, object]:
    """Return one record among others; what it does not say is ``null``."""
    return {
        "path": record.path,
        "run_id": record.run_id,
        "name": record.name,
        "state": record.state.value,
        "outcome": record.outcome,
        "started_at_ms": record.started_at_ms,
        "finished_at_ms": record.finished_at_ms,
        "size_bytes": record.size_bytes,
        "used_at_ms": record.used_at_ms,
        "problem": record.problem or None,
    }


def span_document(span: Span) -> dict[str, object]:
    """Return one span of a timeline; ``job_id``, ``attempt`` and ``sh`` are there as far as they name it."""
    return {
        "kind": span.kind.value,
        **(span.key._asdict() if span.key is not None else {}),
        "label": span.label,
        "start_ns": span.start_ns,
        "duration_ns": span.duration_ns,
        "outcome": span.outcome,
        "is_open": span.is_open,
        "is_lost": span.is_lost,
        "lane": span.lane,
    }
