"""Reading configurations: every finding at once, each with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from procflow_export.config.loading import load_config, read_config
from procflow_export.config.structs import LoadedConfig, Mode
from procflow_export.model.codes import Code
from procflow_export.model.errors import ConfigError, Finding, Severity
from procflow_export.model.settings import Format, SourceType

GOOD = """\
source: {type: sqlite, path: shop.db}
destination: {type: local, path: out}
exports:
  - {name: orders, table: orders, mode: chunked, chunk_size: 10, format: parquet}
  - {name: items, query: "select 1;", mode: full, format: csv}
"""


def load(tmp_path: Path, text: str, *, name: str = "c.yaml", **params: str) -> LoadedConfig:
    file = tmp_path / name
    file.write_text(text)
    return load_config(file, params=params, environ={"HOME_DB": "home.db", "PORT": "5433", "SECRET": "hunter2hunter2"})


def findings_of(tmp_path: Path, text: str, *, name: str = "c.yaml", **params: str) -> list[Finding]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, name=name, **params)
    return list(caught.value.findings)


def test_a_good_file_becomes_structs_with_paths_that_hold_everywhere(tmp_path: Path) -> None:
    """E-12: relative paths start at the file, queries are read, and a trailing semicolon is dropped."""
    loaded = load(tmp_path, GOOD)

    orders, items = loaded.config.exports
    assert loaded.config.source is not None
    assert loaded.config.source.type is SourceType.SQLITE
    assert loaded.config.source.path == str(tmp_path / "shop.db")
    assert loaded.config.destination_of(orders).path == str(tmp_path / "out")
    assert (orders.mode, orders.format, orders.chunk_size) == (Mode.CHUNKED, Format.PARQUET, 10)
    assert items.query == "select 1"
    assert loaded.warnings == ()


BROKEN = """\
source: &s
  type: postgres
  url: postgres://u:topsecret@h/db
  host: x
  tuning: {profle: fast, batch_size: 0}
exports:
  - name: a
    table: orders
    mode: chunked
    chunk_sise: 10
    format: parqet
    batch_size: 4
    meta_columns: {row_hash: true}
  - name: a/b
    query: select ${NOT_SET}
    mode: cdc
    format: csv
    compression: lz4
    destination: {type: s3, bucket: b, oneshot_budget_mb: 8}
  - name: ok
    query: select 1
    table: x y
    mode: full
    chunk_size: 4
    format: csv
    destination: {type: local, path: "../o/{exprt}"}
"""


def test_all_findings_come_at_once_each_with_its_place(tmp_path: Path) -> None:
    """E-62: one run shows every mistake, with file, line and key path."""
    findings = findings_of(tmp_path, BROKEN)

    places = {(finding.key, finding.line) for finding in findings}
    assert {
        ("source.host", 4),
        ("source.tuning.profle", 5),
        ("source.tuning.batch_size", 5),
        ("exports[0].chunk_sise", 10),
        ("exports[0].format", 11),
        ("exports[0].batch_size", 12),
        ("exports[0].meta_columns", 13),
        ("exports[1].name", 14),
        ("exports[1].query", 15),
        ("exports[1].mode", 16),
        ("exports[1].compression", 18),
        ("exports[1].destination.oneshot_budget_mb", 19),
        ("exports[2].query", 21),
        ("exports[2].table", 22),
        ("exports[2].chunk_size", 24),
        ("exports[2].destination.path", 26),
    } <= places
    assert all(finding.file.endswith("c.yaml") for finding in findings)
    assert [finding.line or 0 for finding in findings] == sorted(finding.line or 0 for finding in findings)


def test_a_finding_says_what_was_found_what_is_allowed_and_the_nearest_name(tmp_path: Path) -> None:
    """E-62: found, allowed, nearest."""
    findings = {finding.key: finding for finding in findings_of(tmp_path, BROKEN)}

    assert findings["exports[0].format"].found == "'parqet'"
    assert findings["exports[0].format"].allowed == "parquet, csv"
    assert findings["exports[0].format"].nearest == "parquet"
    assert findings["exports[0].chunk_sise"].nearest == "chunk_size"
    assert findings["source.tuning.batch_size"].allowed == "a whole number from 1"
    assert "belongs into `tuning:`" in findings["exports[0].batch_size"].message


def test_keys_and_values_of_a_later_release_are_called_that(tmp_path: Path) -> None:
    """E-62: what the dialect knows but this release does not do is not "unknown"."""
    findings = {finding.key: finding for finding in findings_of(tmp_path, BROKEN)}

    for key in ("exports[0].meta_columns", "exports[1].mode", "exports[1].destination.oneshot_budget_mb"):
        assert findings[key].code is Code.CONFIG_NOT_SUPPORTED
        assert "not supported yet" in findings[key].message


def test_a_later_key_that_switches_its_feature_off_is_accepted(tmp_path: Path) -> None:
    """E-62: an existing file that spells out a default runs unchanged."""
    text = GOOD.replace("mode: full", "mode: full, skip_empty: false, verify: size, columns:")

    assert load(tmp_path, text).warnings == ()


def test_no_finding_shows_a_secret(tmp_path: Path) -> None:
    """E-2: neither a literal secret nor one behind a reference is in any text of an error."""
    text = """\
