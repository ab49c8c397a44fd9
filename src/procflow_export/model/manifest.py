"""The manifest: the one list of the parts that belong to a published export.

Owns its shape, version 1, and its bytes.  Must not know where it is stored or in which order (see the commit protocol
of ``destinations``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from procflow_export.model.keys import Key, KeyValues
from procflow_export.model.plan import PartRecord

VERSION: Final = 1
MANIFEST_KEY: Final = "manifest.json"
"""The canonical manifest: always the newest published run."""
MARKER_KEY: Final = "_SUCCESS"
"""Written last; holds the digest of the canonical manifest."""
RUN_MANIFEST_PREFIX: Final = "manifest-"
"""What the keys of the manifests of runs begin with."""


class ManifestSource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the rows came from.

    Attributes:
        engine: ``postgres``, ``mysql`` or ``sqlite``.
        selection: ``table`` or ``query``.
        schema: Schema of the table, when it was named.
        table: The table; None for a query.
        query_sha256: Digest of the query's text and parameters; None for a table.
    """

    engine: str
    selection: str
    schema: str | None = None
    table: str | None = None
    query_sha256: str | None = None


class CursorOwner(msgspec.Struct, frozen=True, kw_only=True):
    """What a cursor belongs to (spec E-13), each as one text that a person can compare.

    Attributes:
        mode: The export's mode.
        source: Engine, server and database; no user and no secret.
        selection: The table, or the digest of the query.
        destination: The directory of the manifest.
        format: Format of the parts, with the options that a reader must know.
        cursor: The columns that the configuration names, and how they are used.
        columns: Which columns have a type or a policy of the configuration's own.
    """

    mode: str
    source: str
    selection: str
    destination: str
    format: str
    cursor: str
    columns: str = "none"


class StoredCursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far the published set goes, and so where the next run goes on.

    Attributes:
        owner: What it belongs to.
        key: The columns in whose order the export advances.
        position: The last key that is exported, or the first day of a time window that is not over; ``None`` as long as no
            row has a key.
    """

    owner: CursorOwner
    key: Key
    position: KeyValues | None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One published run of one export, or the published set after it.

    The two are one for an export that replaces its set with every run.

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
        parts: Every part: those of earlier runs that stay in the set first, then the run's by chunk and part number.
        consistency: ``snapshot``: all parts of the run show one state of the database.  ``chunk``: each chunk shows one,
            and chunks may differ in time.
        started_at: RFC 3339, UTC.
        finished_at: RFC 3339, UTC.
        changed_values: Values that a policy changed, per column.
        cursor: How far the set goes; only of exports that add to it run by run.
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
    cursor: StoredCursor | None = None


class Continuation(msgspec.Struct, frozen=True, kw_only=True):
    """How a run goes on from the published set instead of replacing it.

    Attributes:
        run_id: The run whose set it goes on from.
        scopes: What the run exports anew: parts of these scopes are replaced, all others stay.
    """

    run_id: str
    scopes: frozenset[str]

    def kept(self, previous: Manifest) -> tuple[PartRecord, ...]:
        """Return the parts of the set before that stay in it; an empty part was only there to show the columns."""
        return tuple(part for part in previous.parts if part.scope not in self.scopes and part.row_count)


def joined(kept: Sequence[PartRecord], run: Manifest) -> Manifest:
    """Return the manifest of the published set: the parts that stay, and those of the run."""
    own = {part.key for part in run.parts}
    parts = (*(part for part in kept if part.key not in own), *run.parts)
    return msgspec.structs.replace(run, parts=parts, row_count=sum(part.row_count for part in parts))


def run_manifest_key(run_id: str) -> str:
    """Return the key of the immutable manifest of one run."""
    return f"{RUN_MANIFEST_PREFIX}{run_id}.json"


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest's bytes: indented JSON, keys in the order of the struct, a final newline."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode_manifest(data: bytes) -> Manifest:
    """Return the manifest in ``data``; unknown keys are skipped.

    Raises:
        msgspec.DecodeError: If it is no manifest, or one of a newer version.
    """
    manifest = _DECODER.decode(data)
    if manifest.version > VERSION:
        raise msgspec.DecodeError(f"manifest version {manifest.version} is newer than {VERSION}")
    return manifest


# Made here and not where it is first needed: two threads that need it for the first time at once may meet a type that msgspec has
# only half prepared, and crash the process (seen with msgspec 0.22).
_DECODER: Final = msgspec.json.Decoder(Manifest)
