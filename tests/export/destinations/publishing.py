"""One small export, as the commit and crash tests run it: three parts of known rows, then publishing."""

from __future__ import annotations

from procflow_export.destinations import Destination, Publication, publish
from procflow_export.model.manifest import Manifest, ManifestSource
from procflow_export.model.plan import PartRecord

EXPORT = "orders"
PART_COUNT = 3


def rows_of(run_id: str, chunk: int) -> bytes:
    return f"{run_id} rows of chunk {chunk}\n".encode() * 100


def write_parts(destination: Destination, run_id: str, *, part_count: int = PART_COUNT) -> tuple[PartRecord, ...]:
    records = []
    for chunk in range(part_count):
        with destination.open_part(f"{EXPORT}-{run_id}-c{chunk:05d}-p000.csv") as part:
            part.write(rows_of(run_id, chunk))
        stored = part.stored
        records.append(
            PartRecord(
                key=stored.key, row_count=100, size_bytes=stored.size_bytes, checksum=stored.checksum, chunk=chunk
            )
        )
    return tuple(records)


def manifest_of(
    run_id: str, parts: tuple[PartRecord, ...], *, export: str = EXPORT, finished_at: str = "t1"
) -> Manifest:
    return Manifest(
        run_id=run_id,
        export=export,
        status="success",
        source=ManifestSource(engine="sqlite", selection="table", table="orders"),
        format="csv",
        compression="none",
        schema_fingerprint="sha256:0",
        row_count=sum(part.row_count for part in parts),
        parts=parts,
        consistency="chunk",
        started_at="t0",
        finished_at=finished_at,
    )


def run_export(destination: Destination, run_id: str) -> Publication:
    """What a run does with its destination, from clean-up to marker."""
    destination.remove_stale()
    return publish(destination, manifest_of(run_id, write_parts(destination, run_id)))
