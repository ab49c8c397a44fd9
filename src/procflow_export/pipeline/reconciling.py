"""``reconcile``: every chunk of a published set, read again from its source and from its files.

Owns the order of the questions: one new snapshot; each chunk once on both sides; and only where the two differ, once more,
row by row.  What a difference is, is decided in ``checks.judging``.  Reads with the export's own chunk readers, one chunk at a
time over one connection, and changes nothing anywhere.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.from_thread
import anyio.to_thread
import msgspec

from procflow_export.checks.findings import CheckCode, CheckFinding, exit_status_of, found
from procflow_export.checks.judging import Comparison, judge
from procflow_export.checks.rows import MAX_ROWS, Buckets, Findings, Rows, RowShape
from procflow_export.checks.sides import FileSide, Form, Take
from procflow_export.checks.values import ValueChecksums
from procflow_export.config.structs import Config, LoadedConfig
from procflow_export.destinations import Destination, open_destination
from procflow_export.model.codes import Code, ExitStatus
from procflow_export.model.errors import ExportError, Failure, PlanError, SourceError, failure_from
from procflow_export.model.manifest import Manifest
from procflow_export.model.plan import Everything, KeyRange, NullKeys, Snapshot, TableChunk
from procflow_export.model.reconciling import Growth, Verdict
from procflow_export.model.settings import Consistency
from procflow_export.pipeline.checking import Watch, chosen_targets
from procflow_export.pipeline.finalise import source_of
from procflow_export.pipeline.prepare import published_set
from procflow_export.pipeline.snapshots import OwnReaders, open_snapshot
from procflow_export.planning.coverage import Section, complement, sections
from procflow_export.planning.cursors import own_cursor
from procflow_export.planning.keys import Facts, described, reading_order
from procflow_export.planning.memory import batch_rows, estimated_row_bytes
from procflow_export.planning.plan import Target
from procflow_export.sources import ChunkRequest, ReadStatistics, Source, open_source

if TYPE_CHECKING:
    import pyarrow as pa

CODES: Final = {
    Verdict.WRONG: CheckCode.CHUNK_WRONG,
    Verdict.UNDECIDED: CheckCode.CHUNK_UNDECIDED,
    Verdict.CHANGED: CheckCode.CHUNK_CHANGED,
}


class ChunkReport(msgspec.Struct, frozen=True, kw_only=True):
    """One chunk, compared.

    Attributes:
        bounds: Its rows, in words.
        parts: The parts that hold them.
        verdict: What it is.
        source_rows: Rows at the source now; None if they were not read.
        file_rows: Rows in the files.
        columns: The columns whose values differ.
        reasons: Why it is what it is, the worst first.
    """

    bounds: str
    parts: tuple[str, ...]
    verdict: Verdict
    source_rows: int | None
    file_rows: int
    columns: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """A published set, compared with its source.

    Attributes:
        export: Name of the export.
        location: Where the set is.
        run_id: The published run; None where there is none.
        consistency: ``snapshot``: the source was read in one state.  ``chunk``: each chunk in one of its own.
        chunks: Every chunk, and what lies between chunks where the source has rows there.
        findings: The chunks that differ; errors and warnings.
        remarks: What the operator should know of the comparison.
        failure: Why it was given up; None if it was not.
    """

    export: str
    location: str
    run_id: str | None = None
    consistency: str = ""
    chunks: tuple[ChunkReport, ...] = ()
    findings: tuple[CheckFinding, ...] = ()
    remarks: tuple[str, ...] = ()
    failure: Failure | None = None

    @property
    def exit_status(self) -> ExitStatus:
        """3 if a chunk is wrong; else 0, or what the failure asks for."""
        return exit_status_of(self.findings, self.failure)


async def reconcile(
    config: LoadedConfig | Config | str | Path,
    *,
    exports: Sequence[str] | None = None,
    params: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    run_id: str | None = None,
    watch: Watch = lambda _export, _size_bytes: None,
) -> tuple[Reconciliation, ...]:
    """Return whether the published set of each export is what its source holds; one after the other.

    Args:
        config: A file, the structs, or a configuration that was loaded before.
        exports: Names of exports; all by default.
        params: Values for ``${NAME}`` in a file.
        environ: Environment for references in the configuration; this process's by default.
        run_id: The run whose time and id stand for the placeholders of a destination; now by default.
        watch: Is told, in a worker thread, how far it is.

    Raises:
        ConfigError: If the configuration is wrong.
        MisuseError: If there is no such export, or ``run_id`` is none.
    """
    environ = os.environ if environ is None else environ
    targets = await chosen_targets(config, exports=exports, params=params, environ=environ, run_id=run_id)
    return tuple([await reconciled(target, environ, watch) for target in targets])


async def reconciled(target: Target, environ: Mapping[str, str], watch: Watch) -> Reconciliation:
    """Return whether the published set of one export is what its source holds; what stops that is in the result."""
    here = Reconciliation(export=target.export.name, location="")
    threads = anyio.CapacityLimiter(1)
    try:
        async with open_destination(target.destination, environ=target.environ) as destination:
            here = msgspec.structs.replace(here, location=destination.location)
            manifest = await published_set(target, threads)
            if manifest is None:
                message = f"nothing is published at {destination.location}"
                return msgspec.structs.replace(here, findings=(found(CheckCode.MANIFEST_MISSING, message),))
            here = msgspec.structs.replace(here, run_id=manifest.run_id)
            async with open_source(target.source, environ=environ) as source:
                own_cursor(manifest, target.owner(source.identity), is_cumulative=target.export.is_cumulative)
                _require_same_source(target, manifest)
                comparer = _Comparer(target, manifest, destination, source, threads, watch)
                return await comparer.compare(here)
    except ExportError as exc:
        return msgspec.structs.replace(here, failure=failure_from(exc))


def _require_same_source(target: Target, manifest: Manifest) -> None:
    now = source_of(target.source.type.value, target.selection)
    if now != manifest.source:
        raise PlanError(Code.CURSOR_NOT_OWNED, "the published set was made of another table or query than this")


class _Comparer:
    """One export's comparison."""

    def __init__(
        self,
        target: Target,
        manifest: Manifest,
        destination: Destination,
        source: Source,
        threads: anyio.CapacityLimiter,
        watch: Watch,
    ) -> None:
        self._target = target
        self._manifest = manifest
        self._destination = destination
        self._source = source
        self._threads = threads
        self._watch = watch
        self._snapshot: Snapshot | None = None
        self._remarks: list[str] = []

    async def compare(self, here: Reconciliation) -> Reconciliation:
        """Return every chunk's verdict."""
        async with self._held():
            profile = await self._source.profile(self._target.selection, self._target.choices, self._snapshot)
            self._facts = Facts(
                selection=self._target.selection,
                columns=profile.columns,
                indexes=profile.indexes,
                row_estimate=profile.row_estimate,
            )
            self._form = Form(profile.columns, self._target.format)
            reports = []
            for section in sections(self._manifest, self._target.export):
                report = await self._section(section)
                if section.parts or report.verdict is not Verdict.MATCH:
                    reports.append(report)
        consistency = Consistency.CHUNK if self._snapshot is None else Consistency.SNAPSHOT
        return msgspec.structs.replace(
            here,
            consistency=consistency.value,
            chunks=tuple(reports),
            findings=tuple(map(_finding, (report for report in reports if report.verdict is not Verdict.MATCH))),
            remarks=tuple(self._remarks),
        )

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        """Hold one state of the source, or, where none can be had, say so."""
        async with AsyncExitStack() as stack:
            try:
                # One reader, and one more: a connection that failed cannot join again.
                opening = open_snapshot(self._target, self._source, OwnReaders(self._source), readers=2)
                holder = await stack.enter_async_context(opening)
                self._snapshot = holder.snapshot
            except SourceError as exc:
                if exc.code is not Code.SOURCE_SNAPSHOT_REFUSED:
                    raise
                self._remarks.append(f"chunks were read at different times: {exc.message}")
            yield

    # ---- one chunk

    async def _section(self, section: Section) -> ChunkReport:
        files = await self._read_files(section)
        chunk = section.chunk
        if chunk is None:
            reason = "the manifest of an earlier release does not say which rows were read"
            return _report(section, Verdict.UNDECIDED, files.sums.row_count, reasons=(reason,))
        if not files.is_readable or not files.has_same_columns:
            verdict, reasons = judge(
                Comparison(
                    growth=section.growth,
                    is_equal=False,
                    is_readable=files.is_readable,
                    has_same_columns=files.has_same_columns,
                )
            )
            return _report(section, verdict, files.sums.row_count, reasons=reasons)
        at_source = self._form.sums()
        await self._read_source(chunk, at_source.add)
        is_equal = _same(at_source, files.sums)
        comparison = Comparison(growth=section.growth, is_equal=is_equal, is_as_read=files.is_as_read)
        columns: tuple[str, ...] = ()
        if not is_equal:
            comparison = await self._with_evidence(section, chunk, comparison, at_source, files)
            pairs = zip(self._form.schema.names, at_source.figures, files.sums.figures, strict=False)
            columns = tuple(name for name, one, other in pairs if one != other)
        verdict, reasons = judge(comparison)
        return _report(section, verdict, files.sums.row_count, at_source.row_count, columns=columns, reasons=reasons)

    async def _with_evidence(
        self, section: Section, chunk: TableChunk, comparison: Comparison, at_source: ValueChecksums, files: FileSide
    ) -> Comparison:
        """Read both sides again, and find out which rows differ."""
        shape, growth = self._shape(section.growth)
        suspects, is_whole = None, True
        if max(at_source.row_count, files.sums.row_count) > MAX_ROWS:
            of_source, of_files = Buckets(shape), Buckets(shape)
            await self._read_source(chunk, of_source.add)
            await self._read_files(section, of_files.add)
            suspects, is_whole = of_source.suspects(of_files)
        source_rows, file_rows = Rows(shape, suspects), Rows(shape, suspects)
        await self._read_source(chunk, source_rows.add)
        await self._read_files(section, file_rows.add)
        findings = Findings(shape, source_rows, file_rows, is_partial=not is_whole)
        if growth is Growth.CURSOR and shape.key and findings.has_gone and isinstance(chunk, KeyRange) and chunk.high:
            behind = KeyRange(key=chunk.key, low=complement(chunk.high))
            await self._read_source(behind, findings.look_behind)
        return Comparison(growth=growth, is_equal=False, is_as_read=comparison.is_as_read, evidence=findings.evidence)

    def _shape(self, growth: Growth) -> tuple[RowShape, Growth]:
        names = set(self._form.schema.names)
        keys = (key for key in self._facts.indexes.unique_keys if names.issuperset(key))
        key = next(keys, ())
        stored = self._manifest.cursor
        if growth is not Growth.CURSOR or stored is None:
            return RowShape(key), growth
        first = stored.key[0]
        cursor = [first.column] if first.fallback is None else [first.column, first.fallback]
        # Without the cursor among the columns, nobody can say that it did not move.
        return (RowShape(key, cursor), growth) if names.issuperset(cursor) else (RowShape(key), Growth.KEY)

    # ---- both sides

    async def _read_files(self, section: Section, *takes: Take) -> FileSide:
        def heed(size_bytes: int) -> None:
            anyio.from_thread.check_cancelled()
            self._watch(self._target.export.name, size_bytes)

        read = partial(self._form.read_files, self._destination, section.parts, heed, *takes)
        return await anyio.to_thread.run_sync(read, limiter=self._threads)

    async def _read_source(self, chunk: TableChunk, take: Take) -> None:
        limits = self._target.limits
        key = () if isinstance(chunk, Everything) else chunk.key
        request = ChunkRequest(
            selection=self._target.selection,
            columns=self._facts.columns,
            chunk=chunk,
            batch_rows=batch_rows(limits, estimated_row_bytes(self._facts.columns)),
            batch_bytes=limits.batch_bytes,
            order=reading_order(key, self._facts),
            row_key=next(iter(self._facts.indexes.unique_keys), ()),
            snapshot=self._snapshot,
        )
        async with self._source.read_chunk(request, ReadStatistics()) as batches:
            async for batch in batches:
                await anyio.to_thread.run_sync(self._take, take, batch, limiter=self._threads)
                self._watch(self._target.export.name, batch.nbytes)

    def _take(self, take: Take, batch: pa.RecordBatch) -> None:
        take(self._form.of_source(batch))


