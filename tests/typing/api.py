"""The public faces, used as a typed program would use them.

mypy and pyright read this file in ``./run check``; nothing runs it.  Every public name is here at least once, which
``tests/meta/test_public_api.py`` looks after.
"""

from __future__ import annotations

import io
import logging
import signal
import warnings
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Literal, assert_never, assert_type

import anyio
import anyio.abc

import procflow as pf
import procflow_export as pe
from procflow import ready, record
from procflow.adapters import log_events, otel_events
from procflow.record.exports import (
    AttributeValue,
    LiveSpans,
    SpansRefusedError,
    TraceSpan,
    TraceSpanKind,
    UnexportableError,
    export_spans,
    job_uuid,
    lineage_events,
    live_span_export,
    openlineage_json,
    otlp_exporter,
    otlp_json,
    parse_traceparent,
    span_id,
    trace_id,
    trace_spans,
    traceparent,
)
from procflow.record.logs import (
    CallLog,
    Damaged,
    Dropped,
    LogItem,
    LogLine,
    LogStream,
    LogSummary,
    job_directory,
    job_id_of,
    log_path,
    read_log,
    read_output,
)
from procflow.record.redaction import (
    Piece,
    RedactionRules,
    RedactionStatistics,
    Redactor,
    Secret,
    ShortSecretWarning,
    StreamRedactor,
)
from procflow.testing import (
    Call,
    FakeSpawner,
    Hostile,
    HostileTree,
    LeaderManner,
    LeakError,
    Script,
    ScriptError,
    Started,
    Survivor,
    UnscriptedError,
    assert_no_leaks,
    hostile_tree,
    parse_started,
    survivors,
)

# --- procflow: commands, policies -------------------------------------------------------------------------------------


def commands(path: Path) -> pf.Command:
    command = pf.Command("git", b"-C", path, "fetch", cwd=path, env={"LANG": "C", "PAGER": None}, name="git-fetch")
    assert_type(command.with_(cwd="/"), pf.Command)
    redaction = pf.Redaction(words=("token",), values=("hunter2",), mark="***")
    assert_type(command.describe(arguments=True, environment=True, cwd=True, redaction=redaction), str)
    assert_type(pf.shell("a | b > c"), pf.Command)
    return command


def policies() -> None:
    delivery: pf.Delivery = pf.BestEffort(buffer_bytes=1 << 18, loss=pf.Loss.DROP_OLDEST)
    delivery = pf.Reliable(buffer_bytes=1 << 20, stall_timeout_s=30, on_stall=pf.OnStall.DETACH)
    assert_type(delivery, pf.Reliable)
    assert_type(pf.Replay.last_bytes(1 << 20), pf.Replay)
    assert_type(pf.StreamConfig(replay=pf.Replay.all()), pf.StreamConfig)
    assert_type(pf.LineConfig(max_line_bytes=80, overflow=pf.Overflow.TRUNCATE), pf.LineConfig)
    phase = pf.Phase(signal=signal.SIGTERM, wait_s=1.0, to=pf.Target.TREE)
    assert_type(pf.Shutdown(phases=(phase,), kill_wait_s=1), pf.Shutdown)
    assert_type(pf.Shutdown.orderly(), pf.Shutdown)


def pipelines(first: pf.Command, second: pf.Command) -> pf.Pipeline:
    pipeline = first | second
    assert_type(pipeline, pf.Pipeline)
    assert_type(pipeline | first, pf.Pipeline)
    assert_type(first | pipeline, pf.Pipeline)
    assert_type(pipeline.stages, tuple[pf.Command, ...])
    return pf.Pipeline(first, second, name="both")


# --- procflow: running ------------------------------------------------------------------------------------------------


async def collected(command: pf.Command) -> str:
    try:
        done = await pf.run(
            command, stdin=b"..", timeout_s=30, idle_timeout_s=5, check=True, orphans="kill", containment="group"
        )
    except pf.TimedOut as exc:
        assert_type(exc.clock, str)
        assert_type(exc.outcome, pf.Outcome)
        assert_type((exc.stdout, exc.stderr), tuple[pf.Captured, pf.Captured])
        raise
    except pf.InputError as exc:
        assert_type(exc.fed_bytes, int)
        assert_type((exc.stdout, exc.stderr), tuple[pf.Captured | None, pf.Captured | None])
        raise
    except pf.ExitError as exc:
        assert_type(exc.outcome.exit_code, int | None)
        assert_type((exc.stdout, exc.stderr), tuple[pf.Captured, pf.Captured])
        raise
    assert_type(done, pf.Completed)
    assert_type(done.stdout, pf.Captured)
    assert_type(done.stdout.bytes, bytes)
    assert_type(done.stdout.lines, list[str])
    assert_type(done.stdout.truncated, bool)
    assert_type(done.stdout.lost_bytes, int)
    assert_type(done.stdout.is_streamed, bool)
    outcome_is_typed(done.outcome)
    return done.stdout.text


