"""Whether a published set is what its manifest says: found at the destination alone, the source is never asked.

Owns the three depths and what each finds.  *light* reads the manifests and the marker; *sample* adds one listing: presence, sizes,
and what lies beside the set; *full* reads every part: its digest, its rows, and the checksums of their values, decoded from the
file, against those that were taken before they were encoded.  A CSV file does not say which type a cell had: there it is
digest and records.

Everything here blocks and belongs in a thread; memory is that of one row group, whatever the size of the set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from enum import StrEnum
from functools import partial
from typing import BinaryIO, Final, Protocol

import msgspec
import pyarrow as pa

from procflow_export.checks.decoding import (
    UNDECODABLE,
    csv_record_count,
    opened_part,
    parquet_batches,
    parquet_schema,
)
from procflow_export.checks.findings import CheckCode, CheckFinding, exit_status_of, found
from procflow_export.checks.values import ValueChecksums, recorded_figures
from procflow_export.destinations import Destination, Marker, marker_of
from procflow_export.model.codes import ExitStatus
from procflow_export.model.errors import Failure
from procflow_export.model.manifest import MANIFEST_KEY, MARKER_KEY, Manifest, decode_manifest, run_manifest_key
from procflow_export.model.plan import PartRecord
from procflow_export.model.settings import Format
from procflow_export.model.types import fields_fingerprint

NAMED_OBJECTS: Final = 5
"""So many objects are named where many are of one kind."""


class ValidationDepth(StrEnum):
    """How much is looked at."""

    LIGHT = "light"
    """The manifests and the marker."""
    SAMPLE = "sample"
    """Also, by one listing, whether every part is there with its size, and what else is."""
    FULL = "full"
    """Also every part, read and decoded."""


class Heed(Protocol):
    """Is told what was done; raises where somebody wants the check to stop."""

    def __call__(self, size_bytes: int, /) -> object: ...


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """What a validation has found.

    Attributes:
        export: Name of the export.
        location: Where it looked.
        depth: How much it looked at.
        run_id: The published run; None where there is none.
        row_count: Rows of the set, as the manifest says.
        part_count: Its parts.
        read_count: Parts that were read and decoded.
        compared_count: Parts whose values were compared with the checksums of what was read from the source.
        findings: What is not as it should be; errors and warnings.
        failure: Why the check was given up; None if it was not.
    """

    export: str
    location: str
    depth: ValidationDepth
    run_id: str | None = None
    row_count: int = 0
    part_count: int = 0
    read_count: int = 0
    compared_count: int = 0
    findings: tuple[CheckFinding, ...] = ()
    failure: Failure | None = None

    @property
    def exit_status(self) -> ExitStatus:
        """3 if the set is not to be trusted; else 0, or what the failure asks for."""
        return exit_status_of(self.findings, self.failure)


def validate_set(
    destination: Destination, export: str, *, depth: ValidationDepth, has_csv_header: bool, heed: Heed = lambda _: None
) -> Validation:
    """Check the published set of an export.

    Args:
        destination: Where it is.
        export: Whose it must be.
        depth: How much to look at.
        has_csv_header: Whether CSV parts begin with the names of the columns.
        heed: Is told of every block that was read.

    Raises:
        DestinationError: If the destination fails; what is wrong with the set is a finding.
    """
    here = Validation(export=export, location=destination.location, depth=depth)
    data = destination.get(MANIFEST_KEY)
    if data is None:
        message = f"nothing is published at {destination.location}"
        return msgspec.structs.replace(here, findings=(found(CheckCode.MANIFEST_MISSING, message, key=MANIFEST_KEY),))
    try:
        manifest = decode_manifest(data)
    except msgspec.DecodeError as exc:
        message = f"{MANIFEST_KEY} is no manifest of this program: {exc}"
        finding = found(CheckCode.MANIFEST_UNREADABLE, message, key=MANIFEST_KEY)
        return msgspec.structs.replace(here, findings=(finding,))
    own, about_own = _run_manifest(destination, manifest)
    findings = [*_contradictions(manifest, export), *about_own, *_about_marker(destination)]
    read_count = compared_count = 0
    if depth is not ValidationDepth.LIGHT:
        about_parts, unsound = _about_objects(destination, manifest)
        findings += about_parts
        if depth is ValidationDepth.FULL:
            own_keys = {part.key for part in own.parts} if own is not None else set()
            for part in manifest.parts:
                if part.key not in unsound:
                    # The parts of earlier runs may have other columns.
                    columns = manifest.schema_fingerprint if part.key in own_keys else None
                    opening = partial(opened_part, destination, part.key, heed)
                    checked = _PartCheck(
                        part, opening, manifest, columns=columns, has_csv_header=has_csv_header, heed=heed
                    )
                    findings += checked.findings()
                    read_count += 1
                    compared_count += checked.are_values_compared
    return msgspec.structs.replace(
        here,
        run_id=manifest.run_id,
        row_count=manifest.row_count,
        part_count=len(manifest.parts),
        read_count=read_count,
        compared_count=compared_count,
        findings=tuple(findings),
    )


# ---- light


def _contradictions(manifest: Manifest, export: str) -> Iterator[CheckFinding]:
    def wrong(message: str, key: str | None = MANIFEST_KEY) -> CheckFinding:
        return found(CheckCode.MANIFEST_INCONSISTENT, message, key=key)

    if manifest.export != export:
        yield wrong(f"the manifest is that of export {manifest.export!r}")
    if manifest.status != "success":
        yield wrong(f"the manifest has the status {manifest.status!r}")
    total = sum(part.row_count for part in manifest.parts)
    if total != manifest.row_count:
        yield wrong(f"the parts have {total} rows together, the manifest says {manifest.row_count}")
    for key, count in Counter(part.key for part in manifest.parts).items():
        if count > 1:
            yield wrong(f"part {key} is named {count} times", key)
    for part in manifest.parts:
        if part.row_count < 0 or part.size_bytes < 0:
            yield wrong(f"part {part.key} has a negative size or number of rows", part.key)


def _run_manifest(destination: Destination, manifest: Manifest) -> tuple[Manifest | None, list[CheckFinding]]:
    """Return the published run's own manifest, and what is wrong with it."""
    key = run_manifest_key(manifest.run_id)
    data = destination.get(key)
    if data is None:
        return None, [found(CheckCode.RUN_MANIFEST_MISSING, f"{key} is not there", key=key)]
    try:
        own = decode_manifest(data)
    except msgspec.DecodeError as exc:
        return None, [found(CheckCode.MANIFEST_UNREADABLE, f"{key} is no manifest of this program: {exc}", key=key)]
    comparable = manifest
    if own.cursor is not None:
        # A cursor may be accepted or reset by hand; what a run that adds to a set has kept of it is not in its own manifest.
        names = {part.key for part in own.parts}
        parts = tuple(part for part in manifest.parts if part.key in names)
        row_count = sum(part.row_count for part in parts)
        comparable = msgspec.structs.replace(manifest, parts=parts, row_count=row_count, cursor=own.cursor)
    if comparable == own:
        return own, []
    message = f"{key} and {MANIFEST_KEY} tell different things of one run"
    return own, [found(CheckCode.RUN_MANIFEST_DIFFERS, message, key=key)]


