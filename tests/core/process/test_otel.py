"""The OpenTelemetry adapter, against the SDK with exporters in memory."""

from __future__ import annotations

import builtins
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import procflow as pf
from procflow.adapters import otel_events

TERM_IGNORER = "trap '' TERM; echo ready; while :; do sleep 60 & wait; done"
NOW = datetime.now(UTC)
LATER = NOW + timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Providers of the SDK and what has reached them."""

    reader: InMemoryMetricReader
    exporter: InMemorySpanExporter
    meters: MeterProvider
    tracers: TracerProvider

    def observer(self, *, metrics_by_name: bool = True) -> pf.Observer:
        return otel_events(meter_provider=self.meters, tracer_provider=self.tracers, metrics_by_name=metrics_by_name)

    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def points(self, metric: str) -> dict[tuple[tuple[str, object], ...], float]:
        """The numbers of one instrument by their attributes; of a histogram the counts."""
        found: dict[tuple[tuple[str, object], ...], float] = {}
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for item in scope.metrics:
                    if item.name == metric:
                        for point in item.data.data_points:
                            attributes: Mapping[str, object] = point.attributes or {}
                            value = getattr(point, "value", None)
                            found[tuple(sorted(attributes.items()))] = point.count if value is None else value  # type: ignore[union-attr]  # a histogram's
        return found

    def total(self, metric: str) -> float:
        return sum(self.points(metric).values())


@pytest.fixture
def telemetry() -> Telemetry:
    reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    return Telemetry(reader, exporter, MeterProvider([reader], shutdown_on_exit=False), tracers)


@pytest.mark.anyio
async def test_a_process_is_one_span_and_a_few_numbers(telemetry: Telemetry) -> None:
    """C-92: a span from start to reaping with the ending as attributes, and the counters by outcome."""
    with pf.observe(telemetry.observer()):
        await pf.run(pf.Command("true", name="good"))
        done = await pf.run(pf.Command("sh", "-c", "exit 3", name="bad"), check=False)

    good, bad = telemetry.spans()
    assert (good.name, good.status.status_code) == ("good", StatusCode.UNSET)
    assert (bad.name, bad.status.status_code) == ("bad", StatusCode.ERROR)
    assert bad.attributes is not None
    assert bad.attributes["process.pid"] == done.outcome.pid
    assert bad.attributes["process.exit.code"] == 3
    assert bad.attributes["procflow.outcome"] == "failed"
    assert bad.attributes["procflow.usage.max_rss"] == done.outcome.usage.max_rss_bytes if done.outcome.usage else 0
    assert bad.start_time is not None
    assert bad.end_time is not None
    assert bad.start_time <= bad.end_time
    assert abs(bad.start_time - done.outcome.started_at.timestamp() * 1e9) < 5e9
    assert telemetry.total("procflow.processes.started") == 2
    assert telemetry.total("procflow.processes.running") == 0
    assert telemetry.total("procflow.process.duration") == 2
    assert telemetry.total("procflow.signals.sent") == 0  # the sweeps of normal ends are no signals to count
    assert telemetry.points("procflow.processes.ended") == {
        (("procflow.outcome", "ok"), ("procflow.process.name", "good")): 1,
        (("procflow.outcome", "failed"), ("procflow.process.name", "bad")): 1,
    }


@pytest.mark.anyio
async def test_a_span_belongs_to_the_one_that_was_current(telemetry: Telemetry) -> None:
    """C-92: the span of a process is a child of the caller's, which stays the current one."""
    tracer = telemetry.tracers.get_tracer("test")
    with pf.observe(telemetry.observer()):
        with tracer.start_as_current_span("request") as request:
            await pf.run(pf.Command("true", name="child"))
            with tracer.start_as_current_span("after"):
                pass

    child, after, _ = telemetry.spans()
    assert child.parent is not None
    assert after.parent is not None
    assert child.parent.span_id == after.parent.span_id == request.get_span_context().span_id


@pytest.mark.anyio
async def test_a_stop_shows_in_the_span(telemetry: Telemetry) -> None:
    """C-92: signals and escalations are events of the span, and are counted."""
    with pf.observe(telemetry.observer()):
        async with pf.spawn(pf.Command("sh", "-c", TERM_IGNORER, name="deaf")) as child:
            await child.stdout.wait_for_line("ready")
            assert telemetry.total("procflow.processes.running") == 1
            await child.terminate(pf.Shutdown.sigterm(0.05))

    (span,) = telemetry.spans()
    assert [event.name for event in span.events] == ["signalled", "signalled", "escalated", "signalled", "exited"]
    assert [(event.attributes or {}).get("procflow.signal") for event in span.events] == [
        "SIGTERM",
        "SIGCONT",
        None,
        "SIGKILL",
        None,
    ]
    assert (span.attributes or {})["procflow.exit.signal"] == "SIGKILL"
    assert (span.attributes or {})["procflow.outcome"] == "signal"
    assert telemetry.total("procflow.signals.sent") == 3
    assert telemetry.total("procflow.stops.escalated") == 1


