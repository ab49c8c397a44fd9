"""Spans for OpenTelemetry's SDK, and as a file of its protocol."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio.lowlevel
import pytest
from google.protobuf.json_format import Parse
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import cicd_attributes, host_attributes, process_attributes
from opentelemetry.semconv.attributes import error_attributes, service_attributes
from opentelemetry.trace import SpanKind, StatusCode

from procflow.record import CallKey, JobKey, JobStarted, RecordState, RedactionInfo, RunEvent, RunView, load
from procflow.record.exports import (
    SpansRefusedError,
    UnexportableError,
    conventions,
    export_spans,
    live_span_export,
    otlp_exporter,
    otlp_json,
    span_id,
    trace_spans,
)
from procflow.record.fold.view import view_of
from procflow.record.recorder import Recorder
from procflow.record.sinks.files import FileSink
from procflow.record.sinks.functions import FunctionSink
from tests.core.record.exports.runs import TRACE
from tests.core.record.sample import finished, header, sample, stamp_all, started

RUN = "019b76da-a800-7000-8000-000000000001"
BEGINNING = header(redaction=RedactionInfo(enabled=True, rules=()), trace=TRACE)
EVENTS = stamp_all([BEGINNING, *sample()[1:]])
WHOLE = view_of(EVENTS, state=RecordState.FINISHED)
ROOT = Path(__file__).resolve().parents[4]
RECEIVER = Path(__file__).with_name("receiver.py")


def long_run() -> RunView:
    events: list[RunEvent] = [BEGINNING, JobStarted(job_id="main", attempt=1)]
    for sh in range(1, 1200):
        events += [started("main", sh, "true"), finished("main", sh)]
    return view_of(stamp_all(events), state=RecordState.CRASHED)


def told(spans: Sequence[ReadableSpan]) -> list[str]:
    """Return all that spans of the SDK say, in one order."""
    return sorted(span.to_json() for span in spans)


def exported(view: RunView, *, service_name: str | None = None) -> Sequence[ReadableSpan]:
    exporter = InMemorySpanExporter()
    count = export_spans(view, exporter, service_name=service_name)
    assert count == len(exporter.get_finished_spans())
    return exporter.get_finished_spans()


def span_of(spans: Sequence[ReadableSpan], key: JobKey | CallKey | None) -> ReadableSpan:
    return next(span for span in spans if span.context is not None and span.context.span_id == span_id(RUN, key))


def resource_of(spans: Sequence[ReadableSpan]) -> dict[str, object]:
    return dict(spans[0].resource.attributes)


class TestExport:
    def test_the_sdk_gets_what_the_record_says(self) -> None:
        """RR-96: name, kind, parent, times, attributes and status arrive as spans of the SDK."""
        spans = exported(WHOLE)

        call = span_of(spans, CallKey("build", 1, 2))
        (mapped,) = [span for span in trace_spans(WHOLE) if span.span_id == span_id(RUN, CallKey("build", 1, 2))]
        assert (call.name, call.kind) == ("make", SpanKind.CLIENT)
        assert call.context is not None
        assert call.parent is not None
        assert call.parent.span_id == span_id(RUN, JobKey("build", 1))
        assert f"{call.context.trace_id:032x}" == TRACE.trace_id
        assert (call.start_time, call.end_time) == (mapped.start_ns, mapped.end_ns)
        assert dict(call.attributes or {}) == dict(mapped.attributes)
        assert call.status.status_code is StatusCode.ERROR
        assert span_of(spans, CallKey("build", 1, 1)).status.status_code is StatusCode.UNSET

    def test_the_parent_of_a_run_is_of_another_program(self) -> None:
        """RR-95: the recorded parent is told as a remote one, the others as they are."""
        spans = exported(WHOLE)

        parents = {span.name: span.parent for span in spans if span.parent is not None}
        assert parents["nightly"].is_remote
        assert f"{parents['nightly'].span_id:016x}" == TRACE.parent_span_id
        assert not parents["make"].is_remote

    def test_exporting_twice_gives_the_same_spans(self) -> None:
        """RR-95: nothing in a span depends on when it is exported."""
        assert told(exported(WHOLE)) == told(exported(WHOLE))

    def test_a_long_record_comes_in_batches(self) -> None:
        """RR-94: an exporter is given at most 512 spans at once, and all of them."""
        batches: list[int] = []

        class Counting(InMemorySpanExporter):
            def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
                batches.append(len(spans))
                return super().export(spans)

        count = export_spans(long_run(), Counting())

        assert batches == [512, 512, 177]
        assert count == 1201

    def test_an_exporter_that_fails_is_told(self) -> None:
        """RR-94: what an exporter did not take is an error that says how much is missing."""

        class Full(SpanExporter):
            def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
                return SpanExportResult.FAILURE

        with pytest.raises(SpansRefusedError) as caught:
            export_spans(WHOLE, Full())

        assert (caught.value.exported_count, caught.value.span_count) == (0, 10)

    def test_the_resource_says_where_it_ran(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """RR-96: the service is what the caller says, or else the environment, or else procflow; the host is that of the record."""
        monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
        monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
        assert resource_of(exported(WHOLE)) == {"service.name": "procflow", "host.name": "h1"}

        monkeypatch.setenv("OTEL_SERVICE_NAME", "from-env")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        assert resource_of(exported(WHOLE)) == {
            "service.name": "from-env", "host.name": "h1", "deployment.environment.name": "test",
        }  # fmt: skip
        assert resource_of(exported(WHOLE, service_name="mine"))["service.name"] == "mine"


class TestConventions:
    def test_the_names_are_those_of_the_conventions(self) -> None:
        """RR-96: every name in the table that is not our own is one that OpenTelemetry's package of conventions has."""
        known = {
            value
            for module in (cicd_attributes, error_attributes, host_attributes, process_attributes, service_attributes)
            for name, value in vars(module).items()
            if name.isupper()
        }
        ours = {
            value
            for name, value in vars(conventions).items()
            if name.isupper() and isinstance(value, str) and "." in value and not value.startswith("procflow.")
        }

        assert len(ours) == 15
        assert ours <= known

    def test_the_results_are_those_of_the_conventions(self) -> None:
        """RR-96: each outcome has one of the results that a pipeline and a task can have."""
        results = {*conventions.RESULTS.values(), conventions.RESULT_TIMEOUT}

        assert results == {value.value for value in cicd_attributes.CicdPipelineResultValues}
        assert results == {value.value for value in cicd_attributes.CicdPipelineTaskRunResultValues}
        assert error_attributes.ErrorTypeValues.OTHER.value == conventions.ERROR_OTHER


