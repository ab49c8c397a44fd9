"""The events of processes as OpenTelemetry metrics and spans.

Owns the names of instruments and attributes, and which event changes which.  Must not know how anything is exported.

Problem: metrics and spans are the host's, and so are their providers; this library only needs the API, and that only where
somebody asks for it.  So the API is imported by the call that makes the observer.
Rejected: the SDK (the host chooses it), attributes per pid in metrics (every process would be a series of its own).
Known hole: a span whose process is still there when the ``observe()`` block is left is never ended, so no exporter sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from procflow.errors import PlatformError
from procflow.observation import (
    Detached,
    Escalated,
    Escaped,
    Exited,
    GuardReplaced,
    GuardStarted,
    Lost,
    Observer,
    ProcessEvent,
    Ready,
    Reaped,
    Signalled,
    Spawned,
    Stalled,
)
from procflow.outcome import signal_name

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

SCOPE: Final = "procflow"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Attributes: TypeAlias = Mapping[str, str | int | float | bool]


def otel_events(
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    metrics_by_name: bool = True,
) -> Observer:
    """Return an observer that counts events as metrics and shows each process as a span.

    It needs ``opentelemetry-api``, the extra ``otel``.  A span begins where its process was started, as a child of the span
    that is current there, and ends when the process was reaped, or was detached.

    Args:
        meter_provider: Where metrics go; the global one by default.
        tracer_provider: Where spans go; the global one by default.
        metrics_by_name: Whether metrics are split by the name of the process.  Without it they are few, whatever the names.

    Raises:
        PlatformError: If OpenTelemetry is not installed.
    """
    try:
        from opentelemetry import metrics, trace
    except ImportError as exc:
        raise PlatformError("OpenTelemetry is not installed; it comes with the extra: procflow[otel]") from exc
    meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
    tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
    return _OtelObserver(_Instruments(meter), tracer, metrics_by_name=metrics_by_name)


class _Instruments:
    def __init__(self, meter: Meter) -> None:
        self.started = meter.create_counter("procflow.processes.started", "{process}", "Processes that were started.")
        self.ended = meter.create_counter(
            "procflow.processes.ended", "{process}", "Processes whose exit was seen, or that were detached, by outcome."
        )
        self.running = meter.create_up_down_counter(
            "procflow.processes.running", "{process}", "Processes that run, detached ones not counted."
        )
        self.duration = meter.create_histogram(
            "procflow.process.duration", "s", "From the start of a process to its exit."
        )
        self.signals = meter.create_counter(
            "procflow.signals.sent", "{signal}", "Signals that were sent to what had not exited yet."
        )
        self.escalations = meter.create_counter(
            "procflow.stops.escalated", "{step}", "Steps of stops that were not enough."
        )
        self.escaped = meter.create_counter(
            "procflow.processes.escaped", "{process}", "Processes found out of reach, or that outlived a stop."
        )
        self.stalls = meter.create_counter(
            "procflow.stream.stalls", "{stall}", "Times that a stream stopped for a reliable subscriber."
        )
        self.lost = meter.create_counter(
            "procflow.stream.lost", "By", "Bytes that best-effort subscribers were told to have lost."
        )
        self.guards = meter.create_counter("procflow.guard.replaced", "{guard}", "Guards that were replaced.")


class _OtelObserver:
    """One per ``otel_events()``; called from any thread, so it keeps to single steps on its collections."""

    def __init__(self, instruments: _Instruments, tracer: Tracer, *, metrics_by_name: bool) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._to = instruments
        self._tracer = tracer
        self._by_name = metrics_by_name
        self._failure = Status(StatusCode.ERROR)
        self._spans: dict[int, Span] = {}  # of those that were not reaped yet
        self._running: set[int] = set()

    def __repr__(self) -> str:
        return f"<OpenTelemetry observer, {len(self._running)} processes run>"

    def __call__(self, event: ProcessEvent) -> None:
        match event:
            case Spawned() | Ready() | Signalled() | Exited() | Detached() | Reaped():
                self._note_life(event)
            case Escalated(name=name, pid=pid, report=report):
                self._to.escalations.add(1, self._named(name))
                self._note(event, pid, {"procflow.stop.step": str(report)})
            case Escaped(name=name, pid=pid, escaped_pids=pids, description=text, has_survived=has_survived):
                self._to.escaped.add(len(pids), {**self._named(name), "procflow.escape.has_survived": has_survived})
                self._note(event, pid, {"procflow.escape": text})
            case Stalled(action=None):
                self._to.stalls.add(1)
            case Lost(lost_bytes=lost_bytes):
                self._to.lost.add(lost_bytes)
            case GuardReplaced():
                self._to.guards.add(1)
            case Stalled() | GuardStarted():
                pass
            case _:
                assert_never(event)

    def _note_life(self, event: Spawned | Ready | Signalled | Exited | Detached | Reaped) -> None:
        match event:
            case Spawned():
                self._begin(event)
            case Ready(pid=pid, after_s=after_s):
                self._note(event, pid, {"procflow.ready.after": after_s})
            case Signalled() if not event.after_exit and event.error is None:
                sent: Attributes = {"procflow.signal": signal_name(event.signal), "procflow.signal.to": event.to}
                self._to.signals.add(1, {**self._named(event.name), **sent})
                self._note(event, event.pid, sent)
            case Exited():
                self._note_exit(event)
            case Detached(name=name, pid=pid):
                self._end(name, pid, "detached")
                self._end_span(event, pid, {"procflow.outcome": "detached"})
            case Reaped(pid=pid, usage=usage):
                used: Attributes = {}
                if usage is not None:
                    used = {
                        "procflow.usage.user": usage.user_s,
                        "procflow.usage.system": usage.system_s,
                        "procflow.usage.max_rss": usage.max_rss_bytes,
                    }
                self._end_span(event, pid, used)
            case Signalled():
                pass
            case _:
                assert_never(event)

    def _begin(self, event: Spawned) -> None:
        self._running.add(event.pid)
        self._to.started.add(1, self._named(event.name))
        self._to.running.add(1, self._named(event.name))
        attributes: dict[str, str | int | float | bool] = {
            "procflow.process.name": event.name,
            "process.pid": event.pid,
        }
        if event.containment is not None:
            attributes["procflow.containment"] = event.containment.level
        self._spans[event.pid] = self._tracer.start_span(event.name, attributes=attributes, start_time=_unix_ns(event))

    def _note_exit(self, event: Exited) -> None:
        outcome = _outcome(event)
        if self._end(event.name, event.pid, outcome):
            self._to.duration.record(event.lived_s, {**self._named(event.name), "procflow.outcome": outcome})
        span = self._spans.get(event.pid)
        if span is not None:
            span.set_attribute("procflow.outcome", outcome)
            if event.exit_code is not None:
                span.set_attribute("process.exit.code", event.exit_code)
            if event.signal is not None:
                span.set_attribute("procflow.exit.signal", signal_name(event.signal))
            if outcome != "ok":
                span.set_status(self._failure)
            self._note(event, event.pid, {})  # the exit, and not the reaping, is what its users waited for

    def _end(self, name: str, pid: int, outcome: str) -> bool:
        """Count one process less, unless it was not counted; return whether it was."""
        try:
            self._running.remove(pid)
        except KeyError:  # started before this observer was there, or detached
            return False
        self._to.running.add(-1, self._named(name))
        self._to.ended.add(1, {**self._named(name), "procflow.outcome": outcome})
        return True

    def _note(self, event: ProcessEvent, pid: int, attributes: Attributes) -> None:
        span = self._spans.get(pid)
        if span is not None:
            span.add_event(type(event).__name__.lower(), attributes, _unix_ns(event))

    def _end_span(self, event: ProcessEvent, pid: int, attributes: Attributes) -> None:
        span = self._spans.pop(pid, None)
        if span is not None:
            for key, value in attributes.items():
                span.set_attribute(key, value)
            span.end(_unix_ns(event))

    def _named(self, name: str) -> Attributes:
        return {"procflow.process.name": name} if self._by_name else {}


def _outcome(event: Exited) -> str:
    if event.signal is not None:
        return "signal"
    if event.exit_code is None:
        return "unknown"
    return "failed" if event.exit_code else "ok"


def _unix_ns(event: ProcessEvent) -> int:
    return (event.at - _EPOCH) // timedelta(microseconds=1) * 1000
