"""What the dialect knows beyond the structs: keys and values of a later release, and keys that stand at a wrong level.

Owns the tables that turn "unknown key" into a helpful finding.  A key that is not supported yet is no error when it
holds the value that switches its feature off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from procflow_export.model.settings import Tuning

NOTHING: Final = object()
"""No value switches the feature off."""

LATER: Final[Mapping[str, Mapping[str, object]]] = {
    "Config": {"notifications": None, "load": None},
    "SourceConfig": {"mongo": None},
    "TlsConfig": {"accept_invalid_certs": False, "accept_invalid_hostnames": False},
    "Tuning": {
        "adaptive": False,
        "min_parallel": NOTHING,
    },
    "ExportConfig": {
        "tables": NOTHING,
        "chunk_size_memory_mb": NOTHING,
        "chunk_dense": False,
        "chunk_checkpoint": False,
        "partition_by": NOTHING,
        "partition_granularity": NOTHING,
        "skip_empty": False,
        "meta_columns": None,
        "quality": None,
        "on_schema_drift": NOTHING,
        "shape_drift_warn_factor": NOTHING,
        "target": NOTHING,
        "wave": NOTHING,
        "parallel_safe": NOTHING,
        "source_group": NOTHING,
        "reconcile_required": False,
        "load": None,
        "cdc": None,
    },
    "DestinationConfig": {"oneshot_budget_mb": NOTHING},
}
"""Keys by struct, with the value that means "off"."""

LATER_VALUES: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("SourceConfig", "type"): frozenset({"mssql", "mongo", "oracle"}),
    ("ExportConfig", "mode"): frozenset({"cdc"}),
}
"""Values by struct and key that a later release will accept."""

WRONG_LEVEL: Final[Mapping[str, Mapping[str, str]]] = {
    "ExportConfig": dict.fromkeys((*Tuning.__struct_fields__, *LATER["Tuning"]), "tuning"),
    "SourceConfig": dict.fromkeys((*Tuning.__struct_fields__, *LATER["Tuning"]), "tuning"),
}
"""Keys by struct that belong into a block of it."""

SECRET_KEYS: Final = frozenset({"url", "password"})
"""Keys whose value no finding shows."""
