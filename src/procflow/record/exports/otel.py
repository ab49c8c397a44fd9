"""Spans for an exporter of OpenTelemetry's SDK, afterwards or while the run runs.

Owns the step from a span of ours to one of the SDK.  Must not know how exporters work, nor what a span says.

The SDK's tracer cannot be used: it makes up ids, and its spans begin when they are started.  So the ended spans are built as the
SDK's own readable spans, which is what every exporter takes.  The SDK is imported by the call that needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from procflow.errors import PlatformError
from procflow.record.envelope import Event
from procflow.record.errors import SpansRefusedError
from procflow.record.events import EVENT_TYPES, RunStarted
from procflow.record.exports import conventions as names
from procflow.record.exports.live import LiveSpans
from procflow.record.exports.otlp import SCOPE, batches, resource_attributes
from procflow.record.exports.spans import TraceSpan, TraceSpanKind, trace_spans
from procflow.record.fold.view import RunView

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter


def export_spans(view: RunView, exporter: SpanExporter, *, service_name: str | None = None) -> int:
    """Hand the spans of everything in ``view`` that has ended to ``exporter``, and return how many they were.

    It needs ``opentelemetry-sdk``, the extra ``otel``.  The exporter stays open, and is the caller's to shut down.  This blocks as
    long as the exporter does, which may be for the network.

    Args:
        view: What was recorded.
        exporter: Any exporter of the SDK.
        service_name: The attribute ``service.name`` of the resource; by default what ``OTEL_SERVICE_NAME`` or
            ``OTEL_RESOURCE_ATTRIBUTES`` say, and else ``procflow``.

    Raises:
        SpansRefusedError: If the exporter says that it failed.  It may be tried again: the ids are the same.
        UnexportableError: If the event that names the run is missing.
        PlatformError: If OpenTelemetry is not installed.
    """
    make = _sdk_maker(resource_attributes(view.run.host), service_name, view.run.procflow or "")
    from opentelemetry.sdk.trace.export import SpanExportResult

    spans = trace_spans(view)
    exported_count = 0
    for batch in batches(spans):
        if exporter.export([make(span) for span in batch]) is not SpanExportResult.SUCCESS:
            raise SpansRefusedError(exported_count=exported_count, span_count=len(spans))
        exported_count += len(batch)
    return exported_count


def live_span_export(processor: SpanProcessor, *, service_name: str | None = None) -> Callable[[Event], None]:
    """Return a function that takes the events of one run, in order, and hands each span to ``processor`` when it ends.

    It is made for a sink that calls a function with every event.  It runs on the event loop, so take a processor that exports in a
    thread of its own, as ``BatchSpanProcessor`` does.  The processor stays open, and is the caller's to shut down.  If the program
    dies, the spans that were open are not exported; ``export_spans()`` of the record adds them afterwards, under their ids.

    Args:
        processor: What takes ended spans.
        service_name: As for ``export_spans()``.

    Raises:
        PlatformError: If OpenTelemetry is not installed.
    """
    _require_sdk()
    return _LiveExport(processor, service_name)


def otlp_exporter(endpoint: str) -> SpanExporter:
    """Return an exporter that sends spans to ``endpoint``, the whole URL (``http://localhost:4318/v1/traces``), by OTLP over HTTP.

    It needs ``opentelemetry-exporter-otlp-proto-http``, the extra ``otlp``.  Headers and time limits come from the environment, as
    OpenTelemetry defines it (``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_EXPORTER_OTLP_TIMEOUT``).

    Raises:
        PlatformError: If it is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as exc:
        raise PlatformError("the OTLP exporter is not installed; it comes with the extra: procflow[otlp]") from exc
    return OTLPSpanExporter(endpoint=endpoint)


class _LiveExport:
    def __init__(self, processor: SpanProcessor, service_name: str | None) -> None:
        self._processor: Final = processor
        self._service_name: Final = service_name
        self._spans: Final = LiveSpans()
        self._make: Callable[[TraceSpan], ReadableSpan] | None = None

    def __repr__(self) -> str:
        return f"<live span export, {self._spans!r}>"

    def __call__(self, event: Event) -> None:
        if not isinstance(event, EVENT_TYPES):
            return
        if isinstance(event, RunStarted) and self._make is None:
            self._make = _sdk_maker(resource_attributes(event.host), self._service_name, event.procflow)
        for span in self._spans.add(event):
            assert self._make is not None, "a span has an id only after run_started"
            self._processor.on_end(self._make(span))


def _require_sdk() -> None:
    try:
        import opentelemetry.sdk.trace  # noqa: F401 (asked for, not used)
    except ImportError as exc:
        raise PlatformError("OpenTelemetry's SDK is not installed; it comes with the extra: procflow[otel]") from exc


def _sdk_maker(
    attributes: dict[str, str], service_name: str | None, version: str
) -> Callable[[TraceSpan], ReadableSpan]:
    """Return what turns spans of one run into spans of the SDK, which all share their resource."""
    _require_sdk()
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    resource = Resource(attributes).merge(OTELResourceDetector().detect())
    if service_name is not None:
        resource = resource.merge(Resource({names.SERVICE_NAME: service_name}))
    scope = InstrumentationScope(SCOPE, version)
    sampled = TraceFlags(TraceFlags.SAMPLED)
    kinds = {TraceSpanKind.INTERNAL: SpanKind.INTERNAL, TraceSpanKind.CLIENT: SpanKind.CLIENT}

    def make(span: TraceSpan) -> ReadableSpan:
        parent = None
        if span.parent_id is not None:
            parent = SpanContext(span.trace_id, span.parent_id, is_remote=span.has_remote_parent, trace_flags=sampled)
        status = Status(StatusCode.ERROR, span.status_text or None) if span.is_error else Status()
        return ReadableSpan(
            name=span.name,
            context=SpanContext(span.trace_id, span.span_id, is_remote=False, trace_flags=sampled),
            parent=parent,
            resource=resource,
            attributes=dict(span.attributes),
            kind=kinds[span.kind],
            status=status,
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=scope,
        )

    return make
