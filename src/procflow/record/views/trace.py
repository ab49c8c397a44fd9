"""A run as a trace of Chrome, which Perfetto and ``chrome://tracing`` show.

Owns the mapping to the Trace Event Format: a job is a process, a lane a thread, times are microseconds of the monotonic clock.
Must not know files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from procflow.record.fold.rows import CallKey, CallRow, JobKey
from procflow.record.fold.view import RunView
from procflow.record.views.spans import Span, SpanKind, in_lanes, timeline

_RUN_PROCESS = 0


def chrome_trace(view: RunView) -> bytes:
    """Return the trace as JSON.  Every beginning has its end; a span that is open ends at the last event and says ``"open": true``."""
    spans = timeline(view)
    by_job: dict[str, list[Span]] = {}
    for span in spans:
        if isinstance(span.key, JobKey | CallKey):
            by_job.setdefault(span.key.job_id, []).append(span)
    events = [*_process(_RUN_PROCESS, f"run {view.run.name or ''}".strip())]
    events += _spans([span for span in spans if span.kind is SpanKind.RUN], _RUN_PROCESS, 0, "run")
    for process, (job_id, found) in enumerate(by_job.items(), _RUN_PROCESS + 1):
        attempts = in_lanes(span for span in found if span.kind is SpanKind.JOB)
        calls = in_lanes(span for span in found if span.kind is SpanKind.CALL)
        events += _process(process, job_id)
        events += _spans(attempts, process, 0, "job")
        events += _spans(calls, process, 1 + max((span.lane for span in attempts), default=-1), "calls")
    return msgspec.json.encode({"displayTimeUnit": "ms", "traceEvents": events})


def _process(process: int, name: str) -> Iterator[dict[str, object]]:
    yield {"ph": "M", "name": "process_name", "pid": process, "tid": 0, "args": {"name": name}}
    yield {"ph": "M", "name": "process_sort_index", "pid": process, "tid": 0, "args": {"sort_index": process}}


def _spans(spans: Sequence[Span], process: int, first_lane: int, name: str) -> Iterator[dict[str, object]]:
    for lane in sorted({span.lane for span in spans}):
        place: dict[str, object] = {"pid": process, "tid": first_lane + lane}
        yield {"ph": "M", "name": "thread_name", **place, "args": {"name": f"{name} {lane + 1}" if lane else name}}
        # In one lane nothing overlaps, so each end comes before the next beginning.
        for span in spans:
            if span.lane == lane:
                yield {
                    "ph": "B", "name": span.label, "cat": span.kind.value, "ts": span.start_ns / 1000, **place,
                    "args": _arguments(span),
                }  # fmt: skip
                yield {"ph": "E", "ts": span.end_ns / 1000, **place}


def _arguments(span: Span) -> dict[str, object]:
    told: dict[str, object] = {"outcome": span.outcome}
    if span.is_open:
        told["open"] = True
    if isinstance(span.key, JobKey | CallKey):
        told["attempt"] = span.key.attempt
    if isinstance(span.row, CallRow):
        call = span.row
        known = {"sh": call.sh, "pid": call.pid, "exit_code": call.exit_code, "signal": call.signal, "cwd": call.cwd}
        told |= {name: value for name, value in known.items() if value is not None}
    return told
