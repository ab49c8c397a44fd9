"""The rules between keys: what a configuration may not say although each of its values is right.

Owns every rule that needs no database, those of sources in ``config.source_rules``, of destinations in
``config.destination_rules`` and of modes in ``config.mode_rules``, one function a subject, each adding all it finds.  Must not know how anything is
done.  Rules look at whatever structs could be built: a broken export does not hide the findings of the next one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from procflow_export.config.column_rules import check_columns
from procflow_export.config.destination_rules import check_destination, check_place, check_places
from procflow_export.config.document import KeyPath
from procflow_export.config.mode_rules import check_mode
from procflow_export.config.parameter_rules import check_parameters
from procflow_export.config.shape import Findings, nearest_name
from procflow_export.config.sizes import parse_size
from procflow_export.config.source_rules import Surroundings, check_source, check_tuning
from procflow_export.config.structs import Config, ExportConfig
from procflow_export.model.settings import (
    Compression,
    Format,
    RowGroupStrategy,
    SourceType,
)

MAX_NAME_BYTES: Final = 120
_IDENTIFIER: Final = r"[A-Za-z_][A-Za-z0-9_$]*"
_TABLE: Final = re.compile(rf"{_IDENTIFIER}(\.{_IDENTIFIER})?")
_UNSAFE_NAME: Final = re.compile(r"[/\\\x00-\x1f\x7f#{}:*?\"<>|]|\.\.|^\.|^-|^\s|\s$")
_LEVELS: Final = {Compression.ZSTD: (1, 22), Compression.GZIP: (0, 9)}
_CSV_CODECS: Final = (Compression.NONE, Compression.GZIP, Compression.ZSTD)


def check_root(config: Config, findings: Findings, around: Surroundings) -> None:
    """Check what holds for the configuration as a whole: its sources, and names across exports."""
    if config.source is None and not config.sources:
        findings.add(("source",), "no source is given", allowed="source, or sources with names")
    if config.source is not None and config.sources:
        findings.add(("sources",), "'source' and 'sources' exclude each other")
    if config.source is not None:
        check_source(config.source, ("source",), findings, around)
    for name, source in config.sources.items():
        check_source(source, ("sources", name), findings, around)
    if config.destination is not None:
        check_destination(config.destination, ("destination",), findings, around)
    if not config.exports:
        findings.add(("exports",), "there is nothing to export: the list is empty")
    check_across(dict(enumerate(config.exports)), config, findings)


def check_across(exports: Mapping[int, ExportConfig], config: Config, findings: Findings) -> None:
    """Check what holds between exports, which are given by their place in the list."""
    _check_names(exports, findings)
    check_places(exports, config, findings)


def _check_names(exports: Mapping[int, ExportConfig], findings: Findings) -> None:
    first: dict[str, int] = {}
    for index, export in exports.items():
        # Two names that differ in case alone are one directory on some file systems.
        name = export.name.casefold()
        if name in first:
            findings.add(("exports", index, "name"), f"exports[{first[name]}] has that name already", found=export.name)
        first.setdefault(name, index)


def check_export(export: ExportConfig, path: KeyPath, config: Config, findings: Findings, around: Surroundings) -> None:
    """Check one export."""
    is_safe = export.name.isprintable() and not _UNSAFE_NAME.search(export.name)
    if not export.name or not is_safe or len(export.name.encode()) > MAX_NAME_BYTES:
        findings.add(
            (*path, "name"),
            "the name cannot be part of a file name",
            found=export.name,
            allowed=f"up to {MAX_NAME_BYTES} bytes without slash, backslash, '..' or a leading dot",
        )
    query = _check_selection(export, path, findings, around)
    check_parameters(export, path, _engine_of(export, config), query, findings)
    _check_export_source(export, path, config, findings)
    check_mode(export, path, findings)
    check_columns(export, (*path, "columns"), findings)
    _check_format(export, path, findings)
    if export.destination is not None:
        check_destination(export.destination, (*path, "destination"), findings, around)
    elif config.destination is None:
        findings.add((*path, "destination"), "the key is missing, and the configuration has no 'destination' for all")
    check_place(export, path, config, findings)
    check_tuning(export.tuning, (*path, "tuning"), findings)


def _engine_of(export: ExportConfig, config: Config) -> SourceType | None:
    source = config.source if export.source is None else config.sources.get(export.source)
    if source is None and export.source is None and len(config.sources) == 1:
        source = next(iter(config.sources.values()))
    return None if source is None else source.type


def _check_selection(export: ExportConfig, path: KeyPath, findings: Findings, around: Surroundings) -> str | None:
    """Check what the export reads, and return the text of its query if it has one that can be read."""
    given = [key for key in ("table", "query", "query_file") if getattr(export, key) is not None]
    if not given:
        findings.add(path, "there is nothing to read", allowed="one of table, query, query_file")
    for key in given[1:]:
        findings.add((*path, key), f"{key!r} and {given[0]!r} exclude each other")
    if export.table is not None and not _TABLE.fullmatch(export.table):
        findings.add(
            (*path, "table"),
            "the table is not a plain name",
            found=export.table,
            allowed="name or schema.name of letters, digits and _; a `query` reads everything else",
        )
    text = export.query
    if export.query is not None:
        _check_query(export.query, (*path, "query"), findings)
    if export.query_file is not None:
        text = _check_query_file(export.query_file, (*path, "query_file"), findings, around)
    return text


def _check_query(text: str, path: KeyPath, findings: Findings) -> None:
    if not text.strip().strip(";"):
        findings.add(path, "the query is empty")
    if "\0" in text:
        findings.add(path, "the query holds a NUL character")


def _check_query_file(name: str, path: KeyPath, findings: Findings, around: Surroundings) -> str | None:
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        findings.add(path, "the file must lie below the configuration file, as a relative path", found=name)
        return None
    file = (around.base_dir / name).resolve()
    if not file.is_relative_to(around.base_dir.resolve()):
        findings.add(path, "the file lies outside the directory of the configuration", found=name)
        return None
    try:
        if not file.is_file():  # a pipe would be waited for
            findings.add(path, "this is no file" if file.exists() else "the file does not exist", found=name)
            return None
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        findings.add(path, f"the file cannot be read as UTF-8 text ({type(exc).__name__})", found=name)
        return None
    _check_query(text, path, findings)
    return text


def _check_export_source(export: ExportConfig, path: KeyPath, config: Config, findings: Findings) -> None:
    where = (*path, "source")
    if export.source is None:
        if config.source is None and len(config.sources) > 1:
            findings.add(where, "the key is missing: there are several sources", allowed=", ".join(config.sources))
    elif config.source is not None:
        findings.add(where, "there is only one source, and it has no name", found=export.source)
    elif export.source not in config.sources:
        findings.add(
            where,
            "there is no such source",
            found=export.source,
            allowed=", ".join(config.sources),
            nearest=nearest_name(export.source, config.sources),
        )


def _check_format(export: ExportConfig, path: KeyPath, findings: Findings) -> None:
    if export.compression is not None and export.compression_profile is not None:
        findings.add((*path, "compression_profile"), "'compression' and 'compression_profile' exclude each other")
    if export.max_file_size is not None:
        try:
            parse_size(export.max_file_size)
        except ValueError:
            findings.add(
                (*path, "max_file_size"), "not a size", found=export.max_file_size, allowed="a size such as 512MB"
            )
    _check_level(export, path, findings)
    if export.format is Format.CSV:
        _check_csv(export, path, findings)
    else:
        _check_parquet(export, path, findings)


def _check_level(export: ExportConfig, path: KeyPath, findings: Findings) -> None:
    level = export.compression_level
    if level is None:
        return
    codec = export.compression or (Compression.ZSTD if export.format is Format.PARQUET else Compression.NONE)
    if export.compression_profile is not None:
        findings.add((*path, "compression_level"), "the level is part of 'compression_profile'")
    elif codec not in _LEVELS:
        findings.add((*path, "compression_level"), f"{codec.value} has no levels", found=level, allowed="zstd, gzip")
    else:
        low, high = _LEVELS[codec]
        if not low <= level <= high:
            findings.add(
                (*path, "compression_level"), "the level is out of range", found=level, allowed=f"{low} to {high}"
            )


def _check_csv(export: ExportConfig, path: KeyPath, findings: Findings) -> None:
    if export.compression is not None and export.compression not in _CSV_CODECS:
        findings.add(
            (*path, "compression"),
            "CSV files do not come in that codec",
            found=export.compression.value,
            allowed=", ".join(codec.value for codec in _CSV_CODECS),
        )
    if export.compression_profile is not None and export.compression_profile.value == "fast":
        findings.add((*path, "compression_profile"), "'fast' is snappy, which CSV files do not come in")
    if export.parquet is not None:
        findings.add((*path, "parquet"), "'parquet' has no effect on CSV files")
    if export.csv is not None:
        delimiter = export.csv.delimiter
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter.isalnum() or delimiter in '"\r\n\0+-.:_':
            findings.add(
                (*path, "csv", "delimiter"),
                "the delimiter must be one ASCII character that is no letter, digit, quote, sign or line end",
                found=delimiter,
            )
        if any(character in export.csv.null_text for character in ('"', "\r", "\n", delimiter)):
            findings.add(
                (*path, "csv", "null_text"),
                "the text of NULL must hold no quote, delimiter or line end",
                found=export.csv.null_text,
            )


def _check_parquet(export: ExportConfig, path: KeyPath, findings: Findings) -> None:
    if export.csv is not None:
        findings.add((*path, "csv"), "'csv' has no effect on Parquet files")
    options = export.parquet
    if options is None:
        return
    where = (*path, "parquet", "row_group_rows")
    if options.row_group_strategy is RowGroupStrategy.FIXED_ROWS and options.row_group_rows is None:
        findings.add(where, "the key is missing: the strategy is fixed_rows")
    if options.row_group_strategy is not RowGroupStrategy.FIXED_ROWS and options.row_group_rows is not None:
        findings.add(where, f"'row_group_rows' has no effect with {options.row_group_strategy.value}")
    if options.max_row_group_mb is not None and options.max_row_group_mb < options.target_row_group_mb:
        findings.add(
            (*path, "parquet", "max_row_group_mb"),
            "the largest row group is smaller than the one aimed at",
            found=options.max_row_group_mb,
            allowed=f"at least {options.target_row_group_mb}",
        )