def outcome_is_typed(outcome: pf.Outcome) -> None:
    assert_type(outcome.ended_by, pf.EndedBy)
    assert_type(outcome.signal, int | None)
    assert_type(outcome.phases, tuple[pf.PhaseReport, ...])
    assert_type(outcome.usage, pf.ResourceUsage | None)
    assert_type(outcome.duration_s, float)
    assert_type(outcome.output_complete, bool)


async def handle(command: pf.Command) -> None:
    config = pf.StreamConfig(replay=pf.Replay.last_bytes(1 << 20))
    async with pf.spawn(command, stdin=pf.PIPE, stdout=config, stderr=pf.NULL, shutdown=pf.Shutdown.sigint()) as child:
        assert_type(child, pf.Process)
        assert_type(child.pid, int)
        assert_type(child.name, str)
        assert_type(child.state, pf.ProcessState)
        assert_type(child.containment, pf.Containment)
        assert_type(child.stdin, pf.ChildStdin)
        assert_type(child.stdout, pf.OutputStream)
        assert_type(child.outcome, pf.Outcome | None)
        stdin: anyio.abc.ByteSendStream = child.stdin
        await stdin.send(b"data")
        assert_type(child.send_signal(signal.SIGHUP), bool)
        assert_type(await child.wait(), pf.Outcome)
        assert_type(await child.terminate(pf.Shutdown.now()), pf.Outcome)
        assert_type(await child.kill(), pf.Outcome)
        await child.detach()


async def inherited(command: pf.Command) -> None:
    choice: Literal[pf.Stdio.NULL, pf.Stdio.INHERIT] = pf.NULL
    async with pf.spawn(command, stdin=pf.INHERIT, stdout=choice, stderr=pf.INHERIT):
        pass


async def passed_on(command: pf.Command, stdin: pf.StdinChoice, stdout: pf.OutputChoice | None = None) -> pf.Completed:
    return await pf.run(command, stdin=stdin, stdout=stdout)


async def fed(command: pf.Command, path: Path, source: anyio.abc.ByteReceiveStream) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"piece"

    await pf.run(command, stdin="text", merge_stderr=True, check_stdin=True)
    await pf.run(command, stdin=path, stdout=path, stderr=path)
    await pf.run(command, stdin=pieces())
    await pf.run(command, stdin=(line for line in (b"1", b"2")))
    await pf.run(command, stdin=[b"1", b"2"])
    await pf.run(command, stdin=source)
    await pf.run(command, stdin=io.BytesIO(b"data"))
    with path.open("rb") as file, path.open("a") as log:
        await pf.run(command, stdin=file, stdout=log, stderr=log.fileno())


# --- procflow: streams ------------------------------------------------------------------------------------------------


async def timeline(child: pf.Process, path: Path) -> None:
    spilled = pf.StreamConfig(replay=pf.Replay.all(spill=path))
    assert_type(spilled.replay.spill, str | None)
    assert_type(child.output, pf.Timeline)
    assert_type(child.output.sources, tuple[pf.OutputName, ...])
    try:
        async with child.output.subscribe(pf.BestEffort(), start="live", name="view") as events:
            assert_type(events, pf.TimelineSubscription)
            assert_type(await events.receive(), pf.Tagged[pf.Chunk | pf.Gap])
            assert_type(await events.receive_batch(), list[pf.Tagged[pf.Chunk | pf.Gap]])
            assert_type(events.statistics(), dict[pf.OutputName, pf.SubscriberStatistics])
    except pf.SpillError as exc:
        assert_type(exc.path, str)
        assert_type(exc.errno, int | None)
    async for line in child.output.lines():
        assert_type(line, pf.Tagged[str])
        source: Literal["stdout", "stderr"] = line.source
        assert_type(source, Literal["stdout", "stderr"])
    lines = child.output.lines(pf.BestEffort())
    assert_type(lines, pf.TimelineLines[str | pf.Gap])
    assert_type(child.stdout.statistics().spilled_bytes, int)
    assert_type(child.stdout.statistics().spill_failure, str | None)


async def subscribed(stream: pf.OutputStream) -> int:
    lost_bytes = 0
    async with stream.subscribe(pf.BestEffort(), start="start", name="mine") as events:
        assert_type(events, pf.Subscription)
        fits: anyio.abc.ObjectReceiveStream[pf.Chunk | pf.Gap] = events
        assert_type(await fits.receive(), pf.Chunk | pf.Gap)
        assert_type(events.receive_nowait(), pf.Chunk | pf.Gap)
        assert_type(await events.receive_batch(), list[pf.Chunk | pf.Gap])
        assert_type(events.receive_batch_nowait(), list[pf.Chunk | pf.Gap])
        assert_type(events.statistics(), pf.SubscriberStatistics)
        async for event in events:
            match event:
                case pf.Chunk(data, offset):
                    assert_type(data, bytes)
                    assert_type(offset, int)
                case pf.Gap():
                    lost_bytes += event.lost_bytes
                case _:
                    assert_never(event)
    assert_type(stream.statistics(), pf.StreamStatistics)
    assert_type(stream.ending, pf.StreamEnding | None)
    assert_type(stream.tail(100), bytes)
    stream.seal_replay()
    return lost_bytes


