"""A record to test with: parallel jobs and calls, a retry, skipped jobs, and a wall clock that steps back."""

from __future__ import annotations

from collections.abc import Sequence

from procflow.record.codec import RecordCodec
from procflow.record.envelope import stamped
from procflow.record.events import (
    CancelRequested,
    JobDeclared,
    JobFinished,
    JobSkipped,
    JobStarted,
    Note,
    RecordEvent,
    RedactionInfo,
    RunEvent,
    RunFinished,
    RunStarted,
    ShFinished,
    ShSpawned,
    ShStarted,
    Totals,
)

CODEC = RecordCodec()


def header(**more: object) -> RunStarted:
    fields: dict[str, object] = {
        "format": (1, 0), "run_id": "019b76da-a800-7000-8000-000000000001", "name": "nightly", "procflow": "0.1.0",
        "python": "3.11.7", "platform": "linux", "host": "h1", "pid": 4711, "redaction": RedactionInfo(enabled=False, rules=()),
    }  # fmt: skip
    return RunStarted(**(fields | more))  # type: ignore[arg-type]  # the defaults above are right


def started(job_id: str, sh: int, *argv: str, attempt: int = 1) -> ShStarted:
    return ShStarted(job_id=job_id, attempt=attempt, sh=sh, argv=argv, cmd=" ".join(argv), cwd="/src")


def finished(job_id: str, sh: int, exit_code: int = 0, attempt: int = 1) -> ShFinished:
    return ShFinished(
        job_id=job_id, attempt=attempt, sh=sh, outcome="exited", exit_code=exit_code, duration_ns=5_000_000,
        stdout_bytes=10 * sh, stderr_bytes=0,
    )  # fmt: skip


def job_finished(job_id: str, outcome: str = "succeeded", attempt: int = 1) -> JobFinished:
    return JobFinished(job_id=job_id, attempt=attempt, outcome=outcome, duration_ns=9_000_000)


def sample() -> list[RunEvent]:
    """Return the events of one run, without their stamps."""
    return [
        header(meta={"why": "cron"}),
        JobDeclared(job_id="build"),
        JobDeclared(job_id="lint"),
        JobDeclared(job_id="test", after=("build", "lint")),
        JobDeclared(job_id="deploy", after=("test",)),
        JobStarted(job_id="build", attempt=1),
        JobStarted(job_id="lint", attempt=1),
        started("build", 1, "make", "-j4"),
        started("build", 2, "make", "docs"),
        started("lint", 1, "ruff", "check"),
        ShSpawned(job_id="build", attempt=1, sh=2, pid=102, pid_start=2000),
        ShSpawned(job_id="build", attempt=1, sh=1, pid=101),
        ShSpawned(job_id="lint", attempt=1, sh=1, pid=103),
        Note(key="git.sha", value="abc"),
        finished("build", 2, 2),
        finished("lint", 1),
        Note(key="lint.warnings", value={"count": 3}, job_id="lint", attempt=1, sh=1),
        job_finished("lint"),
        finished("build", 1),
        job_finished("build", "failed"),
        JobStarted(job_id="build", attempt=2),
        started("build", 1, "make", "-j1", attempt=2),
        ShSpawned(job_id="build", attempt=2, sh=1, pid=104),
        CancelRequested(reason="signal", signal="SIGTERM"),
        ShFinished(
            job_id="build", attempt=2, sh=1, outcome="cancelled", signal="SIGTERM", duration_ns=3, stdout_bytes=0,
            stderr_bytes=0, escalated=True,
        ),
        job_finished("build", "cancelled", attempt=2),
        JobSkipped(job_id="test", because=("build",)),
        JobSkipped(job_id="deploy", because=("build",)),
        RunFinished(outcome="cancelled", duration_ns=30_000_000, totals=Totals(jobs=3, sh=4, dropped=0, redacted=0)),
    ]  # fmt: skip


def stamp_all(events: Sequence[RunEvent], *, back_at: int = 20) -> list[RunEvent]:
    """Return ``events`` with numbers and times; the wall clock steps back by an hour at one of them."""
    return [
        stamped(
            event, seq=seq, at_ms=1_767_225_600_000 + seq - (3_600_000 if seq >= back_at else 0), mono_ns=seq * 10**6
        )
        for seq, event in enumerate(events)
    ]


def lines_of(events: Sequence[RecordEvent]) -> list[bytes]:
    return [CODEC.encode(event) for event in events]


EVENTS = stamp_all(sample())
LINES = lines_of(EVENTS)
RECORD = b"".join(LINES)