def _same(one: ValueChecksums, other: ValueChecksums) -> bool:
    return one.row_count == other.row_count and one.figures == other.figures


def _report(
    section: Section,
    verdict: Verdict,
    file_rows: int,
    source_rows: int | None = None,
    *,
    columns: tuple[str, ...] = (),
    reasons: tuple[str, ...] = (),
) -> ChunkReport:
    return ChunkReport(
        bounds=bounds_text(section.chunk),
        parts=tuple(part.key for part in section.parts),
        verdict=verdict,
        source_rows=source_rows,
        file_rows=file_rows,
        columns=columns,
        reasons=reasons,
    )


def _finding(report: ChunkReport) -> CheckFinding:
    counts = f"{report.file_rows} rows in the files"
    if report.source_rows is not None:
        counts += f", {report.source_rows} at the source"
    message = f"{report.bounds}: {counts}; {'; '.join(report.reasons)}"
    key = report.parts[0] if report.parts else None
    return found(CODES[report.verdict], message, key=key, columns=report.columns)


def bounds_text(chunk: TableChunk | None) -> str:
    """Return the rows of a chunk in words: ``id >= 100, id < 200``."""
    match chunk:
        case None | Everything():
            return "all rows"
        case NullKeys():
            return f"no {described(chunk.key)}"
        case KeyRange():
            name = described(chunk.key)
            low, high = chunk.low, chunk.high
            pieces = [] if low is None else [f"{name} {'>=' if low.is_inclusive else '>'} {_shown(low.values)}"]
            pieces += [] if high is None else [f"{name} {'<=' if high.is_inclusive else '<'} {_shown(high.values)}"]
            return ", ".join(pieces) or f"every {name}"


def _shown(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
