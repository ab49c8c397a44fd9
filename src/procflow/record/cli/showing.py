"""``show``, ``check`` and ``what-up``: what a run was, whether its record is whole, what is open in it."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from procflow.record.cli.documents import health_document, open_document, run_document
from procflow.record.cli.face import Face
from procflow.record.cli.runs import find_run, records_below, root_of
from procflow.record.cli.sources import view_of_run
from procflow.record.cli.statuses import Status
from procflow.record.cli.tables import Column, table_lines
from procflow.record.errors import UnreadableRecordError
from procflow.record.fold.rows import CallRow, JobRow
from procflow.record.fold.view import RunView
from procflow.record.loading import load
from procflow.record.reading.reader import Health
from procflow.record.reading.states import RecordState
from procflow.record.views.facts import ending_text, facts
from procflow.record.views.looks import Look, ending_word, look_of
from procflow.record.views.open_work import OpenWork, elapsed_ns, open_work
from procflow.record.views.spans import job_label
from procflow.record.views.summary import Summary, check_status, health_line, summary
from procflow.record.views.words import bytes_text, counted, duration_text

_ENDED: Final = "ENDED"
_SHOWN_PLACES: Final = 20
_SHOWN_CALLS: Final = 50


def show_command(parsed: argparse.Namespace, face: Face) -> Status:
    """Show a run: facts, slowest calls, jobs, and calls."""
    view, path = view_of_run(parsed)
    figures = summary(view)
    if face.is_json:
        face.data(run_document(path, view, figures))
        return Status.DONE
    face.lines(_title(view, face))
    face.lines(_facts(view, figures, face))
    if view.jobs:
        face.lines(_section(counted(len(view.jobs), "attempt"), _jobs(list(view.jobs.values()), face), face))
    calls = list(view.calls.values())
    if parsed.calls:
        face.lines(_section(counted(len(calls), "call"), _calls(calls, face), face))
        return Status.DONE
    bad = [call for call in calls if look_of(call) is not Look.FINE]
    if bad:
        face.lines(_section("calls that did not end well", _calls(bad[:_SHOWN_CALLS], face), face))
    if len(bad) > _SHOWN_CALLS:
        face.lines([f"  and {len(bad) - _SHOWN_CALLS} more; --calls shows every call"])
    if figures.slowest:
        face.lines(_section("slowest calls", _calls(figures.slowest, face), face))
    return Status.DONE


def check_command(parsed: argparse.Namespace, face: Face) -> Status:
    """Say whether a record is whole; return what ``check_status()`` says."""
    path = find_run(parsed.run, root_of(parsed.root))
    try:
        view = load(path)
    except UnreadableRecordError as exc:
        return _unreadable(path, exc, parsed, face)
    status = Status(check_status(view))
    if face.is_json:
        face.data(
            {
                "path": os.fspath(path), "run_id": view.run.run_id, "name": view.run.name, "state": view.state.value,
                "outcome": view.run.outcome, "exit_status": int(status), "health": health_document(view.health),
            }
        )  # fmt: skip
        return status
    if parsed.quiet:
        return status
    look = {Status.DONE: Look.FINE, Status.CRASHED: Look.LOST, Status.RUNNING: Look.OPEN}.get(status, Look.BAD)
    word = face.paint(view.state.value, look)
    if view.state is RecordState.CRASHED and view.open_calls:
        word += f", with {counted(len(view.open_calls), 'call')} open"
    face.lines([f"{word}: {face.cut(health_line(view.health), used=len(view.state.value) + 2)}"])
    face.lines(f"  {line}" for line in _places(view.health))
    return status


def _unreadable(path: Path, error: UnreadableRecordError, parsed: argparse.Namespace, face: Face) -> Status:
    """Say that a record cannot be read: here that is an answer, and no failure."""
    if face.is_json:
        told = {"path": os.fspath(path), "state": RecordState.UNREADABLE.value, "problem": error.reason}
        face.data({**told, "exit_status": int(Status.UNREADABLE)})
    elif not parsed.quiet:
        face.lines([f"{face.paint(RecordState.UNREADABLE.value, Look.BAD)}: {face.cut(error.reason, used=12)}"])
    return Status.UNREADABLE


def what_up_command(parsed: argparse.Namespace, face: Face) -> Status:
    """Show what is open in the runs that are named, or in all that go on."""
    root = root_of(parsed.root)
    if parsed.runs:
        paths = [find_run(typed, root) for typed in parsed.runs]
    else:
        paths = [Path(record.path) for record in records_below(root) if record.state is RecordState.RUNNING]
    documents = []
    for number, path in enumerate(paths):
        view = load(path)
        now_ms = time.time_ns() // 1_000_000
        work, run_ns = open_work(view, now_ms=now_ms), elapsed_ns(view.run, view.run, view.state, now_ms)
        if face.is_json:
            documents.append(open_document(os.fspath(path), view, run_ns, work))
        else:
            face.lines([""] if number else [])
            face.lines(_open(path, view, run_ns, work, face))
    if face.is_json:
        face.data({"runs": documents})
    elif not paths:
        face.say(f"no run in {root} goes on")
    return Status.DONE


def _title(view: RunView, face: Face) -> Iterator[str]:
    name = face.cut(view.run.name or "a run without a name", used=24)
    yield f"{face.paint(name, is_bold=True)}  {face.paint(ending_text(view), look_of(view.run))}"


def _facts(view: RunView, figures: Summary, face: Face) -> Iterator[str]:
    known = facts(view, figures)
    # The last ones are what the caller says of the run: their names may be as long as they like.
    columns = max((len(word) for word, _ in known[:8]), default=0)
    for word, value in known:
        yield f"  {face.paint(f'{face.cut(word, used=4):<{columns}}', is_dim=True)}  {face.cut(value, used=columns + 4)}"


def _section(title: str, lines: Sequence[str], face: Face) -> list[str]:
    return ["", face.paint(title, is_bold=True), *lines]


def _jobs(jobs: Sequence[JobRow], face: Face) -> list[str]:
    columns = [
        Column(head="JOB", least=8),
        Column(head=_ENDED),
        Column(head="TOOK", is_right=True),
        Column(head="BEGAN AT", is_right=True, rank=2),
        Column(head="WHY", least=12, rank=1),
    ]
    rows = [
        (
            look_of(job),
            (
                job_label(job.key), ending_word(job), _duration(job.duration_ns if job.has_begun else None),
                _duration(job.start_mono_ns), _why(job),
            ),
        )
        for job in jobs
    ]  # fmt: skip
    return _table(columns, rows, face)


def _calls(calls: Sequence[CallRow], face: Face) -> list[str]:
    columns = [
        Column(head="JOB", least=6),
        Column(head="CALL", is_right=True),
        Column(head=_ENDED),
        Column(head="TOOK", is_right=True, rank=1),
        Column(head="STDOUT", is_right=True, rank=3),
        Column(head="STDERR", is_right=True, rank=2),
        Column(head="LOG", rank=4),
        Column(head="COMMAND", least=8),
    ]
    rows = [
        (
            look_of(call),
            (
                job_label(call.key.job), str(call.sh), ending_word(call), _duration(call.duration_ns),
                _bytes(call.stdout_bytes), _bytes(call.stderr_bytes), call.log_path or "", _command(call),
            ),
        )
        for call in calls
    ]  # fmt: skip
    return _table(columns, rows, face)


def _table(columns: Sequence[Column], rows: Sequence[tuple[Look, Sequence[str]]], face: Face) -> list[str]:
    """Return the table without the columns in which nothing stands."""
    used = [at for at in range(len(columns)) if any(cells[at] for _, cells in rows)]
    return table_lines(
        [columns[at] for at in used], [(look, [cells[at] for at in used]) for look, cells in rows],
        width=face.width, paint=face.paint, painted=_ENDED, indent="  ",
    )  # fmt: skip


def _open(path: Path, view: RunView, run_ns: int, work: Sequence[OpenWork], face: Face) -> Iterator[str]:
    verb = {RecordState.RUNNING: "running for", RecordState.CRASHED: "crashed after"}.get(view.state, "finished after")
    name = face.cut(view.run.name or path.name, used=len(verb) + 10)
    look = {RecordState.RUNNING: Look.OPEN, RecordState.CRASHED: Look.LOST}.get(view.state, Look.FINE)
    yield f"{face.paint(name, is_bold=True)}  {face.paint(f'{verb} {duration_text(run_ns)}', look)}"
    if not work:
        yield "  nothing is open"
    for one in work:
        yield f"  {duration_text(one.elapsed_ns):>7}  {face.cut(job_label(one.job.key), used=11)}"
        for call, call_ns in one.calls:
            pid = f"  (pid {call.pid})" if call.pid is not None else ""
            head = f"  {duration_text(call_ns):>7}    [{call.sh}] "
            yield f"{head}{face.cut(_command(call), used=len(head) + len(pid))}{face.paint(pid, is_dim=True)}"


def _places(health: Health) -> Iterator[str]:
    for offset in health.corrupt_offsets[:_SHOWN_PLACES]:
        yield f"at byte {offset}: a line that is no event"
    if health.corrupt > min(len(health.corrupt_offsets), _SHOWN_PLACES):
        yield f"and {health.corrupt - min(len(health.corrupt_offsets), _SHOWN_PLACES)} more such lines"
    for gap in health.gaps[:_SHOWN_PLACES]:
        numbers = f"event {gap.first} is" if gap.first == gap.last else f"events {gap.first} to {gap.last} are"
        yield f"{numbers} missing{', as its writer says' if gap.is_explained else ''}"
    if len(health.gaps) > _SHOWN_PLACES:
        yield f"and {len(health.gaps) - _SHOWN_PLACES} more gaps"


def _command(call: CallRow) -> str:
    return call.cmd or "(its command is not known)"


def _why(job: JobRow) -> str:
    if job.error is not None:
        return f"{job.error.type}: {job.error.message}"
    return f"because of {', '.join(job.because)}" if job.because else ""


def _duration(duration_ns: int | None) -> str:
    return duration_text(duration_ns) if duration_ns is not None else ""


def _bytes(count: int | None) -> str:
    return bytes_text(count) if count is not None else ""
