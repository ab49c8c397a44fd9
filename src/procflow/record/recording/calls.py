"""One call of a run, as its process tells it.

Owns the three events of a call and its log.  Must not know jobs, nor how a process is started.

Nothing here raises for a disk or a record: a call goes on as if nobody wrote it down.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from procflow.events import OutputName
from procflow.outcome import Outcome
from procflow.record.endings import Ending, ending
from procflow.record.events import (
    CANCELLED,
    DETACHED,
    SPAWN_FAILED,
    ErrorInfo,
    Note,
    RecordEvent,
    ShFinished,
    ShSpawned,
)
from procflow.record.fold.rows import CallKey
from procflow.record.logs.format import LogStream
from procflow.record.logs.writer import CallLog
from procflow.record.reading.liveness import start_ticks
from procflow.record.recording.idle_flush import IdleFlusher
from procflow.record.recording.verdicts import error_info, verdict

LOG_FAILED: Final = "procflow.log_failed"
"""Key of the note that says why the log of a call is not whole."""

_STREAMS: Final = {"stdout": LogStream.STDOUT, "stderr": LogStream.STDERR}


class OpenCall:
    """A call that has begun and is not over; its ``sh_started`` is written."""

    def __init__(
        self,
        key: CallKey,
        *,
        emit: Callable[[RecordEvent], object],
        mono_ns: Callable[[], int],
        on_end: Callable[[OpenCall], object],
        flusher: IdleFlusher,
        environment: Mapping[str, str],
    ) -> None:
        self.key: Final = key
        self.environment: Final = environment
        self._emit = emit
        self._mono_ns = mono_ns
        self._on_end = on_end
        self._flusher = flusher
        self._open_log: Callable[[], CallLog] | None = None
        self._log: CallLog | None = None
        self._log_lock: Final = threading.RLock()
        self._began_ns = mono_ns()
        self._was_spawned = False
        self._is_over = False

    def __repr__(self) -> str:
        return f"<call {self.key.sh} of {self.key.job_id!r}, {'over' if self._is_over else 'open'}>"

    def log_to(self, open_log: Callable[[], CallLog]) -> None:
        """Write its outputs to what ``open_log`` gives, which is closed with it.

        It is opened once the command runs: to make a file takes as long as a program takes to begin, and the two can overlap.
        """
        self._open_log = open_log

    def spawned(self, pid: int) -> None:
        """Write that it runs."""
        self._was_spawned = True
        self._make_log()
        self._emit(ShSpawned(**self.key._asdict(), pid=pid, pid_start=start_ticks(pid, also_of_zombie=True)))

    def _make_log(self) -> None:
        if self._open_log is not None and self._log is None:
            self._log = self._open_log()

    def copy(self, output: OutputName, data: bytes) -> None:
        """Log what was read, or that the output has ended."""
        log = self._log
        if log is None:
            return
        with self._log_lock:
            if self._is_over:  # its run was left in another thread
                return
            if data:
                log.append(_STREAMS[output], data, at_ns=time.time_ns(), mono_ns=time.monotonic_ns())
            else:
                log.finish_stream(_STREAMS[output])
            due_ns = log.due_ns
        if due_ns is not None:
            self._flusher.watch(self, due_ns)

    def flush_idle(self, mono_ns: int) -> int | None:
        """Write unfinished lines that have waited; return when to ask again."""
        log = self._log
        if log is None:
            return None
        with self._log_lock:
            log.flush_idle(mono_ns)
            return log.due_ns

    def failed(self, error: BaseException) -> None:
        """Write that there is no process: it could not be started, or a neighbour could not and it was ended with it."""
        word = CANCELLED if self._was_spawned or verdict(error) == CANCELLED else SPAWN_FAILED
        self._end(Ending(outcome=word), error=error_info(error))

    def finished(self, outcome: Outcome | None, *, stdout_bytes: int, stderr_bytes: int) -> None:
        """Write how it ended."""
        how = ending(outcome) if outcome is not None else Ending(outcome=DETACHED)
        self._end(how, stdout_bytes=stdout_bytes, stderr_bytes=stderr_bytes)

    def left_open(self) -> None:
        """Write that the run is over and this is not."""
        self._end(Ending(outcome=DETACHED))

    def _end(
        self, how: Ending, *, stdout_bytes: int = 0, stderr_bytes: int = 0, error: ErrorInfo | None = None
    ) -> None:
        with self._log_lock:
            if self._is_over:
                return
            self._is_over = True
            self._make_log()
            summary = self._log.close(time.time_ns()) if self._log is not None else None
        if summary is not None and summary.failure is not None:
            reason = summary.failure.strerror or type(summary.failure).__name__
            self._emit(Note(key=LOG_FAILED, value={"reason": reason}, **self.key._asdict()))
        self._emit(
            ShFinished(
                **self.key._asdict(),
                outcome=how.outcome,
                duration_ns=self._mono_ns() - self._began_ns,
                stdout_bytes=stdout_bytes,
                stderr_bytes=stderr_bytes,
                exit_code=how.exit_code,
                signal=how.signal,
                log_dropped_bytes=summary.dropped_bytes if summary is not None else 0,
                escalated=how.escalated,
                usage=how.usage,
                error=error,
            )
        )
        self._on_end(self)


class UnrecordedCall:
    """A call that comes after the end of its run, or in a forked copy of its host."""

    environment: Mapping[str, str] = {}

    def spawned(self, pid: int) -> None:
        """Do nothing."""

    def copy(self, output: OutputName, data: bytes) -> None:
        """Do nothing."""

    def failed(self, error: BaseException) -> None:
        """Do nothing."""

    def finished(self, outcome: Outcome | None, *, stdout_bytes: int, stderr_bytes: int) -> None:
        """Do nothing."""


UNRECORDED: Final = UnrecordedCall()