def _about_marker(destination: Destination) -> Iterator[CheckFinding]:
    match marker_of(destination):
        case Marker.MISSING:
            yield found(CheckCode.MARKER_MISSING, f"{MARKER_KEY} is not there", key=MARKER_KEY)
        case Marker.STALE:
            message = f"{MARKER_KEY} does not hold the digest of {MANIFEST_KEY}"
            yield found(CheckCode.MARKER_STALE, message, key=MARKER_KEY)
        case Marker.FRESH:
            pass


# ---- sample


def _about_objects(destination: Destination, manifest: Manifest) -> tuple[list[CheckFinding], set[str]]:
    """Compare the set with one listing; return what was found, and the parts that need not be read."""
    sizes = {info.key: info.size_bytes for info in destination.list()}
    findings: list[CheckFinding] = []
    for part in manifest.parts:
        size_bytes = sizes.get(part.key)
        if size_bytes is None:
            findings.append(found(CheckCode.PART_MISSING, f"part {part.key} is missing", key=part.key))
        elif size_bytes != part.size_bytes:
            message = f"part {part.key} has {size_bytes} bytes, not {part.size_bytes}"
            findings.append(found(CheckCode.PART_SIZE_MISMATCH, message, key=part.key))
    unsound = {finding.key for finding in findings if finding.key is not None}
    published = {part.key for part in manifest.parts} | {MANIFEST_KEY, MARKER_KEY}
    superseded: set[str] = set()
    for key in sorted(sizes):
        if key.startswith("manifest-") and key.endswith(".json"):
            published.add(key)
            try:
                superseded.update(part.key for part in decode_manifest(destination.get(key) or b"").parts)
            except msgspec.DecodeError:
                published.discard(key)
    rest = [key for key in sizes if key not in published]
    unknown = [key for key in rest if key not in superseded]
    findings += _named(CheckCode.UNTRACKED_OBJECT, unknown, "that no manifest names")
    findings += _named(CheckCode.SUPERSEDED_OBJECT, [key for key in rest if key in superseded], "of earlier runs")
    return findings, unsound