class TestLive:
    def test_live_and_finished_give_the_same_spans(self) -> None:
        """RR-94: spans that were handed out while the run ran are those of its record, to the last attribute."""
        exporter = InMemorySpanExporter()
        export = live_span_export(SimpleSpanProcessor(exporter))

        for event in EVENTS:
            export(event)

        assert told(exporter.get_finished_spans()) == told(exported(WHOLE))

    @pytest.mark.anyio
    async def test_a_recorder_exports_live(self, tmp_path: Path) -> None:
        """RR-94: a function that gets every event of a real recorder exports the spans of the file beside it."""
        exporter = InMemorySpanExporter()
        processor = BatchSpanProcessor(exporter)
        file = FileSink(tmp_path / "events.jsonl")
        recorder = Recorder([file, FunctionSink(live_span_export(processor))])

        for event in [BEGINNING, *sample()[1:]]:
            recorder.emit(event)
            await anyio.lowlevel.checkpoint()
        assert await recorder.aclose() == []
        processor.shutdown()  # type: ignore[no-untyped-call]  # the SDK says nothing

        assert told(exporter.get_finished_spans()) == told(exported(load(tmp_path)))

    def test_without_a_beginning_the_error_is_the_callers(self) -> None:
        """RR-94: a function that joined late cannot name its spans, and says so at the first one."""
        export = live_span_export(SimpleSpanProcessor(InMemorySpanExporter()))

        with pytest.raises(UnexportableError):
            for event in EVENTS[1:]:
                export(event)


