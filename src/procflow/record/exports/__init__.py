"""A record in the words of other systems: OpenTelemetry and OpenLineage.

Nothing of either needs to be installed for a file of theirs (``otlp_json()``, ``openlineage_json()``).  ``export_spans()`` and
``live_span_export()`` hand spans to OpenTelemetry's SDK, which only they import.
"""

from __future__ import annotations

from procflow.record.errors import SpansRefusedError, UnexportableError
from procflow.record.exports.ids import job_uuid, parse_traceparent, span_id, trace_id, traceparent
from procflow.record.exports.lineage import lineage_events, openlineage_json
from procflow.record.exports.live import LiveSpans
from procflow.record.exports.otel import export_spans, live_span_export, otlp_exporter
from procflow.record.exports.otlp import otlp_json
from procflow.record.exports.spans import AttributeValue, TraceSpan, TraceSpanKind, trace_spans

__all__ = (
    "AttributeValue",
    "LiveSpans",
    "SpansRefusedError",
    "TraceSpan",
    "TraceSpanKind",
    "UnexportableError",
    "export_spans",
    "job_uuid",
    "lineage_events",
    "live_span_export",
    "openlineage_json",
    "otlp_exporter",
    "otlp_json",
    "parse_traceparent",
    "span_id",
    "trace_id",
    "trace_spans",
    "traceparent",
)
