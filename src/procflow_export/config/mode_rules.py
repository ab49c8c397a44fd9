"""The rules of modes: which keys belong to which, and which of them exclude or need each other.

Owns what can be told without a database.  A key outside its mode is an error, never ignored: ``chunk_size`` in an export
that is not chunked would quietly become one huge statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from procflow_export.config.document import KeyPath
from procflow_export.config.shape import Findings
from procflow_export.config.sizes import parse_duration_s
from procflow_export.config.structs import CursorMode, ExportConfig, Mode
from procflow_export.model.errors import Severity

MODE_KEYS: Final[Mapping[Mode, tuple[str, ...]]] = {
    Mode.FULL: (),
    Mode.CHUNKED: (
        "chunk_column",
        "chunk_by_key",
        "chunk_by_days",
        "chunk_size",
        "chunk_count",
        "chunk_max_attempts",
        "keyset_incremental",
    ),
    Mode.INCREMENTAL: ("cursor_column", "incremental_cursor_mode", "cursor_fallback_column", "settle"),
    Mode.TIME_WINDOW: ("time_column", "time_column_type", "days_window"),
}
"""Keys that mean something in one mode only."""

_EXCLUSIVE: Final = (
    ("chunk_by_key", "chunk_column"),
    ("chunk_by_key", "chunk_by_days"),
    ("chunk_by_days", "chunk_size"),
    ("chunk_by_days", "chunk_count"),
    ("chunk_size", "chunk_count"),
    ("keyset_incremental", "chunk_count"),
)


def check_mode(export: ExportConfig, path: KeyPath, findings: Findings) -> None:
    """Check the keys that choose and cut the rows of one export."""
    for mode, keys in MODE_KEYS.items():
        for key in keys:
            if mode is not export.mode and _is_given(export, key):
                findings.add(
                    (*path, key), f"{key!r} has no effect in mode {export.mode.value}", allowed=f"mode: {mode.value}"
                )
    match export.mode:
        case Mode.FULL:
            _check_full(export, path, findings)
        case Mode.CHUNKED:
            _check_chunked(export, path, findings)
        case Mode.INCREMENTAL:
            _check_incremental(export, path, findings)
        case Mode.TIME_WINDOW:
            for key in ("time_column", "days_window"):
                _require(export, key, path, findings)


def _check_full(export: ExportConfig, path: KeyPath, findings: Findings) -> None:
    if export.parallel > 1:
        findings.add(
            (*path, "parallel"),
            "'parallel' has no effect in mode full: there is one chunk",
            severity=Severity.WARNING,
        )


def _check_chunked(export: ExportConfig, path: KeyPath, findings: Findings) -> None:
    for first, second in _EXCLUSIVE:
        if _is_given(export, first) and _is_given(export, second):
            findings.add((*path, second), f"{first!r} and {second!r} exclude each other")
    if export.chunk_by_days is not None and export.chunk_by_key is None:
        _require(export, "chunk_column", path, findings, why=": the days of which column")
    elif export.table is None and export.chunk_column is None and export.chunk_by_key is None:
        findings.add((*path, "chunk_column"), "the key is missing: a query does not tell its key")
    if export.keyset_incremental and export.chunk_by_key is None:
        _require(export, "chunk_by_key", path, findings, why=": 'keyset_incremental' goes on behind a key")
    names = [export.chunk_by_key] if isinstance(export.chunk_by_key, str) else export.chunk_by_key
    if names is not None and (not names or len(set(names)) != len(names) or not all(names)):
        findings.add(
            (*path, "chunk_by_key"), "the key must be one column or more, each once", found=export.chunk_by_key
        )


def _check_incremental(export: ExportConfig, path: KeyPath, findings: Findings) -> None:
    _require(export, "cursor_column", path, findings)
    is_coalesced = export.incremental_cursor_mode is CursorMode.COALESCE
    if is_coalesced:
        _require(export, "cursor_fallback_column", path, findings, why=": 'coalesce' needs a second column")
    elif export.cursor_fallback_column is not None:
        findings.add(
            (*path, "cursor_fallback_column"),
            "'cursor_fallback_column' has no effect without 'coalesce'",
            allowed="incremental_cursor_mode: coalesce",
        )
    if export.cursor_fallback_column is not None and export.cursor_fallback_column == export.cursor_column:
        findings.add(
            (*path, "cursor_fallback_column"), "the column stands in for itself", found=export.cursor_fallback_column
        )
    if export.settle is not None:
        try:
            parse_duration_s(export.settle.after)
        except ValueError:
            findings.add(
                (*path, "settle", "after"),
                "not a duration",
                found=export.settle.after,
                allowed="30s, 15m, 1h, 1d, at most 36525d",
            )


def _require(export: ExportConfig, key: str, path: KeyPath, findings: Findings, *, why: str = "") -> None:
    if not getattr(export, key):
        findings.add((*path, key), f"the key is missing{why or f': mode is {export.mode.value}'}")


def _is_given(export: ExportConfig, key: str) -> bool:
    return getattr(export, key) not in (None, False)