def _named(code: CheckCode, keys: list[str], what: str) -> Iterator[CheckFinding]:
    if keys:
        shown = ", ".join(sorted(keys)[:NAMED_OBJECTS]) + (", …" if len(keys) > NAMED_OBJECTS else "")
        noun = "object" if len(keys) == 1 else "objects"
        yield found(code, f"{len(keys)} {noun} {what}: {shown}", key=min(keys))


# ---- full


class _PartCheck:
    """One part, read whole."""

    def __init__(
        self,
        part: PartRecord,
        opening: Callable[[], AbstractContextManager[tuple[str, BinaryIO]]],
        manifest: Manifest,
        *,
        columns: str | None,
        has_csv_header: bool,
        heed: Heed,
    ) -> None:
        self._part = part
        self._opening = opening
        self._manifest = manifest
        self._columns = columns
        self._has_csv_header = has_csv_header
        self._heed = heed
        self.are_values_compared = False

    def findings(self) -> list[CheckFinding]:
        """Read the part and return what is wrong with it."""
        part = self._part
        findings: list[CheckFinding] = []
        try:
            with self._opening() as (digest, file):
                if digest != part.checksum:
                    message = f"part {part.key} has digest {digest}, not {part.checksum}"
                    findings.append(self._found(CheckCode.PART_CHECKSUM_MISMATCH, message))
                try:
                    findings += self._about_rows(file)
                except UNDECODABLE as exc:
                    message = f"part {part.key} cannot be decoded: {type(exc).__name__}"
                    findings.append(self._found(CheckCode.PART_UNREADABLE, message))
        except FileNotFoundError:
            findings.append(self._found(CheckCode.PART_MISSING, f"part {part.key} is missing"))
        return findings

    def _about_rows(self, file: BinaryIO) -> Iterator[CheckFinding]:
        if self._manifest.format == Format.CSV.value:
            yield from self._about_count(csv_record_count(file, self._manifest.compression) - self._has_csv_header)
            return
        schema = parquet_schema(file)
        sums = ValueChecksums(schema)
        for batch in parquet_batches(file):
            self._heed(0)
            sums.add(batch)
        yield from self._about_count(sums.row_count)
        yield from self._about_values(schema, sums)

    def _about_count(self, row_count: int) -> Iterator[CheckFinding]:
        if row_count != self._part.row_count:
            message = f"part {self._part.key} has {row_count} rows, not {self._part.row_count}"
            yield self._found(CheckCode.PART_ROW_COUNT, message)

    def _about_values(self, schema: pa.Schema, sums: ValueChecksums) -> Iterator[CheckFinding]:
        key = self._part.key
        try:
            recorded = recorded_figures(self._part.values, len(schema))
        except ValueError as exc:
            yield self._found(CheckCode.VALUE_CHECKSUM, f"the checksums of part {key} cannot be compared: {exc}")
            return
        if recorded is None:
            yield self._found(
                CheckCode.VALUES_NOT_RECORDED, f"the manifest has no checksums of the values in part {key}"
            )
            return
        self.are_values_compared = True
        if recorded != sums.figures:
            columns = [
                name for name, one, other in zip(schema.names, recorded, sums.figures, strict=False) if one != other
            ]
            what = f"of {', '.join(columns)}" if columns else "of different columns are no longer in one row"
            message = f"the values {what} in part {key} are not those that were read from the source"
            yield found(CheckCode.VALUE_CHECKSUM, message, key=key, columns=columns)
        elif self._columns is not None and fields_fingerprint(schema) != self._columns:
            yield self._found(CheckCode.PART_SCHEMA, f"the columns of part {key} have other names or types")

    def _found(self, code: CheckCode, message: str) -> CheckFinding:
        return found(code, message, key=self._part.key)