source:
  type: postgres
  url: 12345678
  password: [topsecret]
  url_file: ${SECRET}
  passwrod: topsecret
  port: ${SECRET}
exports: [{name: "${SECRET}/", table: "${SECRET} x", mode: full, format: csv}]
"""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)

    shown = str(caught.value) + repr(caught.value.findings) + "\n".join(caught.value.__notes__)
    assert "topsecret" not in shown
    assert "12345678" not in shown
    assert "hunter2" not in shown
    assert "${SECRET}" in shown


@pytest.mark.parametrize("suffix", [".json", ".toml", ".yaml"])
def test_json_toml_and_yaml_mean_the_same(tmp_path: Path, suffix: str) -> None:
    """E-62: the suffix chooses the syntax; findings have lines in each."""
    good = {
        "source": {"type": "sqlite", "path": "shop.db"},
        "destination": {"type": "local", "path": "out"},
        "exports": [{"name": "orders", "table": "orders", "mode": "full", "format": "parqet"}],
    }
    text = {
        ".json": json.dumps(good, indent=1),
        ".yaml": json.dumps(good, indent=1),
        ".toml": (
            '[source]\ntype = "sqlite"\npath = "shop.db"\n[destination]\ntype = "local"\npath = "out"\n'
            '[[exports]]\nname = "orders"\ntable = "orders"\nmode = "full"\nformat = "parqet"\n'
        ),
    }[suffix]

    (finding,) = findings_of(tmp_path, text, name=f"c{suffix}")
    fixed = load(tmp_path, text.replace("parqet", "parquet"), name=f"c{suffix}")

    expected_line = next(n for n, line in enumerate(text.splitlines(), 1) if "parqet" in line)
    assert (finding.key, finding.line) == ("exports[0].format", expected_line)
    assert fixed.config.exports[0].format is Format.PARQUET


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.yaml", "a: [1\nb: 2\n", "not YAML"),
        ("c.yaml", "", "the file is empty"),
        ("c.yaml", "- 1\n", "must be a mapping"),
        ("c.yaml", "a: &x [*x]\n", "not YAML"),
        ("c.yaml", "a: !!python/object:os.system x\n", "not YAML"),
        ("c.yaml", "source: 1\nsource: 2\nexports: []\n", "more than once"),
        ("c.json", '{"a": 1,}', "not JSON"),
        ("c.json", '{"exports": [], "exports": []}', "more than once"),
        ("c.toml", "a = \n", "not TOML"),
    ],
)
def test_broken_syntax_is_a_finding(tmp_path: Path, name: str, text: str, message: str) -> None:
    """E-62: a file that does not parse is reported like any other mistake."""
    assert any(message in finding.message for finding in findings_of(tmp_path, text, name=name))


def test_aliases_cannot_make_a_small_file_endless(tmp_path: Path) -> None:
    """E-62: a file of aliases on aliases is refused after a bounded amount of work."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]

    (finding,) = findings_of(tmp_path, "\n".join(lines))

    assert "too large" in finding.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.yaml", "a: " + "[" * 5_000 + "]" * 5_000),
        ("c.yaml", "a: " + "{a: " * 5_000 + "1" + "}" * 5_000),
        ("c.json", '{"a": ' + "[" * 300 + "]" * 300 + "}"),
        ("c.json", "[" * 50_000 + "]" * 50_000),
        ("c.toml", "a = " + "[" * 200 + "]" * 200),
        ("c.toml", "a = " + "[" * 5_000 + "]" * 5_000),
    ],
)
def test_deep_nesting_is_one_finding(tmp_path: Path, name: str, text: str) -> None:
    """E-62: no file makes the reader give up with anything but a finding."""
    (finding,) = findings_of(tmp_path, text, name=name)

    assert "deeply nested" in finding.message
    assert finding.code is Code.CONFIG_UNREADABLE


def test_values_that_hold_themselves_are_a_finding() -> None:
    """E-62: nor do the values of a program."""
    endless: dict[str, object] = {}
    endless["exports"] = [endless]

    with pytest.raises(ConfigError) as caught:
        read_config(endless, base_dir="/data")

    assert "deeply nested" in caught.value.findings[0].message


def test_a_working_directory_that_is_gone_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-62: a relative path has no meaning then, and that is what is said."""
    gone = tmp_path / "gone"
    gone.mkdir()
    (tmp_path / "c.yaml").write_text(GOOD)
    monkeypatch.chdir(gone)
    gone.rmdir()

    for path in ("c.yaml", "../c.yaml"):
        with pytest.raises(ConfigError) as from_file:
            load_config(path, params={}, environ={})
        assert len(from_file.value.findings) == 1
        assert from_file.value.code is Code.CONFIG_UNREADABLE
    with pytest.raises(ConfigError) as from_values:
        read_config({"exports": []})

    assert from_values.value.code is Code.CONFIG_UNREADABLE
    assert load_config(tmp_path / "c.yaml", params={}, environ={}).base_dir == tmp_path


def test_one_wrong_value_hides_no_name_that_is_there_twice(tmp_path: Path) -> None:
    """E-62: rules between exports are applied to what could be read of a broken file."""
    text = """\