async def background(stream: pf.OutputStream, path: Path, sink: anyio.abc.ByteSendStream) -> None:
    async def later(line: str) -> object:
        return pf.STOP if line else None

    inspected = stream.consume(pf.Inspect.lines(later, on_gap=print), finish_s=1)
    assert_type(inspected, pf.Consumer[int])
    assert_type(stream.consume(pf.Inspect.chunks(lambda chunk: print(chunk.data))), pf.Consumer[int])
    assert_type(stream.consume(pf.Inspect.batches(lambda lines: print(len(lines)))), pf.Consumer[int])
    assert_type(stream.consume(pf.Fold.lines(0, lambda count, line: count + len(line))), pf.Consumer[int])
    assert_type(stream.consume(pf.Fold.chunks(b"", lambda data, chunk: data + chunk.data)), pf.Consumer[bytes])
    assert_type(stream.consume(pf.WaitFor("ready")), pf.Consumer[pf.LineMatch | None])
    kind: pf.ConsumerKind[pf.Captured] = pf.Collect.ends(head_bytes=10, tail_bytes=10)
    kept = (await stream.consume(kind, delivery=pf.BestEffort()).wait()).value
    assert_type(kept.gaps, tuple[pf.Gap, ...])
    assert_type(kept.pieces, tuple[pf.Chunk, ...])
    collected = await stream.consume(pf.CollectLines.tail(20)).cancel(1)
    assert_type(collected, pf.Consumed[pf.CapturedLines])
    assert_type(collected.value.tail, tuple[str | pf.Gap, ...])

    def decide(failure: pf.SinkFailure) -> object:
        return pf.STOP if failure.operation == "open" else None

    writer = stream.pipe_to(path, rotation=pf.Rotation(max_bytes=1 << 20, max_files=3), fsync=True, on_error=decide)
    stream.pipe_to(1)
    stream.pipe_to(sink, mark_gaps=True, delivery=pf.BestEffort(), on_error="continue")
    assert_type(stream.consume(pf.Write("log", append=True)), pf.Consumer[pf.Written])
    try:
        result = await writer.wait()
    except pf.ConsumerError as error:
        assert_type(error.result, pf.Consumed[object])
        raise
    assert_type(result.ending, pf.ConsumerEnding)
    assert_type(result.value.files, tuple[Path, ...])
    writer.abort()


async def lines(stream: pf.OutputStream, delivery: pf.Delivery) -> None:
    assert_type(stream.lines(), pf.LineReader[str])
    assert_type(stream.line_batches(), pf.LineBatchReader[str])
    async for line in stream.lines():
        assert_type(line, str)
        if isinstance(line, pf.CutLine):
            assert_type(line.cut, pf.Cut)
    async for batch in stream.line_batches():
        assert_type(batch, list[str])
    # A gap can only appear where the delivery allows one, and the type says so.
    async for item in stream.lines(pf.BestEffort()):
        assert_type(item, str | pf.Gap)
    async for text in stream.lines(pf.BestEffort(), on_gap="skip"):
        assert_type(text, str)
    assert_type(stream.lines(delivery, on_gap="raise"), pf.LineReader[str])
    assert_type(stream.line_batches(delivery, on_gap="skip"), pf.LineBatchReader[str])
    assert_type(stream.lines(delivery), pf.LineReader[str | pf.Gap])
    await json_values(stream, delivery)
    match = await stream.wait_for_line(r"listening on :(\d+)")
    assert_type(match, pf.LineMatch)
    assert_type(match.groups, tuple[str | None, ...])
    assert_type(match.named, Mapping[str, str | None])
    assert_type((match.start, match.stop), tuple[int, int])


async def json_values(stream: pf.OutputStream, delivery: pf.Delivery) -> None:
    async for value in stream.json_lines(dict[str, int]):
        assert_type(value, dict[str, int] | pf.UndecodedLine)
        if isinstance(value, pf.UndecodedLine):
            assert_type((value.text, value.offset, value.reason), tuple[str, int, str])
    assert_type(stream.json_lines(int, on_error="raise"), pf.LineReader[int])
    assert_type(stream.json_lines(int, pf.BestEffort()), pf.LineReader[int | pf.UndecodedLine | pf.Gap])
    assert_type(stream.json_lines(int, delivery, on_gap="skip"), pf.LineReader[int | pf.UndecodedLine])
    assert_type(stream.json_lines(int, delivery, on_gap="skip", on_error="raise"), pf.LineReader[int])
    assert_type(stream.json_lines(int, delivery, on_error="raise"), pf.LineReader[int | pf.Gap])
    assert_type(stream.json_batches(int), pf.LineBatchReader[int | pf.UndecodedLine])
    assert_type(stream.json_batches(int, on_error="raise"), pf.LineBatchReader[int])
    try:
        async for values in stream.json_batches(object, on_error="raise"):
            assert_type(values, list[object])
    except pf.JsonLineError as exc:
        assert_type(exc.line, pf.UndecodedLine)


