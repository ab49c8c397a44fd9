"""The rules between keys, one by one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from procflow_export.config.loading import read_config
from procflow_export.model.errors import ConfigError, Finding
from procflow_export.planning.plan import choices_of

GOOD: dict[str, Any] = {
    "source": {"type": "postgres", "url": "postgresql://u:p@h/d"},
    "exports": [
        {
            "name": "a",
            "table": "t",
            "mode": "full",
            "format": "parquet",
            "destination": {"type": "local", "path": "out"},
        }
    ],
}
ENVIRON = {"URL": "postgresql://h/d", "PASSWORD": "x"}


def findings_of(values: object, tmp_path: Path, environ: dict[str, str] | None = None) -> list[Finding]:
    assert isinstance(values, dict)
    try:
        read_config(values, base_dir=tmp_path, environ=ENVIRON if environ is None else environ)
    except ConfigError as exc:
        return list(exc.findings)
    return []


def changed(*, source: dict[str, Any] | None = None, export: dict[str, Any] | None = None) -> dict[str, Any]:
    values = copy.deepcopy(GOOD)
    if source is not None:
        values["source"] = source
    if export is not None:
        values["exports"][0].update(export)
        values["exports"][0] = {key: value for key, value in values["exports"][0].items() if value is not ...}
    return values


def test_the_good_configuration_has_no_findings(tmp_path: Path) -> None:
    """E-62: what the other tests change was right before."""
    assert findings_of(GOOD, tmp_path) == []


PG = {"type": "postgres"}
SOURCES: dict[str, tuple[dict[str, Any], dict[str, str] | None, str]] = {
    "no source": ({}, None, "source"),
    "no connection": (PG, {}, "source.host"),
    "two urls": (PG | {"url": "postgresql://h/d", "url_env": "URL"}, None, "source.url_env"),
    "url and fields": (PG | {"url": "postgresql://h/d", "user": "u"}, None, "source.user"),
    "no user": (PG | {"host": "h", "database": "d"}, None, "source.user"),
    "no database": (PG | {"host": "h", "user": "u"}, None, "source.database"),
    "no host": (PG | {"user": "u", "database": "d"}, None, "source.host"),
    "two passwords": (
        PG | {"host": "h", "user": "u", "database": "d", "password": "x", "password_env": "PASSWORD"},
        None,
        "source.password_env",
    ),
    "unset url_env": (PG | {"url_env": "NOT_SET"}, None, "source.url_env"),
    "empty url_env": (PG | {"url_env": "EMPTY"}, {"EMPTY": ""}, "source.url_env"),
    "unset password_env": (
        PG | {"host": "h", "user": "u", "database": "d", "password_env": "NOT_SET"},
        None,
        "source.password_env",
    ),
    "missing url_file": (PG | {"url_file": "no.txt"}, None, "source.url_file"),
    "missing ca_file": (PG | {"url": "postgresql://h/d", "tls": {"ca_file": "no.pem"}}, None, "source.tls.ca_file"),
    "scheme of another type": (PG | {"url": "mysql://h/d"}, None, "source.url"),
    "scheme of another type by env": (PG | {"url_env": "URL"}, {"URL": "mysql://h/d"}, "source.url_env"),
    "no scheme": (PG | {"url": "h/d"}, None, "source.url"),
    "missing cert_file": (
        PG | {"url": "postgresql://h/d", "tls": {"cert_file": "no.pem"}},
        None,
        "source.tls.cert_file",
    ),
    "key without certificate": (
        PG | {"url": "postgresql://h/d", "tls": {"key_file": "no.pem"}},
        None,
        "source.tls.cert_file",
    ),
    "both batch sizes": (
        PG | {"url": "postgresql://h/d", "tuning": {"batch_size": 1, "batch_size_memory_mb": 1}},
        None,
        "source.tuning.batch_size_memory_mb",
    ),
    "tuning at the wrong level": (PG | {"url": "postgresql://h/d", "batch_size": 1}, None, "source.batch_size"),
    "verification off": (
        PG | {"url": "postgresql://h/d", "tls": {"accept_invalid_certs": True}},
        None,
        "source.tls.accept_invalid_certs",
    ),
    "path of a server": (PG | {"url": "postgresql://h/d", "path": "x"}, None, "source.path"),
    "sqlite without path": ({"type": "sqlite"}, None, "source.path"),
    "sqlite with host": ({"type": "sqlite", "path": "x", "host": "h"}, None, "source.host"),
    "sqlite with tls": ({"type": "sqlite", "path": "x", "tls": {}}, None, "source.tls"),
    "later type": ({"type": "mssql", "url": "x"}, None, "source.type"),
    "port out of range": (PG | {"url": "postgresql://h/d", "port": 70_000}, None, "source.port"),
    "unknown profile": (
        PG | {"url": "postgresql://h/d", "tuning": {"profile": "quick"}},
        None,
        "source.tuning.profile",
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_rules_of_sources(name: str, tmp_path: Path) -> None:
    """E-62: every rule about a source finds its mistake, at its key."""
    source, environ, key = SOURCES[name]
    values = changed(source=source) if source else {"exports": GOOD["exports"]}

    assert key in {finding.key for finding in findings_of(values, tmp_path, environ)}


@pytest.mark.parametrize(
    ("source", "environ"),
    [
        (PG, {"DATABASE_URL": "postgresql://h/d"}),
        (PG, {"PGHOST": "h", "PGUSER": "u", "PGDATABASE": "d"}),
        (PG | {"host": "h"}, {"PGUSER": "u", "PGDATABASE": "d"}),
        ({"type": "mysql"}, {"MYSQL_HOST": "h", "MYSQL_USER": "u", "MYSQL_DATABASE": "d"}),
        (PG | {"url_env": "URL"}, {"URL": "postgres://h/d"}),
        ({"type": "mysql", "url": "mariadb://h/d"}, {}),
        ({"type": "sqlite", "path": "x.db"}, {}),
    ],
)
def test_every_way_to_name_a_source_is_accepted(
    source: dict[str, Any], environ: dict[str, str], tmp_path: Path
) -> None:
    """E-2: url, url_env, fields, and the environment where nothing else is given."""
    assert findings_of(changed(source=source), tmp_path, environ) == []


@pytest.mark.parametrize("mode", ["disable", "require"])
def test_an_authority_that_is_not_asked_is_a_warning(mode: str, tmp_path: Path) -> None:
    """E-3: who names an authority may believe that it is checked."""
    (tmp_path / "ca.pem").write_text("")
    source = PG | {"url": "postgresql://h/d", "tls": {"mode": mode, "ca_file": "ca.pem"}}

    (warning,) = read_config(changed(source=source), base_dir=tmp_path, environ=ENVIRON).warnings

    assert "nothing is verified" in warning


EXPORTS: dict[str, tuple[dict[str, Any], str]] = {
    "no selection": ({"table": ...}, "exports[0]"),
    "unknown type": ({"columns": {"a": "decmal(1,2)"}}, "exports[0].columns.a"),
    "unknown type in a mapping": ({"columns": {"a": {"type": "in"}}}, "exports[0].columns.a.type"),
    "decimal without digits": ({"columns": {"a": "decimal"}}, "exports[0].columns.a"),
    "decimal with more decimals than digits": ({"columns": {"a": "decimal(2,5)"}}, "exports[0].columns.a"),
    "interval that Parquet lacks": ({"columns": {"a": "month_day_nano"}}, "exports[0].columns.a"),
    "unknown policy": ({"columns": {"a": {"on_invalid": "nul"}}}, "exports[0].columns.a.on_invalid"),
    "policy that YAML takes for nothing": ({"columns": {"a": {"on_invalid": None}}}, "exports[0].columns.a.on_invalid"),
    "column of which nothing is said": ({"columns": {"a": {}}}, "exports[0].columns.a"),
    "column that is a number": ({"columns": {"a": 5}}, "exports[0].columns.a"),
    "column that is nothing": ({"columns": {"a": None}}, "exports[0].columns.a"),
    "unknown key of a column": ({"columns": {"a": {"typ": "text"}}}, "exports[0].columns.a.typ"),
    "text policy beside a type": (
        {"columns": {"a": {"type": "date", "on_invalid": "text"}}},
        "exports[0].columns.a.on_invalid",
    ),
    "column of another table": ({"columns": {"other.a": "text"}}, "exports[0].columns.other.a"),
    "one column twice": ({"columns": {"a": "text", "t.a": "text"}}, "exports[0].columns.t.a"),
    "column without a name": ({"columns": {"": "text"}}, "exports[0].columns."),
    "two selections": ({"query": "select 1"}, "exports[0].query"),
    "empty query": ({"table": ..., "query": " ; "}, "exports[0].query"),
    "NUL in query": ({"table": ..., "query": "select '\0'"}, "exports[0].query"),
    "query_file absolute": ({"table": ..., "query_file": "/etc/passwd"}, "exports[0].query_file"),
    "query_file upwards": ({"table": ..., "query_file": "../q.sql"}, "exports[0].query_file"),
    "query_file missing": ({"table": ..., "query_file": "q.sql"}, "exports[0].query_file"),
    "query_file outside by link": ({"table": ..., "query_file": "link.sql"}, "exports[0].query_file"),
    "table with spaces": ({"table": "a b"}, "exports[0].table"),
    "table with three parts": ({"table": "a.b.c"}, "exports[0].table"),
    "table injection": ({"table": "a;drop table b"}, "exports[0].table"),
    "name with slash": ({"name": "a/b"}, "exports[0].name"),
    "name with backslash": ({"name": "a\\b"}, "exports[0].name"),
    "name with dots": ({"name": "a..b"}, "exports[0].name"),
    "name with NUL": ({"name": "a\0"}, "exports[0].name"),
    "hidden name": ({"name": ".a"}, "exports[0].name"),
    "empty name": ({"name": ""}, "exports[0].name"),
    "long name": ({"name": "x" * 200}, "exports[0].name"),
    "reserved name": ({"name": "a#1"}, "exports[0].name"),
    "chunk_size outside chunked": ({"chunk_size": 1}, "exports[0].chunk_size"),
    "chunk_count outside chunked": ({"chunk_count": 1}, "exports[0].chunk_count"),
    "chunk_column outside chunked": ({"chunk_column": "a"}, "exports[0].chunk_column"),
    "both chunk sizes": ({"mode": "chunked", "chunk_size": 1, "chunk_count": 1}, "exports[0].chunk_count"),
    "chunked query without key": (
        {"mode": "chunked", "table": ..., "query": "select 1"},
        "exports[0].chunk_column",
    ),
    "zero chunk_size": ({"mode": "chunked", "chunk_size": 0}, "exports[0].chunk_size"),
    "zero chunk_count": ({"mode": "chunked", "chunk_count": 0}, "exports[0].chunk_count"),
    "zero parallel": ({"parallel": 0}, "exports[0].parallel"),
    "boolean for a number": ({"parallel": True}, "exports[0].parallel"),
    "zstd level": ({"compression_level": 23}, "exports[0].compression_level"),
    "gzip level": ({"compression": "gzip", "compression_level": 10}, "exports[0].compression_level"),
    "level without levels": ({"compression": "snappy", "compression_level": 1}, "exports[0].compression_level"),
    "level and profile": ({"compression_profile": "fast", "compression_level": 1}, "exports[0].compression_level"),
    "codec and profile": ({"compression_profile": "fast", "compression": "zstd"}, "exports[0].compression_profile"),
    "unknown codec": ({"compression": "brotli"}, "exports[0].compression"),
    "csv and codec": ({"format": "csv", "compression": "snappy"}, "exports[0].compression"),
    "csv and profile": ({"format": "csv", "compression_profile": "fast"}, "exports[0].compression_profile"),
    "csv and parquet": ({"format": "csv", "parquet": {}}, "exports[0].parquet"),
    "parquet and csv": ({"csv": {}}, "exports[0].csv"),
    "long delimiter": ({"format": "csv", "csv": {"delimiter": "::"}}, "exports[0].csv.delimiter"),
    "quote as delimiter": ({"format": "csv", "csv": {"delimiter": '"'}}, "exports[0].csv.delimiter"),
    "null text with delimiter": ({"format": "csv", "csv": {"null_text": "a,b"}}, "exports[0].csv.null_text"),
    "fixed_rows without rows": (
        {"parquet": {"row_group_strategy": "fixed_rows"}},
        "exports[0].parquet.row_group_rows",
    ),
    "zero row_group_rows": (
        {"parquet": {"row_group_strategy": "fixed_rows", "row_group_rows": 0}},
        "exports[0].parquet.row_group_rows",
    ),
    "rows without fixed_rows": ({"parquet": {"row_group_rows": 1}}, "exports[0].parquet.row_group_rows"),
    "largest below target": ({"parquet": {"max_row_group_mb": 1}}, "exports[0].parquet.max_row_group_mb"),
    "size without number": ({"max_file_size": "big"}, "exports[0].max_file_size"),
    "zero size": ({"max_file_size": "0MB"}, "exports[0].max_file_size"),
    "no destination": ({"destination": ...}, "exports[0].destination"),
    "no path": ({"destination": {"type": "local"}}, "exports[0].destination.path"),
    "path upwards": ({"destination": {"type": "local", "path": "../x"}}, "exports[0].destination.path"),
    "unknown placeholder": ({"destination": {"type": "local", "path": "{dat}"}}, "exports[0].destination.path"),
    "later placeholder": ({"destination": {"type": "local", "path": "{partition}"}}, "exports[0].destination.path"),
    "source that has no name": ({"source": "other"}, "exports[0].source"),
    "missing mode": ({"mode": ...}, "exports[0].mode"),
    "missing format": ({"format": ...}, "exports[0].format"),
    "both batch sizes": (
        {"tuning": {"batch_size": 1, "batch_size_memory_mb": 1}},
        "exports[0].tuning.batch_size_memory_mb",
    ),
    "tuning at the wrong level": ({"max_retries": 1}, "exports[0].max_retries"),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_rules_of_exports(name: str, tmp_path: Path) -> None:
    """E-62: every rule about an export finds its mistake, at its key."""
    base = tmp_path / "conf"
    base.mkdir()
    (tmp_path / "outside.sql").write_text("select 1")
    (base / "link.sql").symlink_to(tmp_path / "outside.sql")
    export, key = EXPORTS[name]

    assert key in {finding.key for finding in findings_of(changed(export=export), base)}


def test_columns_are_named_with_and_without_their_table() -> None:
    """E-20: keys are those of the dialect, `amount` and `orders.amount`; a point in a query's column is part of its name."""
    columns = {"a": "int8", "t.b": {"type": "text"}, "s.t.c": "date", "t.x.y": {"on_invalid": "clamp"}}
    table = read_config(changed(export={"table": "s.t", "columns": columns}), environ=ENVIRON)
    query = read_config(
        changed(export={"table": ..., "query": "select 1", "columns": {"t.b": "int4"}}), environ=ENVIRON
    )

    (of_table,) = table.config.exports
    (of_query,) = query.config.exports
    assert {name: str(choice.type) for name, choice in choices_of(of_table).items()} == {
        "a": "int8",
        "b": "text",
        "c": "date",
        "x.y": "None",
    }
    assert list(choices_of(of_query)) == ["t.b"]