@contextmanager
def receiver(*arguments: str) -> Iterator[tuple[str, Iterator[str]]]:
    """Run a receiver of OTLP in a child; give its URL and the requests that it gets."""
    with subprocess.Popen(
        [sys.executable, str(RECEIVER), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        port = child.stdout.readline().strip()
        try:
            yield f"http://127.0.0.1:{port}/v1/traces", child.stdout
        finally:
            child.stdin.close()


def with_base64_ids(line: bytes) -> bytes:
    """Return a line of OTLP JSON with ids as protobuf's own JSON writes them; that is all that sets the two apart."""
    request = json.loads(line)
    for span in request["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in span:
                span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return json.dumps(request).encode()


class TestProtocol:
    @pytest.fixture(autouse=True)
    def plain_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
            monkeypatch.delenv(name, raising=False)

    def test_a_receiver_in_another_process_gets_the_spans(self) -> None:
        """RR-94: sent over HTTP by OpenTelemetry's own exporter, a record arrives as its file of OTLP says it."""
        with receiver() as (url, requests):
            exporter = otlp_exporter(url)
            export_spans(WHOLE, exporter)
            path, _, body = next(requests).partition(" ")
            exporter.shutdown()

        sent = Parse(body, ExportTraceServiceRequest())
        assert path == "/v1/traces"
        assert sent == Parse(with_base64_ids(otlp_json(WHOLE)), ExportTraceServiceRequest())

    def test_a_receiver_that_refuses_is_an_error(self) -> None:
        """RR-94: spans that did not arrive are not counted as exported."""
        with receiver("400") as (url, _):
            exporter = otlp_exporter(url)
            with pytest.raises(SpansRefusedError):
                export_spans(WHOLE, exporter)
            exporter.shutdown()

    def test_the_file_says_what_the_sdk_would_send(self) -> None:
        """RR-94: without any package of OpenTelemetry the same message is written."""
        assert Parse(with_base64_ids(otlp_json(WHOLE)), ExportTraceServiceRequest()) == encode_spans(exported(WHOLE))

    def test_the_file_has_ids_in_hexadecimal(self) -> None:
        """RR-94: as the protocol demands of JSON: lower case ids, integers of 64 bits as text, numbers for enumerations."""
        line = otlp_json(WHOLE, service_name="mine")

        assert line.count(b"\n") == 1
        (resource_spans,) = json.loads(line)["resourceSpans"]
        assert resource_spans["resource"]["attributes"][0] == {"key": "service.name", "value": {"stringValue": "mine"}}
        (run,) = [span for span in resource_spans["scopeSpans"][0]["spans"] if span["name"] == "nightly"]
        assert run["traceId"] == TRACE.trace_id
        assert run["parentSpanId"] == TRACE.parent_span_id
        assert run["startTimeUnixNano"] == "1767225600000000000"
        assert (run["kind"], run["status"]["code"]) == (1, 2)

    def test_a_long_record_is_several_lines(self) -> None:
        """RR-94: as a reader of lines may have a bound, each of them is a message of at most 512 spans."""
        lines = [json.loads(line) for line in otlp_json(long_run()).splitlines()]

        assert [len(line["resourceSpans"][0]["scopeSpans"][0]["spans"]) for line in lines] == [512, 512, 177]


def run_python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout


class TestOptional:
    def test_importing_procflow_loads_nothing_of_opentelemetry(self) -> None:
        """RR-94: neither the package nor its record nor the module of these exports imports it."""
        program = """
import sys, procflow, procflow.record, procflow.record.exports
print([name for name in sys.modules if name.partition(".")[0] in {"opentelemetry", "google", "requests", "openlineage"}])
"""
        assert run_python(program).strip() == "[]"

    def test_files_need_nothing_of_it(self) -> None:
        """RR-94: where OpenTelemetry is not installed, the file of OTLP is written all the same."""
        program = """
import sys
sys.modules["opentelemetry"] = None
from tests.core.record.sample import EVENTS
from procflow.record.exports import otlp_json
from procflow.record.fold.view import view_of
print(len(otlp_json(view_of(EVENTS))))
"""
        assert int(run_python(program)) > 1000

    @pytest.mark.parametrize(
        ("call", "extra"),
        [
            ("export_spans(view_of(EVENTS), None)", "otel"),
            ("live_span_export(None)", "otel"),
            ("otlp_exporter('http://127.0.0.1:1')", "otlp"),
        ],
    )
    def test_what_is_missing_is_named(self, call: str, extra: str) -> None:
        """RR-94: without the extra, the call that needs it says which one."""
        program = f"""
import sys
sys.modules["opentelemetry"] = None
from tests.core.record.sample import EVENTS
from procflow import PlatformError
from procflow.record.exports import export_spans, live_span_export, otlp_exporter
from procflow.record.fold.view import view_of
try:
    {call}
except PlatformError as exc:
    print(exc)
"""
        assert run_python(program).strip().endswith(f"procflow[{extra}]")