class Zeros:
    """The least that a source of bytes has to be."""

    async def receive(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        return b"\0"

    async def aclose(self) -> None: ...


async def own_source() -> None:
    source: pf.ByteSource = pf.FdSource(0)
    source = Zeros()
    async with pf.open_stream(source, pf.StreamConfig(), name="zeros") as stream:
        assert_type(stream, pf.OutputStream)


# --- procflow: errors -------------------------------------------------------------------------------------------------


def what_to_do(error: pf.ProcflowError) -> str:
    match error:
        case pf.HistoryLostError():
            assert_type(error.lost_bytes, int)
            return "attach earlier"
        case pf.StallError() | pf.StreamClosedError() | pf.ClosedError() | pf.UsageError():
            return "fix the calling code"
        case pf.LineTooLongError() | pf.LinesLostError() | pf.StreamReadError() | pf.NotReadyError():
            return "retry or report"
        case pf.EndedError():
            assert_type(error.outcome, pf.Outcome)
            return "retry or report"
        case pf.ChildError():
            return "retry or report"
        case pf.SpawnError():
            assert_type(error.suggestion, str | None)
            return "tell the operator"
        case pf.TerminationError():
            assert_type(error.survivors, tuple[str, ...])
            return "tell the operator"
        case pf.PlatformError():
            return "tell the operator"
        case _:
            return "unknown"


async def leaks() -> list[str]:
    try:
        async with assert_no_leaks():
            await pf.run(pf.Command("true"))
        with assert_no_leaks():
            pass
    except LeakError as exc:
        return str(exc).splitlines()
    return []


# --- procflow.record --------------------------------------------------------------------------------------------------


def records(path: Path) -> None:
    try:
        view = record.load(path)
    except record.UnreadableRecordError as exc:
        assert_type(exc.feature, str | None)
        return
    assert_type(view, record.RunView)
    assert_type(view.state, record.RecordState)
    assert_type(record.state_of(path), record.RecordState)
    assert_type(view.run, record.RunRow)
    assert_type(view.jobs[record.JobKey("build", 1)], record.JobRow)
    assert_type(view.calls[record.CallKey("build", 1, 1)], record.CallRow)
    assert_type(view.notes, tuple[record.NoteRow, ...])
    assert_type(view.health, record.Health)
    assert_type(view.health.gaps, tuple[record.SeqGap, ...])

    position = record.Position()
    reader = record.RecordReader(str(path), position=position)
    folding = record.RunFold()
    for line in record.read_events(path, reader=reader):
        assert_type(line, record.Line)
        assert_type(line.event, record.RunEvent | record.Unknown)
        if isinstance(line.event, record.Unknown):
            assert_type(line.event.head, record.Head)
        folding.add(line.event)
    assert_type(folding.view(state=record.RecordState.RUNNING), record.RunView)
    assert_type(reader.position, record.Position)


def stored(path: Path, database: Path) -> bytes:
    try:
        report = record.ingest(path, database)
    except record.ReplacedRecordError as exc:
        assert_type(record.forget(database, exc.run_id), bool)
        report = record.ingest(path, database)
    except record.UnusableDatabaseError as exc:
        assert_type((exc.theirs, exc.ours, exc.sqlite_code), tuple[int | None, int | None, int | None])
        return b""
    assert_type(report, record.IngestReport)
    assert_type(report.run_id, str | None)
    assert_type(record.reproject(database), dict[str, int])
    (run,) = record.runs_in(database)
    assert_type(run, record.StoredRun)
    try:
        assert_type(record.view_from(database, run.run_id), record.RunView)
    except record.UnknownRunError as exc:
        assert_type(exc.run_id, str)
    return b"".join(record.record_from(database, run.run_id))


async def recording(path: Path, target: record.EventTarget, token: pf.Secret[str]) -> str | None:
    argv: record.ArgvChoice = "redacted"
    durability: record.Durability = "job"
    when_full: record.WhenFull = "block"
    outcome: str | None = None

    async def work(job: record.Job) -> None:
        assert_type(job.attempt, int)
        assert_type(await job.sh("make", token, env={"TOKEN": token}, timeout_s=5), pf.Completed)
        job.note("build.size", 1)

    try:
        async with record.open_run(
            "nightly",
            record=path,
            database=path / "runs.db",
            events=[target],
            secrets=[token],
            argv=argv,
            durability=durability,
            when_full=when_full,
        ) as run:
            assert_type(run, record.Run)
            opened = run.begin_job("told")
            assert_type(opened, record.OpenJob)
            opened.end("failed", error=record.ErrorInfo(type="Rejected", message="no key"))
            run.announce_cancel("enough", signal="SIGTERM")
            assert_type(run.directory, Path)
            run.declare("build")
            async with run.job("test", after=["build"]) as job:
                await work(job)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", record.LateSecretWarning)
                run.add_secret(token)
            assert_type(await run.run_jobs([record.JobSpec(job_id="a", work=work)]), dict[str, str])
            run.cancel("enough")
        outcome = run.outcome
    except record.JobSkippedError as exc:
        assert_type(exc.because, tuple[str, ...])
    except record.JobsFailedError as exc:
        assert_type(exc.outcomes, dict[str, str])
    except record.RecordLostError as exc:
        assert_type(exc.losses, tuple[str, ...])
    return outcome


def recorded(event: record.RunEvent) -> bytes:
    codec: record.EventCodec[record.RunEvent] = record.RecordCodec()
    base: record.RecordEvent = record.stamped(event, seq=0, at_ms=0, mono_ns=record.UNSTAMPED)
    plain: record.Event = base
    match event:
        case record.RunStarted(format=version, redaction=record.RedactionInfo(), trace=record.Trace() | None):
            assert version <= record.FORMAT
        case record.JobDeclared() | record.JobStarted() | record.JobSkipped() | record.Note():
            pass
        case record.JobFinished(error=record.ErrorInfo() | None) | record.ShStarted() | record.ShSpawned():
            pass
        case record.ShFinished(usage=record.Usage() | None) | record.RunFinished(totals=record.Totals()):
            pass
        case record.CancelRequested() | record.EventsDropped():
            pass
        case _:
            pass
    try:
        return codec.encode(plain)
    except (record.UnrecordableError, record.MalformedEventError):
        return b""


def exported_record(view: record.RunView, path: Path) -> None:
    for span in trace_spans(view):
        assert_type(span, TraceSpan)
        assert_type(span.kind, TraceSpanKind)
        assert_type(span.attributes, Mapping[str, AttributeValue])
    assert_type(openlineage_json(view, namespace="etl"), bytes)
    assert_type(lineage_events(view), list[dict[str, object]])
    exporter = otlp_exporter("http://127.0.0.1:4318/v1/traces")
    try:
        path.write_bytes(otlp_json(view, service_name="nightly"))
        assert_type(export_spans(view, exporter), int)
    except SpansRefusedError as refused:
        assert_type(refused.span_count - refused.exported_count, int)
    except UnexportableError:
        pass


def exported_live(events: Iterable[record.RunEvent]) -> None:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    spans = LiveSpans()
    export = live_span_export(BatchSpanProcessor(otlp_exporter("http://127.0.0.1:4318/v1/traces")))
    for event in events:
        assert_type(spans.add(event), list[TraceSpan])
        export(event)
    assert_type(spans.finish(record.RecordState.CRASHED), list[TraceSpan])


def named(run_id: str, key: record.CallKey) -> None:
    trace = parse_traceparent(traceparent(run_id, key))
    assert_type(trace, record.Trace | None)
    assert_type((trace_id(run_id, trace), span_id(run_id, key)), tuple[int, int])
    assert_type(str(job_uuid(run_id, key.job)), str)


async def followed(path: Path, sink: record.Sink) -> None:
    assert_type(record.tail(path), record.Tail)
    async with record.tail(path, from_seq=7) as lines:
        async for line in lines:
            assert_type(line, record.Line)
            assert_type(line.head, record.RunEvent | record.Head)
        assert_type(lines.state, record.RecordState)
        assert_type(lines.health, record.Health)
    assert_type(await record.replay(path, sink, speed=2.0, seek_s=60), int)
    for target in ("stdout", path, print):
        assert_type(await record.replay(path, target), int)


def kept(root: Path, secret: Secret[str]) -> None:
    assert_type(record.records_in(root), list[record.ListedRecord])
    retention = record.Retention(max_records=100, max_age_s=30 * 86_400, max_bytes=1 << 30)
    done = record.prune(root, retention, dry_run=True)
    assert_type(done, record.Pruned)
    assert_type(done.removed, tuple[record.ListedRecord, ...])
    try:
        assert_type(record.orphans(root), list[record.Orphan])
        assert_type(record.scrub(root, [secret]), record.Scrubbed)
    except (record.RecordBusyError, record.ForeignRecordError) as exc:
        assert_type(exc.path, str)


# --- procflow_export --------------------------------------------------------------------------------------------------


def structs() -> pe.LoadedConfig:
    source = pe.SourceConfig(type=pe.SourceType.POSTGRES, url_env="SHOP_URL", tls=pe.TlsConfig(mode=pe.TlsMode.DISABLE))
    destination = pe.DestinationConfig(type=pe.DestinationType.LOCAL, path="out")
    bucket = pe.DestinationConfig(type=pe.DestinationType.S3, bucket="shop", prefix="exports", verify=pe.Verify.CONTENT)
    assert_type(bucket.location, str)
    orders = pe.ExportConfig(
        name="orders",
        table="public.orders",
        mode=pe.Mode.CHUNKED,
        consistency=pe.Consistency.SNAPSHOT,
        format=pe.Format.PARQUET,
        compression=pe.Compression.ZSTD,
        parquet=pe.ParquetOptions(),
        csv=pe.CsvOptions(),
        columns={"amount": "decimal(10,2)", "created": pe.ColumnConfig(on_invalid=pe.OnInvalid.NULL)},
        tuning=pe.Tuning(profile=pe.TuningProfile.SAFE),
    )
    changes = pe.ExportConfig(
        name="changes",
        table="public.orders",
        mode=pe.Mode.INCREMENTAL,
        cursor_column="updated_at",
        incremental_cursor_mode=pe.CursorMode.SINGLE_COLUMN,
        settle=pe.Settle(after="5m"),
        format=pe.Format.PARQUET,
    )
    events = pe.ExportConfig(
        name="events",
        table="events",
        mode=pe.Mode.TIME_WINDOW,
        time_column="at",
        time_column_type=pe.TimeColumnType.UNIX,
        days_window=7,
        format=pe.Format.CSV,
    )
    return pe.check_config(pe.Config(source=source, destination=destination, exports=[orders, changes, events]))


def engines() -> list[pe.Engine]:
    return [pe.InProcessEngine(), pe.ProcessEngine(max_units=4)]


async def exported(path: Path, engine: pe.Engine | None = None) -> pe.RunResult:
    policy = pe.RunPolicy(retry=pe.RetryPolicy(max_backoff_s=1.0))
    try:
        loaded = pe.load_config(path, params={}, environ={})
    except pe.ConfigError as exc:
        for finding in exc.findings:
            assert_type(finding, pe.Finding)
            assert_type(finding.severity, pe.Severity)
        raise
    assert_type(pe.read_config({"exports": []}), pe.LoadedConfig)
    async with pe.Exporter(loaded, engine=engine or pe.InProcessEngine(), policy=policy) as exporter:
        events: pe.EventStream = exporter.run()
        async for event in events:
            seen(event)
    assert_type(exporter.result.exit_status, pe.ExitStatus)
    return exporter.result


async def checked(path: Path) -> None:
    for validation in await pe.validate(path, depth=pe.ValidationDepth.FULL, exports=["orders"]):
        assert_type(validation, pe.Validation)
        assert_type(validation.exit_status, pe.ExitStatus)
        for finding in validation.findings:
            assert_type(finding, pe.CheckFinding)
            assert_type(finding.code, pe.CheckCode)
    for comparison in await pe.reconcile(path, params={}, environ={}):
        assert_type(comparison, pe.Reconciliation)
        for chunk in comparison.chunks:
            assert_type(chunk, pe.ChunkReport)
            assert_type(chunk.verdict, pe.Verdict)
    for plan in await pe.plan_repairs(path, also_undecided=True):
        assert_type(plan, pe.RepairPlan)
        assert_type(plan.failure, pe.Failure | None)


def seen(event: pe.RunEvent) -> None:
    match event:
        case pe.RunStarted() | pe.Started() | pe.ProgressInit() | pe.Progress():
            assert_type(event.seq, int)
        case pe.PartWritten() | pe.ChunkFinished():
            assert_type(event.row_count, int)
        case pe.Retry():
            assert_type(event.failure, pe.Failure)
        case pe.Warned():
            assert_type(event.message, str)
        case pe.Finished():
            assert_type(event.status, pe.Status)
        case pe.RunFinished():
            assert_type(event.exit_status, int)
        case _:
            assert_never(event)
    assert_type(pe.run_codec().encode(event), bytes)


async def export_with_a_record(run: record.Run, directory: Path) -> list[pe.RunEvent]:
    async with pe.Exporter("shop.yaml", record=run, state=directory, resume=True, policy=pe.RunPolicy(drain_s=5.0)):
        pass
    async with pe.Exporter("shop.yaml", record=directory) as exporter:
        exporter.cancel("enough", signal="SIGTERM")
    assert exporter.record_directory is not None
    return list(pe.read_run(exporter.record_directory))


def published(directory: Path) -> list[pe.PartRecord]:
    manifest: pe.Manifest = pe.decode_manifest((directory / "manifest.json").read_bytes())
    assert_type(manifest.source, pe.ManifestSource)
    if manifest.cursor is not None:
        place_of(manifest.cursor)
    return list(manifest.parts)


def place_of(cursor: pe.StoredCursor) -> dict[str, str]:
    assert_type(cursor.owner, pe.CursorOwner)
    parts: tuple[pe.KeyPart, ...] = cursor.key
    values: tuple[pe.KeyValue, ...] = cursor.position or ()
    assert_type([value.kind for value in values], list[pe.KeyKind])
    return {part.column: value.text for part, value in zip(parts, values, strict=False)}


def next_action(error: pe.ExportError) -> pe.Kind:
    assert_type(error.is_transient, bool)
    assert_type(error.code, pe.Code)
    match error:
        case pe.MisuseError() | pe.ConfigError() | pe.PlanError() | pe.PlatformError():
            pass
        case pe.SourceError() | pe.DataError() | pe.DestinationError():
            pass
        case pe.WorkerError():
            assert_type(error.stderr_tail, str)
        case _:
            pass
    return error.code.kind


# --- procflow: pipelines and terminals --------------------------------------------------------------------------------


async def stages_and_terminals(pipeline: pf.Pipeline, command: pf.Command) -> None:
    async with pf.spawn(pipeline, terminal="shared") as child:
        assert_type(child.stages, tuple[pf.Stage, ...])
        stage = child.stages[0]
        assert_type(stage.stderr, pf.OutputStream)
        assert_type(stage.outcome, pf.Outcome | None)
        assert_type(await stage.wait(), pf.Outcome)
    done = await pf.run(pipeline, check=False)
    assert_type(done.stages, tuple[pf.Completed, ...])
    assert_type(done.outcome.failed_stage, pf.Outcome | None)
    assert_type(done.outcome.decided_by, int | None)
    async with pf.spawn(command, pty=pf.Pty(rows=50, cols=132, echo=False, raw=True)) as child:
        child.resize(24, 80)
        child.set_echo(on=True)
    assert_type(pf.Shutdown.hangup(), pf.Shutdown)


# --- procflow: containment ------------------------------------------------------------------------------------------


async def contained(command: pf.Command) -> None:
    wanted: list[pf.ContainmentRequest] = [
        "group",
        "guarded",
        "best",
        pf.Guarded(marks_environment=False),
        pf.Strict(user="nobody", group=7, nice=3, limits={"nofile": 64, "cpu": (1, 2)}, memory_bytes=1 << 20, cpus=0.5),
    ]
    async with pf.spawn(command, containment=wanted[0]) as child:
        assert_type(child.containment.missing, tuple[str, ...])


# --- procflow: events -------------------------------------------------------------------------------------------------


async def observed(command: pf.Command) -> None:
    def note(event: pf.ProcessEvent) -> None:
        assert_type(event.mono_s, float)
        match event:
            case pf.Spawned() | pf.Ready() | pf.Detached():
                assert_type(event.name, str)
            case pf.Stalled():
                assert_type(event.action, pf.OnStall | None)
            case pf.Lost():
                assert_type(event.lost_bytes, int)
            case pf.Signalled():
                assert_type(event.error, str | None)
            case pf.Escalated():
                assert_type(event.report, pf.PhaseReport)
            case pf.Exited():
                assert_type(event.exit_code, int | None)
            case pf.Escaped():
                assert_type(event.escaped_pids, tuple[int, ...])
            case pf.Reaped():
                assert_type(event.usage, pf.ResourceUsage | None)
            case pf.GuardStarted():
                assert_type(event.pid, int)
            case pf.GuardReplaced():
                assert_type(event.reason, str)
            case _:
                assert_never(event)

    observer: pf.Observer = note
    with (
        pf.observe(observer),
        pf.observe(log_events(logging.getLogger(), level=logging.DEBUG)),
        pf.observe(otel_events()),
    ):
        await pf.run(command)


async def testing(command: pf.Command) -> None:
    fake = FakeSpawner()
    script: Script = (
        fake.on("git", "fetch", times=1).prints("a\n", after_s=0.1).prints_error(b"oops").exits(1, after_s=2)
    )
    script.ignores(signal.SIGINT).on_signal(signal.SIGTERM, exits=0, prints="bye", after_s=0.5)
    script.expects("x").expects("y", allows_more=True).reads().echoes().waits(1.0).closes_outputs().leaves_behind(
        for_s=1.0, ignores=[signal.SIGTERM]
    )
    script.stays().dies_by(signal.SIGKILL).survives_everything().fails(2)
    async with fake.installed() as installed:
        assert_type(installed, FakeSpawner)
        await pf.run(command)
    assert_type(fake.calls, list[Call])
    assert_type(ScriptError(["x"]).problems, tuple[str, ...])
    assert_type(UnscriptedError("git", ["sh"]).program, str)

    manner: LeaderManner = "exits"
    with hostile_tree(Hostile.DAEMON, leader=manner, lifetime_s=10.0) as tree:
        assert_type(tree, HostileTree)
        async with pf.spawn(tree.command) as child:
            assert_type(await tree.wait_ready(child), Mapping[Hostile | None, Started])
        assert_type(tree.survivors(), list[Survivor])
        assert_type(survivors(tree.cookie), list[Survivor])
    assert_type(tree.killed, list[Survivor])
    assert_type(parse_started(["ready"]), dict[Hostile | None, Started])


# --- procflow: supervision, fan-out, readiness ------------------------------------------------------------------------


async def probed(child: pf.Process) -> None:
    assert_type(await child.wait_ready(pf.ready.line("up"), timeout_s=5), pf.LineMatch)
    assert_type(await child.wait_ready(ready.tcp("localhost", 80)), bool)
    assert_type(await child.wait_ready(ready.http("http://localhost/", status=[200, 401])), int)

    async def predicate() -> str:
        return "yes"

    probe: ready.Probe[str] = ready.call(predicate, every_s=1)
    assert_type(await child.wait_ready(ready.all(probe, probe)), tuple[str, ...])
    assert_type(await child.wait_ready(ready.any(ready.file("x"), ready.tcp("h", 1))), bool)
    assert_type((await child.stdout.wait_for_line("x", peek=True)).text, str)


async def supervised(command: pf.Command, delivery: pf.Delivery) -> None:
    restart = pf.Restart.on_failure(initial_s=0.1, max_restarts=3)
    assert_type(restart.when, pf.RestartWhen)
    stdin: pf.RepeatableStdin = b"again"
    options: pf.ServiceOptions = {"stdin": stdin, "containment": "group"}
    try:
        async with pf.supervise(command, restart=restart, ready=ready.line("up"), **options) as service:
            assert_type(service, pf.Service[pf.LineMatch])
            assert_type(await service.wait_ready(), pf.LineMatch)
            assert_type(service.state, pf.ServiceState)
            assert_type(service.process, pf.Process | None)
            assert_type(service.history, tuple[pf.ServiceRun, ...])
            assert_type(service.stdout, pf.ServiceStream)
            reader = service.stdout.lines()
            assert_type(reader, pf.ServiceReader[str])
            async for item in reader:
                assert_type(item, str | pf.Restarted)
            async for chunk in service.stderr.subscribe(delivery):
                assert_type(chunk, pf.Chunk | pf.Gap | pf.Restarted)
            async for line in service.stdout.lines(delivery):
                assert_type(line, str | pf.Gap | pf.Restarted)
            assert_type(await service.stop(), pf.Outcome | None)
    except pf.ServiceFailed as exc:
        assert_type(exc.history, tuple[pf.ServiceRun, ...])
    async with pf.supervise(command) as plain:
        assert_type(plain, pf.Service[None])


async def mapped(commands: Iterable[pf.Command | pf.Pipeline], order: pf.MapOrder, on_error: pf.OnError) -> None:
    options: pf.RunOptions = {"timeout_s": 5, "check": False}
    try:
        async with pf.map_run(commands, max_running=2, order=order, on_error=on_error, **options) as results:
            assert_type(results, pf.MapResults)
            async for done in results:
                assert_type(done, pf.MapResult)
                assert_type(done.result(), pf.Completed)
                assert_type(done.outcome, pf.Outcome | None)
    except pf.DescriptorLimitError as exc:
        assert_type(exc.open_now, int | None)
    started: list[pf.Process] = []
    await pf.run(pf.Command("true"), on_start=started.append)


def redacted(argv: list[str]) -> None:
    secret = Secret("hunter2-hunter2", name="db")
    assert_type(secret, Secret[str])
    assert_type(secret.reveal(), str)
    assert_type(Secret(b"\xff" * 8, name="key").reveal(), bytes)
    rules = RedactionRules(urls=False, patterns={"pin": r"pin (?P<secret>\d+)"})
    redactor = Redactor([secret], rules=rules)
    redactor.add(Secret(b"other-secret", name="other"))
    assert_type(redactor.redact_text("x"), str)
    assert_type(redactor.redact_bytes(b"x"), bytes)
    assert_type(redactor.redact_argv(argv), list[str])
    assert_type(redactor.redact_variables({"A": "b"}), dict[str, str])
    assert_type(redactor.statistics(), RedactionStatistics)
    stream = redactor.stream()
    assert_type(stream, StreamRedactor)
    assert_type(stream.feed_pieces(b"x"), list[Piece])
    assert issubclass(ShortSecretWarning, UserWarning)


def logged(root: str, redactor: Redactor) -> None:
    path = log_path("build", attempt=1, sh=1)
    assert job_id_of(job_directory("build")) == "build"
    log = CallLog(root, path, redactor=redactor, cap_bytes=None)
    log.append(LogStream.STDOUT, b"x", at_ns=1, mono_ns=1)
    assert_type(log.close(at_ns=2), LogSummary)
    items: Iterable[LogItem] = read_log(f"{root}/{path}")
    for item in items:
        match item:
            case LogLine(data=data):
                assert_type(data, bytes)
            case Dropped(dropped_bytes=dropped_bytes):
                assert_type(dropped_bytes, Mapping[LogStream, int])
            case Damaged(data):
                assert_type(data, bytes)
            case _:
                assert_never(item)
    for piece in read_output(f"{root}/{path}", LogStream.STDERR):
        assert_type(piece, bytes | Dropped)