def test_a_wrong_column_hides_no_other(tmp_path: Path) -> None:
    """E-62: what is wrong in the shape of one column does not hide what is wrong in the type of another."""
    found = findings_of(changed(export={"columns": {"a": 5, "b": "decmal(1,1)", "c": {"type": "x"}}}), tmp_path)

    assert {finding.key for finding in found} == {f"exports[0].columns.{key}" for key in ("a", "b", "c.type")}
    assert {finding.nearest for finding in found} >= {"decimal"}


def test_names_must_differ_even_without_case(tmp_path: Path) -> None:
    """E-62: two exports of one name are one directory."""
    values = changed()
    values["exports"].append(values["exports"][0] | {"name": "A"})

    (finding,) = findings_of(values, tmp_path)

    assert finding.key == "exports[1].name"


def test_two_exports_never_share_a_directory(tmp_path: Path) -> None:
    """E-43: placeholders cannot make two exports publish in one place."""
    values = changed(export={"destination": {"type": "local", "path": "out/{export}x"}})
    values["exports"].append(GOOD["exports"][0] | {"name": "ax"})

    (finding,) = findings_of(values, tmp_path)

    assert finding.key == "exports[1].destination"


def test_an_empty_list_of_exports_is_an_error(tmp_path: Path) -> None:
    """E-62: a file that would do nothing is wrong."""
    assert [finding.key for finding in findings_of(GOOD | {"exports": []}, tmp_path)] == ["exports"]