def test_a_detached_process_ends_its_span_and_runs_no_more(telemetry: Telemetry) -> None:
    """C-92: what nobody watches any more is not counted as running, and its later end changes nothing."""
    observer = telemetry.observer()
    observer(pf.Spawned(1.0, NOW, name="d", pid=7))
    observer(pf.Detached(2.0, NOW, name="d", pid=7))
    assert [(span.attributes or {})["procflow.outcome"] for span in telemetry.spans()] == ["detached"]
    assert telemetry.spans()[0].status.is_unset
    observer(pf.Exited(3.0, LATER, name="d", pid=7, exit_code=0, signal=None, lived_s=2.0))
    observer(pf.Reaped(3.0, LATER, name="d", pid=7, usage=None))

    assert len(telemetry.spans()) == 1
    assert telemetry.total("procflow.processes.running") == 0
    assert telemetry.points("procflow.processes.ended") == {
        (("procflow.outcome", "detached"), ("procflow.process.name", "d")): 1
    }


def test_what_was_started_before_changes_no_balance(telemetry: Telemetry) -> None:
    """C-92: an observer that comes late never counts more ends than starts."""
    observer = telemetry.observer()
    observer(pf.Exited(3.0, NOW, name="d", pid=7, exit_code=0, signal=None, lived_s=2.0))
    observer(pf.Reaped(3.0, NOW, name="d", pid=7, usage=None))

    assert telemetry.spans() == ()
    assert telemetry.total("procflow.processes.ended") == 0
    assert telemetry.total("procflow.processes.running") == 0


def test_streams_and_guards_are_counted(telemetry: Telemetry) -> None:
    """C-92: lost bytes, stalls, escapes and replaced guards have instruments of their own."""
    observer = telemetry.observer(metrics_by_name=False)
    observer(pf.Spawned(1.0, NOW, name="s", pid=7))
    observer(pf.Ready(1.5, NOW, name="s", pid=7, after_s=0.5))
    observer(pf.Lost(1.0, NOW, stream="s stdout", subscriber="x", lost_bytes=30, start=0))
    observer(pf.Lost(1.0, NOW, stream="s stdout", subscriber="x", lost_bytes=12, start=50))
    observer(pf.Stalled(1.0, NOW, stream="s stdout", subscriber="x", lag_bytes=1))
    observer(pf.Stalled(1.0, NOW, stream="s stdout", subscriber="x", lag_bytes=1, action=pf.OnStall.DETACH))
    observer(pf.GuardStarted(1.0, NOW, pid=9))
    observer(pf.GuardReplaced(1.0, NOW, reason="killed", old_pid=9, new_pid=10))
    observer(pf.Escaped(1.0, NOW, name="s", pid=7, escaped_pids=(8, 9), description="pid 8, pid 9", has_survived=False))
    observer(
        pf.Signalled(1.0, NOW, name="s", pid=7, signal=signal.SIGTERM, to="leader", receiver=7, error="not permitted")
    )
    observer(pf.Exited(3.0, LATER, name="s", pid=7, exit_code=None, signal=None, lived_s=2.0))
    observer(pf.Reaped(3.0, LATER, name="s", pid=7, usage=None))

    assert telemetry.points("procflow.stream.lost") == {(): 42}
    assert telemetry.points("procflow.stream.stalls") == {(): 1}
    assert telemetry.points("procflow.guard.replaced") == {(): 1}
    assert telemetry.points("procflow.processes.escaped") == {(("procflow.escape.has_survived", False),): 2}
    assert telemetry.points("procflow.processes.started") == {(): 1}
    assert telemetry.points("procflow.processes.ended") == {(("procflow.outcome", "unknown"),): 1}
    assert telemetry.total("procflow.signals.sent") == 0  # it was not sent
    (span,) = telemetry.spans()
    assert [event.name for event in span.events] == ["ready", "escaped", "exited"]
    assert span.end_time is not None
    assert span.start_time is not None
    assert span.end_time - span.start_time == 2_000_000_000


def test_the_providers_of_the_host_are_the_default() -> None:
    """C-92: without providers the global ones are used, which do nothing until the host sets them."""
    observer = otel_events()
    observer(pf.Spawned(1.0, NOW, name="s", pid=7))
    observer(pf.Exited(3.0, NOW, name="s", pid=7, exit_code=0, signal=None, lived_s=2.0))
    observer(pf.Reaped(3.0, NOW, name="s", pid=7, usage=None))


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-92: only the call that needs OpenTelemetry misses it, and says what to install."""
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(builtins, "__import__", without)
    assert "procflow.adapters" in sys.modules

    with pytest.raises(pf.PlatformError, match=r"procflow\[otel\]"):
        otel_events()
