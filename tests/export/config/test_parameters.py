"""Parameters of a query in a configuration: what they may be, what fits together, and what is a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from procflow_export.config.document import parse_document
from procflow_export.config.loading import load_config, read_config
from procflow_export.config.structs import LoadedConfig
from procflow_export.model.errors import ConfigError, Finding

SOURCES = {
    "postgres": {"type": "postgres", "url": "postgresql://u:p@localhost/d"},
    "mysql": {"type": "mysql", "url": "mysql://u:p@localhost/d"},
    "sqlite": {"type": "sqlite", "path": "x.db"},
}


def config(query: str | None, parameters: object, *, kind: str = "postgres", **export: Any) -> dict[str, Any]:
    named = {"name": "a", "mode": "full", "format": "csv", "parameters": parameters}
    if query is not None:
        named["query"] = query
    return {
        "source": SOURCES[kind],
        "destination": {"type": "local", "path": "out"},
        "exports": [named | export],
    }


def loaded(
    query: str, parameters: object, *, params: dict[str, str] | None = None, kind: str = "postgres", **environ: str
) -> LoadedConfig:
    return read_config(config(query, parameters, kind=kind), params=params, environ=environ)


def findings(query: str | None, parameters: object, *, kind: str = "postgres", **export: Any) -> list[Finding]:
    with pytest.raises(ConfigError) as caught:
        read_config(config(query, parameters, kind=kind, **export))
    return list(caught.value.findings)


def test_values_keep_their_types() -> None:
    """E-12: text, integer, float, boolean, null and lists are what the file says."""
    values = {"a": "x", "b": 5, "c": 0.5, "d": True, "e": None, "f": ["x", 2], "g": "5"}
    query = "select " + ", ".join(f":{name}" for name in values)

    found = loaded(query, values).config.exports[0].parameters

    assert found == values | {"f": ("x", 2)}
    assert {name: type(value) for name, value in found.items() if name != "f"} == {
        name: type(value) for name, value in values.items() if name != "f"
    }


def test_a_value_from_outside_is_a_text() -> None:
    """E-12: `${VAR}` gives the text that is there, whatever it looks like, and never a part of the statement."""
    values = {"a": "${A}", "b": "<${B}>", "c": ["${A}", 1]}

    found = loaded("select :a, :b, :c", values, params={"A": "5"}, B="'; drop table t --").config.exports[0]

    assert found.parameters == {"a": "5", "b": "<'; drop table t -->", "c": ("5", 1)}
    assert found.query == "select :a, :b, :c"


@pytest.mark.parametrize("suffix", [".yaml", ".toml", ".json"])
def test_a_date_is_the_text_that_was_written(suffix: str) -> None:
    """E-12: dates need no quotes."""
    text = {
        ".yaml": "since: 2026-01-01\nat: 2026-01-01 10:20:30.5\nall: [2026-01-01]\n",
        ".toml": "since = 2026-01-01\nat = 2026-01-01 10:20:30.5\nall = [2026-01-01]\n",
        ".json": '{"since": "2026-01-01", "at": "2026-01-01 10:20:30.5", "all": ["2026-01-01"]}',
    }[suffix]

    root = parse_document(text, file="", suffix=suffix).root

    assert isinstance(root, dict)
    assert (root["since"], root["all"]) == ("2026-01-01", ["2026-01-01"])
    assert str(root["at"]).rstrip("0") == "2026-01-01 10:20:30.5"


@pytest.mark.parametrize(
    ("query", "parameters", "key", "words"),
    [
        ("select :a, :b", {"a": 1}, "exports[0].parameters", ":b of the query has no value"),
        ("select :a", {}, "exports[0].parameters", ":a of the query has no value"),
        ("select 1", {"a": 1}, "exports[0].parameters.a", "no placeholder :a"),
        ("select ':a'", {"a": 1}, "exports[0].parameters.a", "no placeholder :a"),
        ("select :a", {"a": {"b": 1}}, "exports[0].parameters.a", "wrong"),
        ("select :a", {"a": [[1]]}, "exports[0].parameters.a", "wrong"),
        ("select :a", {"a": []}, "exports[0].parameters.a", "empty"),
        ("select :a", {"a": [1, None]}, "exports[0].parameters.a", "null"),
        ("select :a", {"a": "x\0"}, "exports[0].parameters.a", "NUL"),
        ("select :a", {"a": ["x\0"]}, "exports[0].parameters.a", "NUL"),
        ("select :a", {"a": "\ud800"}, "exports[0].parameters.a", "UTF-8"),
        ("select :a", {"a": float("nan")}, "exports[0].parameters.a", "finite"),
        ("select :a", {"a": float("inf")}, "exports[0].parameters.a", "finite"),
        ("select 1", {"a b": 1}, "exports[0].parameters.a b", "letters, digits and _"),
        ("select 1", {"1": 1}, "exports[0].parameters.1", "letters, digits and _"),
        ("select 1", [1], "exports[0].parameters", "mapping"),
        (None, {"a": 1}, "exports[0].parameters", "no effect on a table"),
    ],
)
def test_rules_of_parameters(query: str | None, parameters: object, key: str, words: str) -> None:
    """E-62, E-12: every rule finds its mistake, at its key."""
    table = {"table": "t"} if query is None else {}

    found = findings(query, parameters, **table)

    assert [(finding.key, True) for finding in found if words in str(finding)] == [(key, True)], found


def test_near_names_are_suggested() -> None:
    """E-62: a misspelt parameter and its placeholder name each other."""
    placeholder, value = findings("select :since", {"sinse": 1})

    assert (placeholder.nearest, value.nearest) == ("sinse", "since")


def test_integers_fit_the_database() -> None:
    """E-12: what SQLite cannot bind is found before it is asked."""
    (found,) = findings("select :a", {"a": 2**63}, kind="sqlite")

    assert "SQLite" in found.message
    assert loaded("select :a", {"a": 2**63}, kind="mysql").config.exports[0].parameters == {"a": 2**63}


@pytest.mark.parametrize("kind", SOURCES)
def test_what_is_no_placeholder_needs_no_value(kind: str) -> None:
    """E-12: a query without parameters is what it was before there were any."""
    assert not loaded("select 'a:b', x::int, '12:30' from t -- :c", {}, kind=kind).warnings


def test_a_query_file_has_placeholders_too(tmp_path: Path) -> None:
    """E-12: parameters are for both."""
    (tmp_path / "q.sql").write_text("select :a -- :b\n;\n")
    values = config(None, {"a": 1}, query_file="q.sql")

    found = read_config(values, base_dir=tmp_path).config.exports[0]

    assert (found.query, found.parameters) == ("select :a -- :b", {"a": 1})
    with pytest.raises(ConfigError, match="1 error"):
        read_config(config(None, {"a": 1, "b": 1}, query_file="q.sql"), base_dir=tmp_path)


def test_a_query_file_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """E-12: nothing but a file is read."""
    import os

    os.mkfifo(tmp_path / "q.sql")
    (tmp_path / "d").mkdir()

    for name in ("q.sql", "d"):
        with pytest.raises(ConfigError) as caught:
            read_config(config(None, {}, query_file=name), base_dir=tmp_path)
        assert "no file" in caught.value.findings[0].message


CANARY = "c4n4ry'/?#@:%"


def test_secrets_are_known_by_their_names(tmp_path: Path) -> None:
    """E-2: what a variable or a parameter with the name of a secret holds is kept, to be masked; other values are not."""
    file = tmp_path / "c.yaml"
    file.write_text(
        """
        source: {type: sqlite, path: x.db}
        destination: {type: local, path: out}
        exports:
          - name: a
            query: "select * from t where k = '${API_TOKEN}' and d = '${DAY}' and x = :customer_secret and y = :n"
            parameters: {customer_secret: ["${PLAIN}", 12345678], n: 5}
            mode: full
            format: csv
        """
    )
    params = {"API_TOKEN": "token-value", "DAY": "2026-01-01", "PLAIN": CANARY}

    found = load_config(file, params=params, environ={})

    assert {secret.reveal() for secret in found.secrets} == {"token-value", CANARY, "12345678"}
    assert {secret.name for secret in found.secrets} == {"API_TOKEN", "customer_secret"}
    assert "token-value" not in repr(found)
    assert "c4n4ry" not in repr(found)


@pytest.mark.parametrize("value", [f"{CANARY}\0", [CANARY, {"x": CANARY}], {"x": CANARY}])
def test_findings_show_no_secret(value: object) -> None:
    """E-2: a wrong value under the name of a secret is not repeated."""
    for found in findings("select :token", {"token": value}):
        assert "c4n4ry" not in str(found)