def test_exports_name_one_of_several_sources(tmp_path: Path) -> None:
    """E-62: several databases in one file, each export with its own."""
    source = GOOD["source"]
    values = {"sources": {"shop": source, "crm": source}, "exports": [GOOD["exports"][0] | {"source": "shpo"}]}

    (wrong,) = findings_of(values, tmp_path)
    (missing,) = findings_of({**values, "exports": GOOD["exports"]}, tmp_path)
    right = findings_of({**values, "exports": [GOOD["exports"][0] | {"source": "crm"}]}, tmp_path)
    (both, *_) = findings_of({**values, "source": source}, tmp_path)

    assert (wrong.key, wrong.nearest) == ("exports[0].source", "shop")
    assert (missing.key, missing.allowed) == ("exports[0].source", "shop, crm")
    assert right == []
    assert both.key == "sources"


def test_a_query_file_inside_the_directory_is_read(tmp_path: Path) -> None:
    """E-12: `query_file` works below the configuration."""
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "q.sql").write_text("select 42 ;\n")

    loaded = read_config(changed(export={"table": ..., "query_file": "sql/q.sql"}), base_dir=tmp_path, environ=ENVIRON)

    assert loaded.config.exports[0].query == "select 42"
    assert loaded.config.exports[0].query_file is None
