"""Runs as a recorder writes them, by chance: jobs and calls at once, retries, every ending, and a wall clock that steps."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

from procflow.record.envelope import stamped
from procflow.record.events import (
    JOB_OUTCOMES,
    ErrorInfo,
    JobDeclared,
    JobFinished,
    JobSkipped,
    JobStarted,
    Note,
    RedactionInfo,
    RunEvent,
    RunFinished,
    ShFinished,
    ShSpawned,
    ShStarted,
    Totals,
    Trace,
)
from tests.core.record.sample import header

JOB_IDS = ("build", "té st", "a/b")
ENDINGS = [outcome for outcome in JOB_OUTCOMES if outcome not in {"skipped", "lost"}]
CALL_ENDINGS: list[dict[str, object]] = [
    {"outcome": "exited", "exit_code": 0},
    {"outcome": "exited", "exit_code": 3},
    {"outcome": "exited"},
    {"outcome": "signaled", "signal": "SIGKILL"},
    {"outcome": "timed_out", "signal": "SIGTERM"},
    {"outcome": "cancelled", "signal": "SIGTERM"},
    {"outcome": "spawn_failed", "error": ErrorInfo(type="FileNotFoundError", message="no such file")},
    {"outcome": "a word of tomorrow"},
]
ERRORS = [None, ErrorInfo(type="KeyError", message="'x'"), ErrorInfo(type="procflow.errors.TimedOut", message="late")]
ARGV = [("make", "-j4"), ("/usr/bin/env", "x"), ("./t.sh",), ("a/b/c",), (), ("ls/",)]
TRACE = Trace(trace_id="4bf92f3577b34da6a3ce929d0e0e4736", parent_span_id="00f067aa0ba902b7")


@dataclass
class _Job:
    job_id: str
    attempt: int
    began_ns: int
    call_count: int = 0
    open: dict[int, int] = field(default_factory=dict)  # number of a call: when it began


class _Writer:
    """Draws one event after the other; what is finished was started before, and every start has its end."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.events: list[RunEvent] = []
        self.mono_ns = draw(st.integers(0, 50))
        self.at_ms = draw(st.integers(0, 2_000_000_000_000))
        self.attempts: dict[str, int] = {}
        self.jobs: list[_Job] = []

    def emit(self, event: RunEvent) -> None:
        self.events.append(stamped(event, seq=len(self.events), at_ms=self.at_ms, mono_ns=self.mono_ns))
        self.mono_ns += self.draw(st.integers(0, 3_000_000))
        self.at_ms = max(self.at_ms + self.draw(st.sampled_from([0, 1, 3, -3_600_000, 3_600_000])), 0)

    def begin(self) -> None:
        redaction = RedactionInfo(
            enabled=self.draw(st.booleans()), rules=(), argv=self.draw(st.sampled_from(["redacted", "program"]))
        )
        self.emit(header(redaction=redaction, trace=self.draw(st.sampled_from([None, TRACE]))))

    def start_job(self, job_id: str) -> None:
        attempt = self.attempts[job_id] = self.attempts.get(job_id, 0) + 1
        self.jobs.append(_Job(job_id, attempt, self.mono_ns))
        self.emit(JobStarted(job_id=job_id, attempt=attempt))

    def start_call(self, job: _Job) -> None:
        job.call_count += 1
        sh = job.call_count
        job.open[sh] = self.mono_ns
        argv, cwd = self.draw(st.sampled_from(ARGV)), self.draw(st.sampled_from(["", "/src/"]))
        self.emit(ShStarted(job_id=job.job_id, attempt=job.attempt, sh=sh, argv=argv, cmd="x", cwd=cwd))
        if self.draw(st.booleans()):
            self.emit(ShSpawned(job_id=job.job_id, attempt=job.attempt, sh=sh, pid=100 + sh))

    def end_call(self, job: _Job, sh: int) -> None:
        self.emit(
            ShFinished(
                job_id=job.job_id, attempt=job.attempt, sh=sh, duration_ns=self.mono_ns - job.open.pop(sh),
                stdout_bytes=0, stderr_bytes=0, **self.draw(st.sampled_from(CALL_ENDINGS)),  # type: ignore[arg-type]
            )
        )  # fmt: skip

    def end_job(self, job: _Job) -> None:
        for sh in list(job.open):
            self.end_call(job, sh)
        self.jobs.remove(job)
        outcome, error = self.draw(st.sampled_from(ENDINGS)), self.draw(st.sampled_from(ERRORS))
        self.emit(
            JobFinished(
                job_id=job.job_id, attempt=job.attempt, outcome=outcome, error=error,
                duration_ns=self.mono_ns - job.began_ns,
            )
        )  # fmt: skip

    def end(self) -> None:
        for job in list(self.jobs):
            self.end_job(job)
        for event in list(self.events):
            if isinstance(event, JobDeclared) and event.job_id not in self.attempts:
                self.emit(JobSkipped(job_id=event.job_id, because=()))
        totals = Totals(jobs=0, sh=0, dropped=0, redacted=0)
        self.emit(RunFinished(outcome=self.draw(st.sampled_from(ENDINGS)), duration_ns=self.mono_ns, totals=totals))


@st.composite
def recorded_runs(draw: st.DrawFn) -> list[RunEvent]:
    """Give the events of a whole run, stamped."""
    writer = _Writer(draw)
    writer.begin()
    for job_id in draw(st.lists(st.sampled_from(JOB_IDS), unique=True)):
        writer.emit(JobDeclared(job_id=job_id))
    for _ in range(draw(st.integers(0, 12))):
        idle = [job_id for job_id in JOB_IDS if all(job.job_id != job_id for job in writer.jobs)]
        job = draw(st.sampled_from(writer.jobs)) if writer.jobs else None
        match draw(st.sampled_from(["job", "call", "call", "end call", "end job", "note"])):
            case "job" if idle:
                writer.start_job(draw(st.sampled_from(idle)))
            case "call" if job is not None:
                writer.start_call(job)
            case "end call" if job is not None and job.open:
                writer.end_call(job, draw(st.sampled_from(list(job.open))))
            case "end job" if job is not None:
                writer.end_job(job)
            case _:
                writer.emit(Note(key="a.b", value=1))
    writer.end()
    return writer.events


@st.composite
def damaged_runs(draw: st.DrawFn) -> list[RunEvent]:
    """Give runs of which some events are lost, but not the first, and of some the end."""
    events = draw(recorded_runs())
    kept = [event for event in events[1:] if draw(st.integers(0, 5))]
    return [events[0], *kept[: draw(st.integers(0, len(kept)))]] if draw(st.booleans()) else [events[0], *kept]
