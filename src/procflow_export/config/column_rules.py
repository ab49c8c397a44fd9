"""The rules of ``columns``: what an export may say about a column before its source was asked.

Owns the spelling of keys and types.  Which columns there are, and which of them can be given which type, is the source's word
(``sources.columns.choices``).
"""

from __future__ import annotations

from procflow_export.config.document import KeyPath
from procflow_export.config.shape import Findings
from procflow_export.config.structs import ColumnConfig, ExportConfig
from procflow_export.model.choices import OnInvalid, TypeName, TypeTextError, parse_type


def check_columns(export: ExportConfig, path: KeyPath, findings: Findings) -> None:
    """Check every key, type and policy."""
    first: dict[str, str] = {}
    for key, wanted in (export.columns or {}).items():
        where = (*path, key)
        _check_key(key, export, where, findings)
        name = export.column_name(key)
        if name in first:
            findings.add(where, f"{first[name]!r} is the same column", found=key)
        first.setdefault(name, key)
        if isinstance(wanted, str):
            _check_type(wanted, where, findings)
        else:
            _check_column(wanted, where, findings)


def _check_key(key: str, export: ExportConfig, path: KeyPath, findings: Findings) -> None:
    if not key:
        findings.add(path, "the name of a column is empty")
    table, point, column = key.rpartition(".")
    if export.table is not None and point and table and column and export.column_name(key) == key:
        table = export.table.rpartition(".")[2]
        findings.add(
            path,
            "the key names a column of another table",
            found=key,
            allowed=f"{table}.{column}, or {table}.{key} if {key!r} is the column's own name",
        )


def _check_column(wanted: ColumnConfig, path: KeyPath, findings: Findings) -> None:
    if wanted.type is None and wanted.on_invalid is OnInvalid.ERROR:
        findings.add(path, "nothing is said about the column", allowed="type, on_invalid or both")
    if wanted.type is None:
        return
    _check_type(wanted.type, (*path, "type"), findings)
    if wanted.on_invalid is OnInvalid.TEXT and not _is_text(wanted.type):
        findings.add(
            (*path, "on_invalid"),
            "'text' makes the whole column text, so that 'type' would have no effect",
            found="text",
        )


def _is_text(text: str) -> bool:
    try:
        return parse_type(text).name is TypeName.TEXT
    except TypeTextError:
        return True  # a finding of its own


def _check_type(text: str, path: KeyPath, findings: Findings) -> None:
    try:
        parse_type(text)
    except TypeTextError as exc:
        findings.add(path, str(exc), found=text, allowed=exc.allowed, nearest=exc.nearest)
