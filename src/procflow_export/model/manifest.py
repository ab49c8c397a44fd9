"""The manifest: the one list of the parts that belong to a published export.

Owns its shape, version 1, and its bytes.  Must not know where it is stored or in which order (see the commit protocol
of ``destinations``).
"""

from __future__ import annotations

from typing import Final

import msgspec

from procflow_export.model.plan import PartRecord

VERSION: Final = 1
MANIFEST_KEY: Final = "manifest.json"
"""The canonical manifest: always the newest published run."""
MARKER_KEY: Final = "_SUCCESS"
"""Written last; holds the digest of the canonical manifest."""


class ManifestSource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the rows came from.

    Attributes:
        engine: ``postgres``, ``mysql`` or ``sqlite``.
        selection: ``table`` or ``query``.
        schema: Schema of the table, when it was named.
        table: The table; None for a query.
        query_sha256: Digest of the query's text; None for a table.
    """

    engine: str
    selection: str
    schema: str | None = None
    table: str | None = None
    query_sha256: str | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One published run of one export.

    Attributes:
        version: Version of this shape; a reader refuses a larger one.
        run_id: The run, a UUIDv7.
        export: Name of the export.
        status: Always ``success`` in a published manifest.
        source: Where the rows came from.
        format: ``parquet`` or ``csv``.
        compression: Codec of the parts.
        schema_fingerprint: Digest of the written schema.
        row_count: Rows of all parts.
        parts: Every part, in the order of chunk and part number.
        consistency: ``snapshot``: all parts show one state of the database.  ``chunk``: each chunk shows one, and
            chunks may differ in time.
        started_at: RFC 3339, UTC.
        finished_at: RFC 3339, UTC.
        changed_values: Values that a policy changed, per column.
    """

    version: int = VERSION
    run_id: str
    export: str
    status: str
    source: ManifestSource
    format: str
    compression: str
    schema_fingerprint: str
    row_count: int
    parts: tuple[PartRecord, ...]
    consistency: str
    started_at: str
    finished_at: str
    changed_values: dict[str, int] = msgspec.field(default_factory=dict)


def run_manifest_key(run_id: str) -> str:
    """Return the key of the immutable manifest of one run."""
    return f"manifest-{run_id}.json"


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest's bytes: indented JSON, keys in the order of the struct, a final newline."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode_manifest(data: bytes) -> Manifest:
    """Return the manifest in ``data``; unknown keys are skipped.

    Raises:
        msgspec.DecodeError: If it is no manifest, or one of a newer version.
    """
    manifest = msgspec.json.decode(data, type=Manifest)
    if manifest.version > VERSION:
        raise msgspec.DecodeError(f"manifest version {manifest.version} is newer than {VERSION}")
    return manifest
