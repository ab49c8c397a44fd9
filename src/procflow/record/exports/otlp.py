"""Spans as lines of an OTLP file: JSON as OpenTelemetry's protocol writes it, made without its packages.

Owns that encoding (``https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding``: ids in hexadecimal, 64-bit integers as
text, enumerations as numbers).  Must not know files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from procflow.record.exports import conventions as names
from procflow.record.exports.spans import AttributeValue, TraceSpan, TraceSpanKind, trace_spans
from procflow.record.fold.view import RunView

SCOPE: Final = "procflow.record"
DEFAULT_SERVICE: Final = "procflow"
BATCH_SPANS: Final = 512
"""As many as OpenTelemetry's own batches have by default."""

_KINDS: Final = {TraceSpanKind.INTERNAL: 1, TraceSpanKind.CLIENT: 3}
_ERROR: Final = 2
# It is said whether the parent is of another program (SpanFlags of opentelemetry/proto/trace/v1/trace.proto).
_LOCAL_PARENT: Final = 0x100
_REMOTE_PARENT: Final = 0x300


def resource_attributes(host: str | None, service_name: str = DEFAULT_SERVICE) -> dict[str, str]:
    """Return what says where the spans of a run on ``host`` come from."""
    return {names.SERVICE_NAME: service_name} | ({names.HOST_NAME: host} if host else {})


def otlp_json(view: RunView, *, service_name: str = DEFAULT_SERVICE) -> bytes:
    """Return the spans of ``view`` as lines of an OTLP file (JSON Lines), at most ``BATCH_SPANS`` a line.

    A collector reads it with its ``otlpjsonfile`` receiver; each line is also the body of an OTLP/HTTP request of the type
    ``application/json``.  Nothing of OpenTelemetry needs to be installed.

    Args:
        view: What was recorded.
        service_name: The attribute ``service.name`` of the resource.

    Raises:
        UnexportableError: If the event that names the run is missing.
    """
    resource = {"attributes": _attributes(resource_attributes(view.run.host, service_name).items())}
    scope = {"name": SCOPE, "version": view.run.procflow or ""}
    lines = bytearray()
    for batch in batches(trace_spans(view)):
        scope_spans = {"scope": scope, "spans": [_span(span) for span in batch]}
        lines += msgspec.json.encode({"resourceSpans": [{"resource": resource, "scopeSpans": [scope_spans]}]}) + b"\n"
    return bytes(lines)


def batches(spans: Sequence[TraceSpan]) -> Iterator[Sequence[TraceSpan]]:
    """Yield ``spans`` in pieces that a receiver takes at once."""
    for start in range(0, len(spans), BATCH_SPANS):
        yield spans[start : start + BATCH_SPANS]


def _span(span: TraceSpan) -> dict[str, object]:
    told: dict[str, object] = {"traceId": f"{span.trace_id:032x}", "spanId": f"{span.span_id:016x}"}
    if span.parent_id is not None:
        told["parentSpanId"] = f"{span.parent_id:016x}"
    told |= {
        "flags": _REMOTE_PARENT if span.has_remote_parent else _LOCAL_PARENT,
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _attributes(span.attributes.items()),
        "status": _status(span),
    }
    return told


def _status(span: TraceSpan) -> dict[str, object]:
    if not span.is_error:
        return {}
    return {"code": _ERROR, "message": span.status_text} if span.status_text else {"code": _ERROR}


def _attributes(pairs: Iterable[tuple[str, AttributeValue]]) -> list[dict[str, object]]:
    return [{"key": key, "value": _value(value)} for key, value in pairs]


def _value(value: AttributeValue) -> dict[str, object]:
    match value:
        case str():
            return {"stringValue": value}
        case int():
            return {"intValue": str(value)}
        case _:
            return {"arrayValue": {"values": [_value(item) for item in value]}}