source: {type: sqlite, path: shop.db}
destination: {type: local, path: out}
exports:
  - {name: a, table: a, mode: fulll, format: csv}
  - {name: b, table: b, mode: full, format: csv}
  - {name: A, table: c, mode: full, format: csv}
  - {name: b, table: d, mode: full, format: csv}
  - {table: e, mode: full, format: csv}
  - {table: f, mode: full, format: csv}
  - {name: i, table: d, mode: full, format: csv, destination: {type: local, path: "x/{export}"}}
  - {name: x/i, table: d, mode: full, format: csv, destination: {type: lokal, path: "{export}"}}
"""
    places = [(finding.key, finding.line) for finding in findings_of(tmp_path, text)]

    assert places == [
        ("exports[0].mode", 4),
        ("exports[2].name", 6),
        ("exports[3].name", 7),
        ("exports[4].name", 8),
        ("exports[5].name", 9),
        ("exports[7].destination.type", 11),
        ("exports[7].name", 11),
    ]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgres://u:topsecret@h:99999/d", "port"),
        ("postgresql://u:topsecret@h/d?sslmode=bogus", "sslmode"),
        ("postgres://u:topsecret@h/d?port=x", "port"),
    ],
)
@pytest.mark.parametrize("key", ["url", "url_env", "url_file"])
def test_a_url_that_cannot_be_read_has_a_place(tmp_path: Path, url: str, message: str, key: str) -> None:
    """E-62, E-2: what is wrong with a URL is found before a connection is tried, at its key, and not shown."""
    (tmp_path / "url.txt").write_text(f"{url}\n")
    file = tmp_path / "c.yaml"
    value = {"url": url, "url_env": "DB", "url_file": "url.txt"}[key]
    file.write_text(GOOD.replace("{type: sqlite, path: shop.db}", f"{{type: postgres, {key}: '{value}'}}"))

    with pytest.raises(ConfigError) as caught:
        load_config(file, params={}, environ={"DB": url})

    (finding,) = caught.value.findings
    assert (finding.key, finding.line) == (f"source.{key}", 1)
    assert message in finding.message
    assert "topsecret" not in str(finding)


def test_a_key_given_twice_is_reported_where_it_is_given_again(tmp_path: Path) -> None:
    """E-62: the first one is not the mistake."""
    text = GOOD + "source: {type: sqlite, path: other.db}\n"

    (finding,) = findings_of(tmp_path, text)

    assert (finding.key, finding.line) == ("source", 6)


def test_merge_keys_and_anchors_work(tmp_path: Path) -> None:
    """E-62: YAML that people write to repeat less is understood; own keys win over merged ones."""
    text = """\
source: {type: sqlite, path: s.db}
destination: {type: local, path: out}
exports:
  - &base {name: a, table: a, mode: full, format: csv}
  - {<<: *base, name: b, table: b}
"""
    assert [(export.name, export.table) for export in load(tmp_path, text).config.exports] == [("a", "a"), ("b", "b")]


def test_a_missing_file_is_a_finding(tmp_path: Path) -> None:
    """E-62: unreadable and invalid are told apart by their code."""
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "none.yaml", params={}, environ={})

    assert caught.value.code is Code.CONFIG_UNREADABLE


def test_plain_values_are_read_like_a_file() -> None:
    """E-65: a program can hand over the values it has."""
    loaded = read_config(
        {
            "source": {"type": "sqlite", "path": "s.db"},
            "exports": [
                {
                    "name": "a",
                    "table": "main.a",
                    "mode": "full",
                    "format": "csv",
                    "destination": {"type": "local", "path": "o"},
                }
            ],
        },
        base_dir="/data",
    )

    assert loaded.config.exports[0].destination is not None
    assert loaded.config.exports[0].destination.path == "/data/o"


def test_an_unused_parameter_is_a_warning_not_an_error(tmp_path: Path) -> None:
    """E-12: a misspelt parameter is told."""
    loaded = load(tmp_path, GOOD, shop="x")

    assert len(loaded.warnings) == 1
    assert "'shop' is not used" in loaded.warnings[0]


def test_interpolated_values_take_the_type_of_their_field(tmp_path: Path) -> None:
    """E-12: the environment only knows text, and `port: ${PORT}` is a number all the same."""
    text = GOOD.replace(
        "{type: sqlite, path: shop.db}", "{type: postgres, host: h, user: u, database: d, port: '${PORT}'}"
    )

    loaded = load(tmp_path, text)

    assert loaded.config.source is not None
    assert loaded.config.source.port == 5433


def test_warnings_do_not_stop_a_run(tmp_path: Path) -> None:
    """E-62: severity decides."""
    loaded = load(tmp_path, GOOD.replace("mode: full", "mode: full, parallel: 3"))

    assert "has no effect" in loaded.warnings[0]
    assert Severity.WARNING.value == "warning"
